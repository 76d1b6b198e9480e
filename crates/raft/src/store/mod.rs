//! A group's storage as openraft sees it: the log with its votes, and the state machine.

pub(crate) mod applier;
pub(crate) mod entry;
pub(crate) mod log_store;
pub(crate) mod machines;
#[cfg(test)]
mod order;
#[cfg(test)]
mod suite;
