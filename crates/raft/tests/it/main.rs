//! The raft crate from outside: real nodes on loopback, real disks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod coordinators;
mod founding;
mod hazards;
mod late;
mod members;
mod moved;
mod partitions;
mod quorums;
mod recover;
mod repair;
mod sleep;
mod world;
