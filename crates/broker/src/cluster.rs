//! The cluster as this broker sees it: who is who, where partitions are led, and how the metadata is
//! changed from here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidelog_proto::v1::{Error, LeaderHint};
use tidelog_raft::{CommandError, Leadership, Metadata, Node, Progress, Role};
use tidelog_state::metadata::{Broker, Command, Machine, Outcome, Software, decode_reply};
use tidelog_types::{BrokerId, ErrorCode, GroupId, LogIndex, NodeId, PartitionId, TopicId};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::Config;
use crate::controller::{self, CommandRequest, CommandResponse};
use crate::environment::ListenerName;
use crate::hosted::{Hosted, Replica, ReplicaState};
use crate::identity::Identity;
use crate::missed::Missed;
use crate::others::Others;
use crate::producer_ids::ProducerIds;
use crate::view::View;

/// Pause before the leader of the metadata group is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How long one try may take: a leader that is frozen must not use up the whole time.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a lookup may take to make sure that a topic is unknown.
pub(crate) const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// The cluster, seen from here.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) me: NodeId,
    pub(crate) id: String,
    pub(crate) node: Node,
    pub(crate) metadata: Metadata,
    pub(crate) view: View,
    pub(crate) hosted: Hosted,
    pub(crate) others: Others,
    pub(crate) producer_ids: ProducerIds,
    /// Told when a replica may be opened that stepped out.
    pub(crate) reopen: Notify,
    /// Since when brokers have been missed; `None` unless this broker leads the metadata.
    pub(crate) missed: watch::Sender<Option<Missed>>,
    machine: watch::Receiver<Arc<Machine>>,
    /// When the last successful catch-up began.
    caught_up: Mutex<Option<Instant>>,
    /// What this broker registers as.
    software: Software,
    /// Where the initial brokers are, until they have registered.
    initial: BTreeMap<BrokerId, String>,
}

impl Cluster {
    pub(crate) fn new(
        config: &Config,
        software: Software,
        identity: &Identity,
        node: Node,
        metadata: Metadata,
        view: View,
        others: Others,
    ) -> Arc<Self> {
        let initial = config.initial_brokers.iter();
        Arc::new(Self {
            me: identity.node(),
            id: identity.cluster_id.clone(),
            node,
            machine: metadata.view(),
            metadata,
            view,
            hosted: Hosted::default(),
            reopen: Notify::new(),
            missed: watch::Sender::new(None),
            others,
            producer_ids: ProducerIds::default(),
            caught_up: Mutex::default(),
            software,
            initial: initial.map(|one| (one.id, one.address.to_string())).collect(),
        })
    }

    /// The metadata as it is applied here.
    pub(crate) fn machine(&self) -> Arc<Machine> {
        Arc::clone(&self.machine.borrow())
    }

    /// The metadata as it changes.
    pub(crate) fn machine_changes(&self) -> watch::Receiver<Arc<Machine>> {
        self.machine.clone()
    }

    /// Why this broker cannot do its work yet.
    pub(crate) fn not_ready(&self) -> Option<String> {
        if let Some(reason) = self.metadata.raft_status().stopped {
            return Some(format!("a restart: its replica of the metadata has stopped: {reason}"));
        }
        let machine = self.machine();
        if machine.cluster().is_none() {
            return Some("the cluster is forming".to_owned());
        }
        // What it ran before may support levels that this build does not: nothing may rest on that.
        let is_registered = |broker: &Broker| {
            !broker.addresses.is_empty() && broker.software.as_ref() == Some(&self.software)
        };
        if !machine.broker(self.me.broker).is_some_and(is_registered) {
            return Some("the broker is not registered yet".to_owned());
        }
        if self.controller().is_none() {
            return Some("the metadata group has no leader".to_owned());
        }
        None
    }

    /// The leader of the metadata group.
    pub(crate) fn controller(&self) -> Option<NodeId> {
        self.metadata.leadership().borrow().leader
    }

    /// The brokers that answer, this one included.
    pub(crate) fn live_brokers(&self) -> BTreeSet<BrokerId> {
        self.node.live().into_iter().map(|node| node.broker).collect()
    }

    /// Where a listener of a broker is reached.
    pub(crate) fn address(&self, broker: BrokerId, listener: ListenerName) -> Option<String> {
        let machine = self.machine.borrow();
        let found = machine.broker(broker).and_then(|broker| broker.address(listener.as_str()));
        let found = found
            .map(|at| crate::config::HostPort { host: at.host.clone(), port: at.port }.to_string());
        let initial = || self.initial.get(&broker).cloned();
        found.or_else(|| (listener == ListenerName::Internal).then(initial).flatten())
    }

