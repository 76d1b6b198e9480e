//! A cluster of its own, for measurements that kill brokers.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tidelog_client::admin::{HealthStatus, OffsetAt, RaftFacts};
use tidelog_client::{BrokerId, Client, TopicPartition};
use tokio::time::{Instant, sleep};

use super::topic::Topic;
use crate::Failure;
use crate::args::Globals;
use crate::interrupt::Interrupt;
use crate::local::{Broker, Error, LocalCluster, Place, Setup};

/// How long brokers may take to be ready.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long one request may take unless told otherwise: creating a thousand partitions takes a while.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at a condition that is waited for, unless looking takes longer: the error of what is
/// measured by looking.
const POLL: Duration = Duration::from_millis(10);
/// Partitions that one question is about, within what brokers take.
const PARTITIONS_A_CALL: usize = 500;

/// A partition and its Raft group.
type Leader = (TopicPartition, RaftFacts);

/// Does `work` in a directory of its own, until it is done or Ctrl-C. A temporary directory is kept only
/// when something fails; what `work` prints counts as its result.
pub(super) async fn in_place<T>(
    dir: Option<&Path>,
    prefix: &str,
    work: impl AsyncFnOnce(&Path) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let place = Place::new(dir, prefix).map_err(local)?;
    let mut interrupt = Interrupt::listen()?;
    let done = tokio::select! {
        biased;
        // Brokers and data go with what is dropped here.
        () = interrupt.asked() => return Err(Failure::new("interrupted, nothing was measured")),
        done = work(place.path()) => done,
    };
    done.map_err(|failure| {
        failure.next_step(format!("data and logs are kept in {}", place.keep().display()))
    })
}

/// Starts so many brokers below `dir` and waits until all are ready.
pub(super) async fn start(dir: &Path, nodes: u32) -> Result<LocalCluster, Failure> {
    let setup = Setup::new(dir, nodes).map_err(local)?;
    let mut cluster = LocalCluster::create(&setup).map_err(local)?;
    cluster.start_all().map_err(local)?;
    cluster.ready(READY_WITHIN).await.map_err(local)?;
    Ok(cluster)
}

/// A client of the cluster, with connections of its own.
pub(super) async fn connect(globals: &Globals, cluster: &LocalCluster) -> Result<Client, Failure> {
    let client = Client::builder(cluster.bootstrap()).client_id("tidelog-bench");
    let client = client.request_timeout(globals.timeout.unwrap_or(REQUEST_TIMEOUT));
    Ok(client.connect().await?)
}

/// Waits until a partition is led by a broker that is `wanted`. Gives that broker.
pub(super) async fn leader(
    client: &Client,
    topic: &Topic,
    partition: u32,
    within: Duration,
    wanted: impl Fn(u32) -> bool,
) -> Result<u32, Failure> {
    let mut found = 0;
    let what = format!("{}/{partition} has no leader to go on with", topic.name);
    until(&what, within, async || {
        let facts = client.admin().describe_topic(&topic.name).await?;
        let leader = facts.partitions.get(partition as usize).and_then(|p| p.leader.as_ref());
        found = leader.map_or(0, |leader| leader.broker.0);
        Ok(leader.is_some() && wanted(found))
    })
    .await?;
    Ok(found)
}

/// Waits until the cluster calls itself healthy and every replica of `topic` is at most `lag_max`
/// entries behind its leader.
pub(super) async fn in_sync(
    client: &Client,
    topic: &Topic,
    lag_max: u64,
    within: Duration,
) -> Result<(), Failure> {
    until("not all replicas are in sync", within, async || {
        if client.admin().health().await?.status != HealthStatus::Healthy {
            return Ok(false);
        }
        let rafts = leaders(client, topic).await?;
        Ok(rafts.iter().all(|(_, raft)| is_in_sync(raft, lag_max)))
    })
    .await
}

