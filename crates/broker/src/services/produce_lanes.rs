//! Answers in order per partition, and out of order between partitions.
//!
//! Each partition of a stream has a lane: a queue of batches whose outcomes come one by one. Only the
//! front of each lane is awaited, so a partition that is blocked holds up its own lane alone, and a
//! batch costs one wake-up.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};

/// A lane's number in its stream.
type LaneId = u64;

/// The answer that a batch is going to get.
pub(super) type Outcome<T> = BoxFuture<'static, T>;

/// The lanes of one stream; as a stream itself it gives the answers, and ends while there are none.
pub(super) struct Lanes<T: Send + 'static> {
    fronts: FuturesUnordered<BoxFuture<'static, (LaneId, T)>>,
    lanes: HashMap<LaneId, Lane<T>>,
    by_topic: HashMap<String, HashMap<u32, LaneId>>,
    next: LaneId,
    waiting: usize,
}

struct Lane<T> {
    topic: String,
    partition: u32,
    /// Behind the front.
    queue: VecDeque<Outcome<T>>,
}

impl<T: Send + 'static> Default for Lanes<T> {
    fn default() -> Self {
        Self {
            fronts: FuturesUnordered::new(),
            lanes: HashMap::new(),
            by_topic: HashMap::new(),
            next: 0,
            waiting: 0,
        }
    }
}

impl<T: Send + 'static> Lanes<T> {
    /// Batches that have not been answered.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Queues a batch behind the others of its partition.
    pub(super) fn push(&mut self, topic: String, partition: u32, outcome: Outcome<T>) {
        self.waiting += 1;
        let known = self.by_topic.get(&topic).and_then(|lanes| lanes.get(&partition));
        if let Some(lane) = known.and_then(|id| self.lanes.get_mut(id)) {
            lane.queue.push_back(outcome);
            return;
        }
        let id = self.next;
        self.next += 1;
        self.by_topic.entry(topic.clone()).or_default().insert(partition, id);
        self.lanes.insert(id, Lane { topic, partition, queue: VecDeque::new() });
        self.start(id, outcome);
    }

    fn start(&mut self, id: LaneId, outcome: Outcome<T>) {
        self.fronts.push(Box::pin(async move { (id, outcome.await) }));
    }

    /// The front of a lane is answered: the next one is awaited, or the lane closed.
    fn advance(&mut self, id: LaneId) {
        self.waiting -= 1;
        let lane = self.lanes.get_mut(&id).expect("a lane lives as long as it has a front");
        if let Some(next) = lane.queue.pop_front() {
            return self.start(id, next);
        }
        let lane = self.lanes.remove(&id).expect("looked up above");
        if let Some(lanes) = self.by_topic.get_mut(&lane.topic) {
            lanes.remove(&lane.partition);
            if lanes.is_empty() {
                self.by_topic.remove(&lane.topic);
            }
        }
    }
}

impl<T: Send + 'static> Stream for Lanes<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match self.fronts.poll_next_unpin(cx) {
            Poll::Ready(Some((id, answer))) => {
                self.advance(id);
                Poll::Ready(Some(answer))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: Send + 'static> Unpin for Lanes<T> {}

impl<T: Send + 'static> Drop for Lanes<T> {
    /// The batches are still on their way, and their bytes in memory: their room is given back only
    /// when their outcomes are known.
    fn drop(&mut self) {
        if self.waiting == 0 {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut fronts = std::mem::take(&mut self.fronts);
        let queued: Vec<_> = self.lanes.drain().flat_map(|(_, lane)| lane.queue).collect();
        runtime.spawn(async move {
            while fronts.next().await.is_some() {}
            for outcome in queued {
                outcome.await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    fn batch(lanes: &mut Lanes<u32>, topic: &str, partition: u32) -> oneshot::Sender<u32> {
        let (answer, outcome) = oneshot::channel();
        let outcome = outcome.map(|answer| answer.unwrap_or(u32::MAX));
        lanes.push(topic.to_owned(), partition, outcome.boxed());
        answer
    }

    fn answered(lanes: &mut Lanes<u32>) -> Vec<u32> {
        let mut answers = Vec::new();
        while let Some(Some(answer)) = lanes.next().now_or_never() {
            answers.push(answer);
        }
        answers
    }

    #[test]
    fn a_blocked_partition_holds_up_only_itself() {
        let mut lanes = Lanes::default();
        let first = batch(&mut lanes, "a", 0);
        let second = batch(&mut lanes, "a", 0);
        let other_partition = batch(&mut lanes, "a", 1);
        let other_topic = batch(&mut lanes, "b", 0);
        second.send(2).unwrap();
        other_partition.send(3).unwrap();
        other_topic.send(4).unwrap();
        let mut answers = answered(&mut lanes);
        answers.sort_unstable();
        assert_eq!((answers, lanes.waiting()), (vec![3, 4], 2));
        first.send(1).unwrap();
        assert_eq!(answered(&mut lanes), [1, 2]);
        assert_eq!(lanes.waiting(), 0);
        assert!(lanes.lanes.is_empty() && lanes.by_topic.is_empty());
        batch(&mut lanes, "a", 0).send(5).unwrap();
        assert_eq!(answered(&mut lanes), [5]);
    }
}
