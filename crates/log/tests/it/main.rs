//! Tests of the log through its public surface.

mod append;
mod cut;
mod faults;
mod read;
mod recover;
mod starts;
mod support;
mod votes;
