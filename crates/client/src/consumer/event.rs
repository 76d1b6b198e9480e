//! What partitions tell the consumer, and how.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::reading::Reading;
use super::{ConsumeError, ConsumerRecord};

/// What a consumer gets to hear.
#[derive(Debug)]
pub(super) enum Event {
    /// A partition has records, or an error.
    Ready(Arc<Reading>),
    /// Something is wrong with all of it.
    Failed(ConsumeError),
    /// There will be no more.
    Ended,
}

/// Where partitions announce themselves when they have records.
#[derive(Clone, Debug)]
pub(super) enum Announce {
    /// To the consumer, whose records all come one after the other.
    Consumer(mpsc::UnboundedSender<Event>),
    /// To nobody: the partition has a stream of its own, which is woken.
    Stream,
}

/// What was taken out of a reading.
pub(super) enum Taken {
    /// A record.
    Record(ConsumerRecord),
    /// An error.
    Failure(ConsumeError),
    /// Nothing for now.
    Nothing,
    /// Nothing, and there will be nothing.
    Ended,
}