    /// Where the internal listeners of all nodes are.
    pub(crate) fn internal_addresses(&self) -> BTreeMap<NodeId, String> {
        let machine = self.machine();
        let registered = machine.brokers().map(|broker| broker.node());
        let first = |id: &BrokerId| NodeId::new(id.0, 1);
        let unknown = self.initial.keys().filter(|id| machine.broker(**id).is_none()).map(first);
        let all = registered.chain(unknown);
        let address = |node: NodeId| {
            self.address(node.broker, ListenerName::Internal).map(|address| (node, address))
        };
        all.filter_map(address).collect()
    }

    // Partitions.

    /// The group of a partition, as far as is known here.
    pub(crate) fn find(
        &self,
        topic: &str,
        partition: u32,
        topic_id: &str,
    ) -> Result<GroupId, Error> {
        let machine = self.machine.borrow();
        let Some(found) = machine.topic_by_name(topic) else {
            return Err(unknown_topic(topic));
        };
        if found.id.is_internal() {
            let message = format!("topic {topic} is the cluster's own: it holds no records");
            return Err(Error::new(ErrorCode::InvalidTopic, message));
        }
        if !topic_id.is_empty() && topic_id.parse::<TopicId>() != Ok(found.id) {
            let message = format!("topic {topic} has id {}, not {topic_id:.64}", found.id);
            return Err(Error::new(ErrorCode::UnknownTopicId, message));
        }
        if partition as usize >= found.partitions.len() {
            let count = found.partitions.len();
            let message = format!("topic {topic} has {count} partitions, there is no {partition}");
            return Err(Error::new(ErrorCode::UnknownTopicOrPartition, message));
        }
        Ok(GroupId::new(found.id, PartitionId(partition)))
    }

    /// The group of a partition. What is not known here is asked of the leader of the metadata
    /// group first: a topic that another broker has just created is no unknown topic.
    pub(crate) async fn find_fresh(
        &self,
        topic: &str,
        partition: u32,
        topic_id: &str,
    ) -> Result<GroupId, Error> {
        match self.find(topic, partition, topic_id) {
            Err(_) => {
                self.catch_up(Instant::now() + CATCH_UP_TIMEOUT).await?;
                self.find(topic, partition, topic_id)
            }
            found => found,
        }
    }

    /// The leader of a partition and its term: what a replica here knows is newer than what was
    /// reported.
    pub(crate) fn leader_of(&self, group: GroupId) -> Option<(NodeId, tidelog_types::Term)> {
        let here = self.hosted.find(group).and_then(|replica| replica.leadership());
        let here = here.and_then(|known| known.leader.map(|leader| (leader, known.term)));
        let machine = self.machine.borrow();
        let reported = machine.partition(group).and_then(|partition| partition.leader);
        let reported = reported.map(|leader| (leader.node, leader.term));
        here.into_iter().chain(reported).max_by_key(|(_, term)| *term)
    }

    /// Where the leader of a partition is, on `listener`.
    pub(crate) fn hint(&self, group: GroupId, listener: ListenerName) -> Option<LeaderHint> {
        let (leader, term) = self.leader_of(group)?;
        let address = self.address(leader.broker, listener);
        Some(LeaderHint::new(leader.broker, address, term.to_leader_epoch()))
    }

    /// The answer of a broker that does not lead a partition.
    pub(crate) fn not_leader(&self, group: GroupId, listener: ListenerName) -> Error {
        // A leader that is not ready, or lost its quorum, knows no better one.
        let hint = self.hint(group, listener).filter(|hint| hint.broker() != self.me.broker);
        let me = self.me.broker;
        let message = match &hint {
            Some(hint) => {
                format!(
                    "broker {me} does not lead partition {group}, broker {} does",
                    hint.broker_id
                )
            }
            None => format!("partition {group} has no leader that broker {me} knows of"),
        };
        Error::new(ErrorCode::NotLeader, message).with_leader(hint)
    }

    /// The replica of a partition that this broker leads and may serve.
    pub(crate) fn serving(
        &self,
        group: GroupId,
        listener: ListenerName,
    ) -> Result<(Arc<Replica>, Leadership), Error> {
        let Some(replica) = self.hosted.find(group) else {
            return Err(self.not_leader(group, listener));
        };
        if let ReplicaState::Out(reason) = &replica.state {
            // Another replica may lead by now: then that is the better answer.
            let elsewhere = self.hint(group, listener);
            if elsewhere.is_some_and(|hint| hint.broker() != self.me.broker) {
                return Err(self.not_leader(group, listener));
            }
            return Err(Error::new(ErrorCode::ReplicaQuarantined, reason.clone()));
        }
        match replica.leadership() {
            Some(now) if now.role == Role::Leader && now.ready => Ok((replica, now)),
            _ => Err(self.not_serving(&replica, listener)),
        }
    }

