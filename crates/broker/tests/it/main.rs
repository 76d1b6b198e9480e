//! Whole brokers in one process, over loopback.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod cluster;
mod connections;
mod groups;
mod life;
mod limits;
mod produce_and_fetch;
mod raw;
mod records;
mod subscribe;
mod topics;
mod unanswered;
mod upgrades;
mod windows;
