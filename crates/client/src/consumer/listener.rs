//! Who is told when partitions come and go.

use std::future::{Future, ready};
use std::pin::Pin;

use tidelog_types::TopicPartition;

/// What a [`RebalanceListener`] does, in progress.
pub type Listening<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Is told when partitions come and go. Calls come one after the other; heartbeats go on meanwhile.
///
/// ```
/// use tidelog_client::{Listening, RebalanceListener, TopicPartition};
///
/// struct Print;
///
/// impl RebalanceListener for Print {
///     fn revoked<'a>(&'a self, partitions: &'a [TopicPartition]) -> Listening<'a> {
///         Box::pin(async move { println!("gave up {partitions:?}") })
///     }
/// }
/// ```
pub trait RebalanceListener: Send + Sync + 'static {
    /// The consumer got partitions; their first records are handed out after this.
    fn assigned<'a>(&'a self, _partitions: &'a [TopicPartition]) -> Listening<'a> {
        Box::pin(ready(()))
    }

    /// The consumer is to give partitions up. None of their records is handed out any more. What was
    /// handed out can still be marked: after this the marks are committed, and then somebody else gets
    /// the partitions. Must end within the rebalance timeout, or the membership does.
    fn revoked<'a>(&'a self, _partitions: &'a [TopicPartition]) -> Listening<'a> {
        Box::pin(ready(()))
    }

    /// The partitions are somebody else's already, or were moved by a seek of the group: nothing more
    /// can be committed for what was handed out of them. When a call of [`RebalanceListener::revoked`]
    /// was in progress it is dropped.
    fn lost<'a>(&'a self, _partitions: &'a [TopicPartition]) -> Listening<'a> {
        Box::pin(ready(()))
    }
}
