//! The client against brokers that fail on command.
#![expect(clippy::unwrap_used, reason = "clippy exempts tests, but not the functions they share")]

mod admin;
mod connect;
mod consumer;
mod fake;
mod groups;
mod measure;
mod producer;
mod random;
mod reader;
mod runner;
