//! The raft crate from outside: real nodes on loopback, real disks.

mod cluster;
mod partitions;
