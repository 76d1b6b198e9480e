//! The gRPC services of one listener.
//!
//! Each call passes [`Api::allow`] first and gives the address of a leader on the listener that it
//! came in by. Errors of a call are [`tidelog_proto::v1::Error`], inside a status.

mod admin;
mod brokers;
mod create;
mod describe;
mod features;
mod fetch;
mod groups;
mod health;
mod log;
mod metadata;
mod moves;
mod offsets;
mod outages;
mod partitioner;
mod produce;
mod produce_lanes;
mod raft;
mod rebalance;
mod records;
mod recover;
mod stop;
mod trim;

use std::sync::Arc;
use std::time::Duration;

use tidelog_proto::v1::Error;
use tidelog_state::metadata::Machine;
use tidelog_types::{BrokerId, ErrorCode, GroupId};

pub(crate) use partitioner::by_key;
pub(crate) use raft::SwitchingRaft;

use crate::access::{Operation, Principal, Resource};
use crate::core::Core;
use crate::environment::ListenerName;

/// The services, as one listener shows them.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) core: Arc<Core>,
    pub(crate) listener: ListenerName,
}

impl Api {
    pub(crate) fn new(core: Arc<Core>, listener: ListenerName) -> Self {
        Self { core, listener }
    }

    /// Lets the caller pass, or refuses it.
    fn allow(&self, operation: Operation, resource: Resource<'_>) -> Result<(), Error> {
        let principal = match self.listener {
            ListenerName::Internal => Principal::Broker,
            ListenerName::Client | ListenerName::Http => Principal::Anonymous,
        };
        self.core.access.check(&principal, operation, resource)
    }

    /// Whether a call may be passed on to another broker: what came from one is not.
    fn may_forward(&self) -> bool {
        self.listener != ListenerName::Internal
    }
}

/// A request that nobody can carry out.
fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidRequest, message)
}

/// A request about a broker that the cluster does not have.
fn no_broker(machine: &Machine, id: BrokerId) -> Error {
    let all: Vec<_> = machine.brokers().map(|broker| broker.id.to_string()).collect();
    invalid(format!("there is no broker {id}, brokers are {}", all.join(", ")))
}

/// The name of a group's topic; empty for the metadata, and for what is not known here.
fn topic_name(machine: &Machine, group: GroupId) -> String {
    machine.topic(group.topic).map(|topic| topic.name.to_string()).unwrap_or_default()
}

/// Refuses more items than a call may have.
fn at_most(count: usize, most: usize, what: &str) -> Result<(), Error> {
    if count <= most {
        return Ok(());
    }
    Err(invalid(format!("{count} {what} in one call, at most {most} are allowed")))
}

/// A time in milliseconds out of a request, where 0 stands for the default.
fn time(ms: u32, default: Duration, most: Duration, what: &str) -> Result<Duration, Error> {
    let time = if ms == 0 { default } else { Duration::from_millis(ms.into()) };
    if time <= most {
        return Ok(time);
    }
    Err(invalid(format!("{what} is {ms} ms, at most {} are allowed", most.as_millis())))
}

/// A size in bytes out of a request, where 0 stands for the default.
fn size(bytes: u32, default: usize, most: usize, what: &str) -> Result<usize, Error> {
    let size = if bytes == 0 { default } else { bytes as usize };
    if size <= most {
        return Ok(size);
    }
    Err(invalid(format!("{what} is {bytes}, at most {most} is allowed")))
}

/// The view could not be read: a broken disk, or a bug.
fn view_failed(err: &std::io::Error) -> Error {
    Error::new(ErrorCode::StorageError, format!("read the view of the metadata: {err}"))
}
