//! `RebalancePartitions`: a plan from what all live brokers tell of their replicas, and its moves.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use tidelog_proto::v1::admin_service_client::AdminServiceClient;
use tidelog_proto::v1::{
    DescribeReplicasRequest, Error, HostedReplica, PlannedLoad, PlannedMove,
    RebalancePartitionsRequest, RebalancePartitionsResponse,
};
use tidelog_state::metadata::{Command, Grounds, Load, Machine, PartitionMove, rebalance};
use tidelog_types::{BrokerId, GroupId, PartitionId};
use tokio::time::timeout;
use tracing::{info, warn};

use super::admin::admin_deadline;
use super::{Api, topic_name};
use crate::access::{Operation, Resource};
use crate::cluster::Cluster;
use crate::drainer::takers;
use crate::environment::ListenerName;
use crate::limits;

/// How long another broker may take to tell what it hosts. Of one that does not no bytes are known.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

type Bytes = BTreeMap<GroupId, u64>;

impl Api {
    pub(super) async fn partitions_rebalanced(
        &self,
        request: RebalancePartitionsRequest,
    ) -> Result<RebalancePartitionsResponse, Error> {
        self.allow(Operation::Alter, Resource::Cluster)?;
        let deadline = admin_deadline(request.timeout_ms)?;
        let cluster = self.core.cluster()?;
        cluster.catch_up(deadline).await?;
        let bytes = bytes_of_partitions(&cluster).await;
        let machine = cluster.machine();
        let takers = takers(&cluster, &machine, &cluster.live_brokers());
        let moves_max = limits::ADMIN_PARTITIONS_MAX;
        let plan = rebalance(&machine, Grounds { takers: &takers, bytes: &bytes, moves_max });
        let planned = plan.moves.iter().map(|one| planned_move(&machine, &bytes, one));
        let response = RebalancePartitionsResponse {
            moves: planned.collect(),
            loads: plan.loads.iter().map(|(id, loads)| planned_load(*id, loads)).collect(),
        };
        if !request.validate_only && !plan.moves.is_empty() {
            let partitions = plan.moves.len();
            cluster.propose(&Command::MovePartitions { moves: plan.moves }, deadline).await?;
            info!(partitions, "partitions move so that brokers carry the same");
        }
        Ok(response)
    }
}

fn planned_move(machine: &Machine, bytes: &Bytes, one: &PartitionMove) -> PlannedMove {
    let ids = |replicas: &[BrokerId]| replicas.iter().map(|id| id.0).collect();
    let before = machine.partition(one.group).map(|partition| ids(&partition.replicas));
    PlannedMove {
        topic: topic_name(machine, one.group),
        partition: one.group.partition.0,
        before: before.unwrap_or_default(),
        replicas: ids(&one.replicas),
        log_bytes: bytes.get(&one.group).copied().unwrap_or_default(),
    }
}

fn planned_load(id: BrokerId, (before, after): &(Load, Load)) -> PlannedLoad {
    PlannedLoad {
        broker_id: id.0,
        replicas_before: before.replicas,
        replicas: after.replicas,
        log_bytes_before: before.bytes,
        log_bytes: after.bytes,
        leaders_before: before.leaders,
        leaders: after.leaders,
    }
}

/// The bytes of each partition's log: the most that any broker has of it.
async fn bytes_of_partitions(cluster: &Cluster) -> Bytes {
    let others = cluster.live_brokers().into_iter().filter(|id| *id != cluster.me.broker);
    let told = join_all(others.map(|other| hosted_there(cluster, other))).await;
    let mut bytes = Bytes::new();
    let mut take = |group: GroupId, size: u64| {
        let most = bytes.entry(group).or_default();
        *most = size.max(*most);
    };
    cluster.hosted.all().iter().for_each(|replica| take(replica.group, replica.log_bytes()));
    let machine = cluster.machine();
    for replica in told.into_iter().flatten() {
        if let Some(topic) = machine.topic_by_name(&replica.topic) {
            take(GroupId::new(topic.id, PartitionId(replica.partition)), replica.log_bytes);
        }
    }
    bytes
}

async fn hosted_there(cluster: &Cluster, other: BrokerId) -> Vec<HostedReplica> {
    let told = async {
        let address = cluster.address(other, ListenerName::Internal).ok_or("no known address")?;
        let channel = cluster.others.channel(&address).map_err(|err| err.to_string())?;
        let mut client =
            AdminServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
        let asked = client.describe_replicas(DescribeReplicasRequest {});
        let answer = timeout(ANSWER_TIMEOUT, asked).await.map_err(|_| "no answer in time")?;
        let answer = answer.map_err(|status| status.message().to_owned())?;
        Ok::<_, String>(answer.into_inner().replicas)
    };
    told.await.unwrap_or_else(|err| {
        warn!(broker = %other, err, "a broker does not tell what it hosts");
        Vec::new()
    })
}
