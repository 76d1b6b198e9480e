//! Judges what consumer groups did, by the promises P2, P6, P8 and P9 of Tidelog.
//!
//! It depends on no crate of the product and knows nothing but what recorders wrote down: JSON lines,
//! one event each, an object with one field that names the event.
//!
//! | event | fields beside `at` |
//! |---|---|
//! | `produced` | `topic`, `partition`, `offset`, `id`: a record was acked |
//! | `joined` | `group`, `member`: the first heartbeat was answered |
//! | `ended` | `group`, `member`: it left, or somebody learned that it was expired or replaced |
//! | `assigned` | `group`, `member`, `epoch`, `partitions`: what a heartbeat told; each partition with `topic`, `partition`, `granted`, `committed` (number or null) |
//! | `released` | `group`, `member`, `partitions`: given up and acknowledged; each with `topic`, `partition`, `granted` |
//! | `delivered` | `group`, `member`, `topic`, `partition`, `offset`, `id`, and `granted` where known: handed to the user |
//! | `repositioned` | `group`, `member`, `topic`, `partition`, `offset`: the user moved the member, or was told that the record is gone |
//! | `commit` | `group`, `member`, `epoch`, `topic`, `partition`, `offset`, `outcome`: `{"accepted": holds}`, `"refused"` or `"unknown"` |
//! | `committed` | `group`, `topic`, `partition`, `offset` (number or null): a read of the committed offset |
//! | `seek` | `group`, `topic`, `partition`, `offset`, `outcome`: `{"accepted": before}` (number or null) or `"refused"` |
//!
//! `at` is `[invoke, complete]`, ticks of one monotonic clock for all recorders. A record's `id` is a
//! number of its own in the run. So:
//!
//! ```json
//! {"delivered":{"at":[20,21],"group":"billing","member":"a","topic":"orders","partition":3,"offset":7,"id":41}}
//! {"commit":{"at":[22,25],"group":"billing","member":"a","epoch":2,"topic":"orders","partition":3,"offset":8,"outcome":{"accepted":8}}}
//! ```
//!
//! What a recorder owes: the events of a member stand in the order in which it saw them, in one file;
//! everything else is told by time alone. The record begins before the groups do and does not delete
//! offsets, each seek is recorded until its answer is there, and the seeks of one partition do not
//! overlap. Events that are left out make a judgement milder, never harsher, but for these: every
//! `commit` (a value that nobody committed is a violation), every `seek`, and every `delivered`.

mod error;
mod event;
mod history;
mod intervals;
mod rules;
mod seeks;
mod staircase;
mod summary;
mod verdict;

pub use error::Error;
pub use event::{
    Assigned, Commit, Committed, Delivered, Event, GivenUp, Grant, Membership, Outcome, Produced,
    Released, Repositioned, Seek, Span,
};
pub use history::History;
pub use summary::Summary;
pub use verdict::{EXAMPLES_MAX, Rule, Verdict, Violation};

/// Judges a history by all rules.
///
/// # Errors
/// The history is empty, or its seeks are such that nothing can be said.
pub fn check(history: &History) -> Result<Verdict, Error> {
    if history.is_empty() {
        return Err(Error::Empty);
    }
    let seeks = seeks::Seeks::of(history)?;
    let mut docket = verdict::Docket::new(history);
    rules::offset_identity::check(history, &mut docket);
    rules::poll_order::check(history, &mut docket);
    rules::committed_offset::check(history, &seeks, &mut docket)?;
    rules::fenced_commit::check(history, &seeks, &mut docket);
    rules::at_least_once::check(history, &seeks, &mut docket);
    rules::one_owner::check(history, &mut docket);
    Ok(docket.close(Summary::of(history)))
}
