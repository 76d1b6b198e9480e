//! What all parts of one broker share.

use std::sync::Arc;

use tidelog_proto::v1::Error;
use tidelog_types::ErrorCode;
use tokio::sync::{Semaphore, watch};

use crate::access::{Access, AllowAll};
use crate::budget::Budget;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::counters::Counters;
use crate::environment::Environment;
use crate::groups::Sessions;
use crate::limits;

/// One broker, whatever phase of its life it is in.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) env: Environment,
    pub(crate) access: Arc<dyn Access>,
    pub(crate) counters: Counters,
    /// Signs of life of the members of consumer groups.
    pub(crate) sessions: Sessions,
    /// Bytes of batches that wait for their ack.
    pub(crate) in_flight: Arc<Budget>,
    /// Bytes of batches read for consumers.
    pub(crate) fetched: Arc<Budget>,
    /// Bytes of messages that have not arrived whole.
    pub(crate) received: Arc<Budget>,
    /// Places of calls that inflate batches.
    pub(crate) inflating: Arc<Semaphore>,
    pub(crate) phase: watch::Sender<Phase>,
    /// True once streams should end.
    pub(crate) stopping: watch::Sender<bool>,
}

/// How far the broker is.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// It has no cluster yet; the text says for whom it waits.
    Waiting(Arc<str>),
    /// It is part of a cluster.
    Running(Arc<Cluster>),
}

impl Core {
    pub(crate) fn new(config: Config, env: Environment) -> Arc<Self> {
        let (in_flight, fetched) = (config.limits.in_flight_bytes, config.limits.fetch_bytes);
        let received = config.limits.receive_bytes;
        Arc::new(Self {
            config,
            env,
            access: Arc::new(AllowAll),
            counters: Counters::default(),
            sessions: Sessions::default(),
            in_flight: Budget::new(in_flight.bytes()),
            fetched: Budget::new(fetched.bytes()),
            received: Budget::new(received.bytes()),
            inflating: Arc::new(Semaphore::new(limits::INFLATING_MAX)),
            phase: watch::Sender::new(Phase::Waiting("the broker to start".into())),
            stopping: watch::Sender::new(false),
        })
    }

    /// The cluster, once the broker is part of one.
    pub(crate) fn cluster(&self) -> Result<Arc<Cluster>, Error> {
        match &*self.phase.borrow() {
            Phase::Running(cluster) => Ok(Arc::clone(cluster)),
            Phase::Waiting(reason) => Err(Error::new(
                ErrorCode::ClusterNotFormed,
                format!("broker {} waits for {reason}", self.config.broker().0),
            )
            .with_retry_after(limits::RETRY_AFTER)),
        }
    }

    /// The cluster, if there is one.
    pub(crate) fn running(&self) -> Option<Arc<Cluster>> {
        self.cluster().ok()
    }

    /// Why the broker cannot do its work yet; `None` when it can.
    pub(crate) fn not_ready(&self) -> Option<String> {
        if *self.stopping.borrow() {
            return Some("stopping".to_owned());
        }
        match self.cluster() {
            Err(error) => Some(error.message),
            Ok(cluster) => cluster.not_ready(),
        }
    }
}
