//! A broker: serves the log, keeps its part of the cluster, owns tasks and sockets.
//!
//! The way of a produce: `services::produce` (check, budget, queue) -> [`tidelog_raft::Partition`]
//! -> the answer, in order per partition (`services::produce_lanes`). The way of a fetch:
//! `services::fetch` reads from the partition what is committed, as credit allows.
//!
//! What stands where:
//! - [`config`], [`limits`]: what can be set, and every bound; both generate their page in `docs`.
//! - [`Environment`]: network, disk, clock, randomness and maps, as arguments.
//! - `identity`, `formation`, `introducer`, `registry`: who this broker is, and in which cluster.
//! - `cluster`: who is who, where partitions are led, and how the metadata is changed from here.
//! - `reconcile`, `leaders`, `hosted`: the replicas of this broker, opened, deleted and led.
//! - `view`: what describe and list calls read.
//! - `services`, `server`, `guard`, `http`: the three listeners.
//!
//! Invariants, above all what is deliberately absent:
//! - The broker never decides what is committed, and never reads above it.
//! - A batch's bytes are not copied between the socket and the log.
//! - Nothing but a committed command deletes a replica.
//! - Nobody waits for a budget: producers are told to come back, consumers get less.

pub mod access;
mod broker;
mod budget;
mod cluster;
pub mod config;
mod controller;
mod core;
mod counters;
#[cfg(test)]
mod docs_test;
mod drainer;
mod environment;
#[cfg(tidelog_faults)]
pub mod faults;
mod formation;
mod formats;
mod groups;
mod guard;
mod hosted;
mod http;
mod identity;
mod intake;
mod introducer;
mod join;
mod leaders;
pub mod limits;
pub mod logging;
mod missed;
mod mover;
mod others;
mod producer_ids;
mod reconcile;
mod registry;
mod repair;
mod server;
mod services;
mod view;
mod voters;

pub use broker::{Broker, ListenerAddress, RunError, StartError};
pub use config::Config;
pub use environment::{
    BoundNetwork, Environment, Listener, ListenerName, LogFilter, Network, TcpNetwork, software,
};
pub use formation::FormationError;
pub use formats::{Format, formats};
pub use identity::{Identity, IdentityError};
pub use tidelog_state::metadata::Software;
pub use view::{Map, MemoryMap, MemoryMaps, OpenMap, Pair, Put, SledMaps};