/// Waits until a broker that was away has everything again that its leaders had committed when they were
/// asked, in every replica, by its own word: what a leader thinks of it may be from before.
pub(super) async fn caught_up(
    client: &Client,
    topic: &Topic,
    broker: &Broker,
    within: Duration,
) -> Result<(), Failure> {
    let (id, address) = (BrokerId(broker.id()), broker.ports().client_address());
    let mut goals = Vec::new();
    until("not all leaders tell what they have", within, async || {
        goals = leaders(client, topic).await?;
        Ok(true)
    })
    .await?;
    goals.retain(|(_, raft)| raft.replicas.iter().any(|replica| replica.broker == id));
    until(&format!("broker {id} has not caught up"), within, async || {
        for part in goals.chunks(PARTITIONS_A_CALL) {
            let names = part.iter().map(|(name, _)| name.clone());
            let own = client.admin().describe_rafts_at(&address, names).await?;
            for ((_, leader), (_, own)) in part.iter().zip(own) {
                let own = own?;
                let behind = own.last_log < leader.committed;
                if behind || own.leader.is_none() || own.quarantined.is_some() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    })
    .await
}

/// Every partition's Raft group as its leader sees it.
///
/// Asks for the leaders each time: what a client remembers of them may be from before the last election,
/// and who led then answers too.
async fn leaders(client: &Client, topic: &Topic) -> Result<Vec<Leader>, Failure> {
    let facts = client.admin().describe_topic(&topic.name).await?;
    let mut by_address = BTreeMap::<_, Vec<_>>::new();
    for (name, facts) in topic.all().into_iter().zip(facts.partitions) {
        let address = facts.leader.and_then(|leader| leader.address);
        let address = address.ok_or_else(|| Failure::new(format!("{name} has no leader")))?;
        by_address.entry(address).or_default().push(name);
    }
    let mut all = Vec::new();
    for (address, names) in by_address {
        for part in names.chunks(PARTITIONS_A_CALL) {
            let rafts = client.admin().describe_rafts_at(&address, part.to_vec()).await?;
            for (name, raft) in rafts {
                let raft = raft?;
                if !raft.leads {
                    return Err(Failure::new(format!("{name} has just changed its leader")));
                }
                all.push((name, raft));
            }
        }
    }
    Ok(all)
}

fn is_in_sync(raft: &RaftFacts, lag_max: u64) -> bool {
    raft.replicas.iter().all(|replica| {
        let leads = Some(replica.broker) == raft.leader;
        let near = replica.matched.is_some() && replica.lag_entries.unwrap_or(0) <= lag_max;
        replica.alive && replica.voter && (leads || near)
    })
}

/// Waits until every partition of `topic` is led by a broker other than `dead`, and serves.
pub(super) async fn serving(
    globals: &Globals,
    cluster: &LocalCluster,
    topic: &Topic,
    dead: Option<u32>,
    within: Duration,
) -> Result<(), Failure> {
    let client = connect(globals, cluster).await?;
    let what = format!("not all partitions of {} have a leader", topic.name);
    until(&what, within, async || {
        let facts = client.admin().describe_topic(&topic.name).await?;
        let led = |leader: Option<BrokerId>| leader.is_some_and(|leader| Some(leader.0) != dead);
        let mut leaders = facts.partitions.iter().map(|p| p.leader.as_ref().map(|l| l.broker));
        Ok(facts.partitions.len() == topic.partitions as usize && leaders.all(led))
    })
    .await?;
    // A new client learns all leaders at once; each is asked for something that only one can answer
    // that a majority has confirmed.
    let client = connect(globals, cluster).await?;
    topic.offsets(&client, OffsetAt::Latest).await.map(drop)
}

/// Asks until the answer is yes. A broker that is just being killed may give an error: only time decides.
pub(super) async fn until(
    missed: &str,
    within: Duration,
    mut holds: impl AsyncFnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + within;
    loop {
        let asked = Instant::now();
        let answer = holds().await;
        if matches!(answer, Ok(true)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let missed = format!("{missed} within {} s", within.as_secs());
            return Err(match answer {
                Ok(_) => Failure::new(missed),
                Err(failure) => failure.at(|why| format!("{missed}: {why}")),
            });
        }
        // At most half of the time goes into looking: it must not hold up what it looks for.
        sleep(POLL.max(asked.elapsed())).await;
    }
}

/// What a broker process did.
pub(super) fn local(err: Error) -> Failure {
    Failure::because("the local cluster failed", &err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_never_holds_ends_with_the_last_reason() {
        let within = Duration::ZERO;
        let missed = until("it is not there", within, async || Ok(false)).await.unwrap_err();
        assert_eq!(missed.to_string(), "it is not there within 0 s");
        let missed = until("it is not there", within, async || Err(Failure::new("refused"))).await;
        assert_eq!(missed.unwrap_err().to_string(), "it is not there within 0 s: refused");
    }

    #[tokio::test]
    async fn errors_on_the_way_are_passed_over() {
        let mut asked = 0;
        let holds = async || {
            asked += 1;
            if asked < 3 { Err(Failure::new("refused")) } else { Ok(true) }
        };
        until("it is not there", Duration::from_secs(3), holds).await.unwrap();
        assert_eq!(asked, 3);
    }
}
