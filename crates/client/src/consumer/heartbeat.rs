//! Heartbeats: what a member says, and what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tidelog_proto::v1;
use tidelog_types::{Offset, TopicPartition};
use tokio::time::{Instant, sleep};

use super::builder::Config;
use super::core::Core;
use crate::Error;
use crate::group::{ANY, CommittedOffset, partition};

/// The longest that a heartbeat waits for a change.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// How much later than promised an answer may come, at most.
const GRACE_MAX: Duration = Duration::from_millis(1_500);
/// Before the next heartbeat, when one failed, or came back early without news.
const EARLY_PAUSE: Duration = Duration::from_millis(100);

/// What a member is to hold.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) revision: u64,
    pub(super) member_epoch: u32,
    pub(super) partitions: BTreeMap<TopicPartition, Grant>,
    session_timeout: Duration,
}

/// A partition that a member is to hold.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) topic_id: String,
    pub(super) epoch: u32,
    pub(super) committed: Option<Offset>,
}

/// Whether a heartbeat waits for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// It is answered at once.
    Now,
    /// It is answered when something changes, or the wait is over.
    Wait,
}

/// What has to be known to make the next heartbeat.
#[derive(Debug)]
pub(super) struct Heart {
    member_id: String,
    /// Sent until it is answered once.
    subscription: Option<v1::Subscription>,
    session_timeout: Duration,
    /// The revision that was heard last.
    revision: u64,
    /// Something was given up for this revision, and the next heartbeat has to say so.
    acknowledge: Option<u64>,
    /// The present heartbeat says so. It must not be given up for another: a late copy of it could free
    /// what was granted after it was made.
    acknowledging: Option<u64>,
    /// When the present heartbeat was made, if it waits.
    waiting_since: Option<Instant>,
    /// The next one has to pause first.
    early: bool,
}

impl Heart {
    pub(super) fn new(core: &Core) -> Self {
        let config = &core.config;
        Self {
            member_id: crate::group::uuid(core.cluster.environment()),
            subscription: Some(subscription(config, core.cluster.client_id())),
            session_timeout: config.session_timeout,
            revision: 0,
            acknowledge: None,
            acknowledging: None,
            waiting_since: None,
            early: false,
        }
    }

    pub(super) fn member_id(&self) -> &str {
        &self.member_id
    }

    /// Whether the coordinator has answered.
    pub(super) fn has_joined(&self) -> bool {
        self.subscription.is_none()
    }

    /// Has the next heartbeat say what is held, now that something was given up for `revision`.
    pub(super) fn acknowledge(&mut self, revision: u64) {
        self.acknowledge = self.acknowledge.max(Some(revision));
    }

    /// Whether the present heartbeat may be dropped for another.
    pub(super) fn may_interrupt(&self) -> bool {
        self.acknowledging.is_none()
    }

    /// The next heartbeat.
    pub(super) fn beat(
        &mut self,
        core: &Arc<Core>,
        target: Option<&Target>,
        beat: Beat,
    ) -> BoxFuture<'static, Result<Target, Error>> {
        let wait = beat == Beat::Wait && self.has_joined() && self.acknowledge.is_none();
        let max_wait = if wait { WAIT_MAX.min(self.session_timeout / 3) } else { Duration::ZERO };
        self.acknowledging = self.acknowledge.take();
        let request = v1::HeartbeatRequest {
            group_id: core.calls.group().to_string(),
            member_id: self.member_id.clone(),
            subscription: self.subscription.clone(),
            revision: self.acknowledging.unwrap_or(self.revision),
            // Always: an acknowledgement that was too late for its revision is repeated so.
            holdings: self.has_joined().then(|| holdings(core, target)),
            max_wait_ms: millis(max_wait),
        };
        let grace = GRACE_MAX.min(self.session_timeout / 3);
        let pause = std::mem::take(&mut self.early).then_some(EARLY_PAUSE);
        self.waiting_since = wait.then(Instant::now);
        let core = Arc::clone(core);
        async move {
            if let Some(pause) = pause {
                sleep(pause).await;
            }
            let answer = core.calls.heartbeat(request, grace).await?;
            Target::read(answer)
        }
        .boxed()
    }

    /// Takes in that the present heartbeat was answered.
    pub(super) fn hear(&mut self, target: &Target) {
        self.subscription = None;
        self.acknowledging = None;
        let early = self.waiting_since.is_some_and(|since| since.elapsed() < EARLY_PAUSE);
        self.early = early && target.revision == self.revision;
        (self.revision, self.session_timeout) = (target.revision, target.session_timeout);
    }

    /// Takes in that it was not, or not by who knows: nobody knows whether it was heard.
    pub(super) fn fail(&mut self) {
        self.acknowledge = self.acknowledge.max(self.acknowledging.take());
        self.early = true;
    }
}

impl Target {
    fn read(answer: v1::HeartbeatResponse) -> Result<Self, Error> {
        let mut partitions = BTreeMap::new();
        for assigned in answer.assignment {
            let name = partition(&assigned.topic, assigned.partition)?;
            let committed = assigned.committed.map(CommittedOffset::read).transpose()?;
            let grant = Grant {
                topic_id: assigned.topic_id,
                epoch: assigned.granted_epoch,
                committed: committed.map(|committed| committed.offset),
            };
            partitions.insert(name, grant);
        }
        if answer.session_timeout_ms == 0 {
            return Err(Error::protocol(ANY, "a session timeout of zero"));
        }
        Ok(Self {
            revision: answer.revision,
            member_epoch: answer.member_epoch,
            partitions,
            session_timeout: Duration::from_millis(answer.session_timeout_ms.into()),
        })
    }
}

/// What is held, and what is to be held: it is about to be taken, and must not pass for given up.
fn holdings(core: &Core, target: Option<&Target>) -> v1::Holdings {
    let mut names = core.held().iter().map(|r| r.partition.clone()).collect::<BTreeSet<_>>();
    if let Some(target) = target {
        names.extend(target.partitions.keys().cloned());
    }
    v1::Holdings { partitions: names.iter().map(v1::TopicPartition::from).collect() }
}

fn subscription(config: &Config, client_id: &str) -> v1::Subscription {
    v1::Subscription {
        topics: config.topics.iter().map(ToString::to_string).collect(),
        topic_pattern: config.pattern.clone().unwrap_or_default(),
        instance_id: config.instance_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        client_id: client_id.to_owned(),
        session_timeout_ms: millis(config.session_timeout),
        rebalance_timeout_ms: millis(config.rebalance_timeout),
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
