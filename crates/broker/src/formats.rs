//! Which version of each format this build reads and writes.

use tidelog_log::formats;
use tidelog_state::{group, metadata, partition};

use crate::identity;

/// A format that outlives a process: in a file, or between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// What is in it.
    pub name: &'static str,
    /// The newest version that this build reads; it reads all before it, from 1 on. It writes this one
    /// too, unless the cluster's feature level is one whose builds do not know it.
    pub version: u32,
}

/// The formats of brokers. Each number stands where its format is written.
#[must_use]
pub fn formats() -> Vec<Format> {
    let format = |name, version| Format { name, version };
    vec![
        format("segment", formats::SEGMENT),
        format("start point", formats::START_POINT),
        format("votes", formats::VOTES),
        format("metadata snapshot", metadata::SNAPSHOT_VERSION.into()),
        format("partition snapshot", partition::SNAPSHOT_VERSION.into()),
        format("group snapshot", group::SNAPSHOT_VERSION.into()),
        format("identity", identity::FORMAT),
        format("protocol", tidelog_proto::PROTOCOL),
    ]
}