    /// Why a replica here does not serve: another one does, or its disk failed.
    fn not_serving(&self, replica: &Replica, listener: ListenerName) -> Error {
        let not_leader = self.not_leader(replica.group, listener);
        let stopped = replica.raft_status().and_then(|status| status.stopped);
        match stopped {
            Some(reason) if not_leader.leader.is_none() => {
                Error::new(ErrorCode::StorageError, reason)
            }
            _ => not_leader,
        }
    }

    // Changes of the metadata.

    /// Has a command carried out, wherever the leader is, and waits until its effect shows here.
    pub(crate) async fn propose(
        &self,
        command: &Command,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let request = CommandRequest { command: command.encode().into(), forward: false };
        let response = self.ask_controller(&request, deadline).await?;
        let reply = decode_reply(&response.reply)
            .map_err(|err| Error::new(ErrorCode::UnknownServerError, err.to_string()))?;
        let outcome = reply.map_err(|refusal| Error::new(refusal.code, refusal.message))?;
        self.reach(LogIndex(response.applied), deadline).await?;
        Ok(outcome)
    }

    /// Waits until everything that was committed before the call shows here.
    ///
    /// One question serves all who called before it was asked: whoever looks for topics that do not
    /// exist must not flood the leader.
    pub(crate) async fn catch_up(&self, deadline: Instant) -> Result<(), Error> {
        let called = Instant::now();
        let late = |_| Error::new(ErrorCode::RequestTimedOut, "no news of the metadata in time");
        let mut caught_up = timeout_at(deadline, self.caught_up.lock()).await.map_err(late)?;
        if caught_up.is_some_and(|began| began >= called) {
            return Ok(());
        }
        let began = Instant::now();
        let request = CommandRequest { command: Bytes::new(), forward: false };
        let response = self.ask_controller(&request, deadline).await?;
        self.reach(LogIndex(response.applied), deadline).await?;
        *caught_up = Some(began);
        Ok(())
    }

    async fn reach(&self, index: LogIndex, deadline: Instant) -> Result<(), Error> {
        let shown = async {
            // Not the machine's own position: entries that change nothing show there with the next change
            // only, and not with the same one at each broker.
            let at = |progress: &Progress| progress.applied.is_some_and(|at| at.index >= index);
            // It ends with the broker; the timeout answers then.
            let _ = self.metadata.progress().wait_for(at).await;
            // What has changed up to there was published before.
            if let Some(changed) = self.machine().applied() {
                self.view.reach(changed.index).await;
            }
        };
        // It is carried out; a describe here may not show it for a moment.
        let late = |_| Error::new(ErrorCode::RequestTimedOut, "the change does not show here yet");
        timeout_at(deadline, shown).await.map_err(late)
    }

    pub(crate) async fn ask_controller(
        &self,
        request: &CommandRequest,
        deadline: Instant,
    ) -> Result<CommandResponse, Error> {
        loop {
            let until = deadline.min(Instant::now() + TRY_TIMEOUT);
            let problem = match timeout_at(until, self.ask_once(request)).await {
                Ok(Ok(response)) => return Ok(response),
                // Refusals of the machine come as replies; what fails here may be tried again, for
                // every command may be proposed twice.
                Ok(Err(problem)) => problem,
                Err(_) => "no answer in time".to_owned(),
            };
            if Instant::now() + AGAIN_AFTER >= deadline {
                let message = format!("leader of the metadata group: {problem}");
                return Err(Error::new(ErrorCode::RequestTimedOut, message));
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    async fn ask_once(&self, request: &CommandRequest) -> Result<CommandResponse, String> {
        let leader = self.controller().ok_or("none is elected")?;
        if leader == self.me {
            return controller::execute(&self.metadata, request)
                .await
                .map_err(|err: CommandError| err.to_string());
        }
        let address = self.address(leader.broker, ListenerName::Internal);
        let address = address.ok_or_else(|| format!("broker {leader} has no known address"))?;
        let channel = self.others.channel(&address).map_err(|err| err.to_string())?;
        controller::call(channel, request.clone()).await.map_err(|status| {
            format!("broker {} at {address}: {}", leader.broker, status.message())
        })
    }
}

/// The answer of the metadata group to some other command: a bug.
pub(crate) fn unexpected(outcome: &Outcome) -> Error {
    let message = format!("the metadata group answered {outcome:?}");
    Error::new(ErrorCode::UnknownServerError, message)
}

pub(crate) fn unknown_topic(topic: &str) -> Error {
    // The name is whatever a client sent, megabytes included.
    let shown: String = topic.chars().take(tidelog_types::TOPIC_NAME_BYTES_MAX).collect();
    let message = format!("topic {shown:?} does not exist");
    Error::new(ErrorCode::UnknownTopicOrPartition, message)
}
