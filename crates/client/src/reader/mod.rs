//! The reader: partitions from a position on, without a group.

mod builder;
mod error;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tidelog_types::batch::Header;
use tidelog_types::{Offset, PartitionId, Timestamp, TopicName, TopicPartition};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use builder::ReaderBuilder;
pub use error::ReadError;

use crate::fetch::{Chunk, Outlet, ReadBytes};

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Position {
    /// With the first record that is still there.
    Earliest,
    /// With the next record that is written.
    Latest,
    /// With the record at this offset.
    Offset(Offset),
    /// With the first record of this time or later.
    Timestamp(Timestamp),
}

/// Where to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Until {
    /// Nowhere: follow each partition.
    #[default]
    Never,
    /// At the end of each partition as it is when the reader gets there first.
    End,
    /// Before this offset, in each partition.
    Offset(Offset),
}

/// A record that was read.
///
/// Key, value and headers share the memory of their batch: keeping one keeps the whole batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadRecord {
    /// Its topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// When it was made.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in the producer's order.
    pub headers: Vec<Header>,
}

/// How far a reader is in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadPosition {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset behind the last record that was handed out; `None` before the first.
    pub next: Option<Offset>,
    /// The end of what is committed, as last heard.
    pub high_watermark: Offset,
}

/// Reads partitions: each in the order of its offsets, without a gap and without a repeat. Between
/// partitions there is no order.
///
/// Goes on by itself at a new leader. What it hands out has passed its checksum, and has exactly the
/// offset that follows the one before; anything else is an error, never skipped over.
///
/// Also a [`Stream`], which ends when [`Reader::recv`] would give `None`.
pub struct Reader {
    chunks: mpsc::UnboundedReceiver<Chunk>,
    current: std::vec::IntoIter<ReadRecord>,
    /// Of the current chunk: tells the fetcher when it has been read.
    reading: Option<ReadBytes>,
    positions: BTreeMap<TopicPartition, ReadPosition>,
    /// Dropped with the reader, which ends them.
    _fetchers: JoinSet<()>,
}

impl Reader {
    /// The next record; `None` when all partitions are read up to where they should.
    ///
    /// Cancel safe: no record is lost.
    ///
    /// # Errors
    /// An error ends the partition that it names; the others can be read on.
    pub async fn recv(&mut self) -> Result<Option<ReadRecord>, ReadError> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// At most `max` records: those that are there, or else the first that come within `wait`. Empty
    /// when time is up, `None` when all partitions are read up to where they should.
    ///
    /// Cancel safe: no record is lost.
    ///
    /// # Errors
    /// As [`Reader::recv`]; records read before the error are handed out first.
    pub async fn recv_batch(
        &mut self,
        max: usize,
        wait: Duration,
    ) -> Result<Option<Vec<ReadRecord>>, ReadError> {
        if max == 0 {
            return Ok(Some(Vec::new()));
        }
        // Nothing is taken out before it is handed out: the wait can be dropped.
        let arrived = match timeout(wait, std::future::poll_fn(|cx| self.poll_chunk(cx))).await {
            Ok(arrived) => arrived?,
            Err(_) => return Ok(Some(Vec::new())),
        };
        if !arrived {
            return Ok(None);
        }
        let records = self.current.by_ref().take(max).collect::<Vec<_>>();
        if let Some(last) = records.last() {
            self.advance(last.offset);
        }
        Ok(Some(records))
    }

    /// How far each partition is.
    #[must_use]
    pub fn positions(&self) -> Vec<ReadPosition> {
        self.positions.values().cloned().collect()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<ReadRecord>, ReadError>> {
        if !ready!(self.poll_chunk(cx))? {
            return Poll::Ready(Ok(None));
        }
        let record = self.current.next();
        if let Some(record) = &record {
            self.advance(record.offset);
        }
        Poll::Ready(Ok(record))
    }

    /// Waits until the current chunk holds a record; `false` when none will come.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ReadError>> {
        while self.current.as_slice().is_empty() {
            self.reading = None;
            let Some(chunk) = ready!(self.chunks.poll_recv(cx)) else {
                return Poll::Ready(Ok(false));
            };
            let Chunk { high_watermark, records, read } = chunk;
            let records = match records {
                Ok(records) => records,
                Err(error) => return Poll::Ready(Err(error)),
            };
            if let Some(position) = self.positions.get_mut(read.partition()) {
                position.high_watermark = high_watermark;
            }
            self.current = records.into_iter();
            self.reading = Some(read);
        }
        Poll::Ready(Ok(true))
    }

    /// Notes that the record at `offset` of the current chunk was handed out.
    fn advance(&mut self, offset: Offset) {
        let partition = self.reading.as_ref().map(ReadBytes::partition);
        let position = partition.and_then(|partition| self.positions.get_mut(partition));
        if let Some(position) = position {
            position.next = Some(offset.next());
        }
        if self.current.as_slice().is_empty() {
            self.reading = None;
        }
    }
}

impl Stream for Reader {
    type Item = Result<ReadRecord, ReadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(cx).map(Result::transpose)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("positions", &self.positions).finish_non_exhaustive()
    }
}

impl Outlet for mpsc::UnboundedSender<Chunk> {
    fn put(&self, chunk: Chunk) {
        // It fails when the reader is gone, and then the fetcher is about to go too.
        let _ = self.send(chunk);
    }
}
