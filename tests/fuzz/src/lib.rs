//! Feeds every decoder that sees bytes from the network or a disk with bytes that nobody meant.
//!
//! ```text
//! main  run many executions of each target, or one input again
//! corpus  committed inputs, one for each verdict that was ever seen
//! engine  mutate, execute, judge; an input with a new verdict joins the pool
//!   mutate  what is done to an input
//! targets  decoders, each with samples that the product wrote and what may be allocated
//! ```
//! `docs/fuzzing.md` lists the decoders; a test compares the list with the code.

pub mod corpus;
pub mod engine;
mod mutate;
pub mod targets;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts the bytes that are allocated.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;
