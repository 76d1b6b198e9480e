//! Who may do what: a seam in front of every call.
//!
//! Nobody is told apart yet and everything is allowed; authentication and access lists come behind
//! this trait, and no call has to be looked for then.

use std::fmt;

use tidelog_proto::v1::Error;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Principal {
    /// Whoever reached the client listener.
    Anonymous,
    /// Whoever reached the internal listener: another broker.
    Broker,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Append records.
    Write,
    /// Read records or offsets.
    Read,
    /// See that something exists, and how it is.
    Describe,
    /// Create.
    Create,
    /// Delete.
    Delete,
    /// Change.
    Alter,
}

/// What it is to be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource<'a> {
    /// The cluster.
    Cluster,
    /// A topic, by name.
    Topic(&'a str),
    /// A consumer group, by id.
    Group(&'a str),
}

/// Decides.
pub trait Access: Send + Sync + fmt::Debug + 'static {
    /// Lets the call pass, or refuses it.
    ///
    /// # Errors
    /// What the caller is answered.
    fn check(
        &self,
        principal: &Principal,
        operation: Operation,
        resource: Resource<'_>,
    ) -> Result<(), Error>;
}

/// Allows everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Access for AllowAll {
    fn check(&self, _: &Principal, _: Operation, _: Resource<'_>) -> Result<(), Error> {
        Ok(())
    }
}
