//! Reads one partition for a subscription, a piece at a time: the next one is read once it is asked
//! for, so a slow client holds up its own partitions and nothing else.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tidelog_proto::v1::offset_spec::Spec;
use tidelog_proto::v1::{Error, FetchRecordsRequest, FetchRecordsResponse, OffsetSpec};
use tidelog_types::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::super::super::offsets::find_offset;
use super::super::super::{Api, records};
use super::membership::Name;
use crate::budget::Loan;
use crate::limits;

/// Records of one piece.
const RECORDS_MAX: u32 = 500;

/// How long a read waits for the next record.
const WAIT_MS: u32 = 2_000;

/// Pause after a read that may succeed later.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The same where the topic is gone: the group's coordinator takes the partition away before long.
const GONE_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What was read of a partition.
#[derive(Debug)]
pub(super) struct Piece {
    /// The topic and partition.
    pub(super) partition: Name,
    /// Under which grant.
    pub(super) granted: u32,
    /// What, or why there will be nothing.
    pub(super) read: Result<Read, Error>,
}

/// A piece of a partition.
#[derive(Debug)]
pub(super) enum Read {
    /// The first position, where none was committed.
    Begins(i64),
    /// Records, and the room that they take until they are sent.
    Records(FetchRecordsResponse, Room),
}

/// The room of a piece: one of the few places of its subscription, and bytes.
#[derive(Debug)]
pub(super) struct Room {
    loan: Loan,
    _place: OwnedSemaphorePermit,
}

/// What is read, and for whom.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) api: Api,
    pub(super) partition: Name,
    /// A topic of another id under the same name is another topic.
    pub(super) topic_id: String,
    pub(super) granted: u32,
    pub(super) start: Spec,
    /// Places of the subscription's pieces.
    pub(super) places: Arc<Semaphore>,
}

/// A partition that is being read; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Puller {
    /// A permit for each piece that is wanted.
    wanted: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl Puller {
    /// Looks for the first position, where `source` has none, then reads whenever it is asked to.
    pub(super) fn start(source: Source, pieces: mpsc::Sender<Piece>) -> Self {
        let wanted = Arc::new(Semaphore::new(0));
        let task = tokio::spawn(source.pull(pieces, Arc::clone(&wanted)));
        Self { wanted, task }
    }

    /// Asks for one more piece.
    pub(super) fn next(&self) {
        self.wanted.add_permits(1);
    }

    /// One that gives nothing.
    #[cfg(test)]
    pub(super) fn idle() -> Self {
        Self { wanted: Arc::new(Semaphore::new(0)), task: tokio::spawn(std::future::pending()) }
    }

    /// How many pieces were asked for.
    #[cfg(test)]
    pub(super) fn wanted(&self) -> usize {
        self.wanted.available_permits()
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Source {
    async fn pull(self, pieces: mpsc::Sender<Piece>, wanted: Arc<Semaphore>) {
        let piece = |read| Piece { partition: self.partition.clone(), granted: self.granted, read };
        let mut next = match self.start {
            Spec::Offset(offset) => offset,
            _ => {
                let first = self.first_position().await;
                let Ok(offset) = first.clone() else {
                    // Whether anybody listens makes no difference to the end.
                    let _ = pieces.send(piece(first.map(Read::Begins))).await;
                    return;
                };
                if pieces.send(piece(Ok(Read::Begins(offset)))).await.is_err() {
                    return;
                }
                offset
            }
        };
        loop {
            // It is never closed; an error would mean the end all the same.
            let Ok(permit) = wanted.acquire().await else { return };
            permit.forget();
            let read = self.records_from(next).await;
            let ended = read.is_err();
            if let Ok((records, _)) = &read {
                next = records.next_offset;
            }
            let read = read.map(|(records, room)| Read::Records(records, room));
            if pieces.send(piece(read)).await.is_err() || ended {
                return;
            }
        }
    }

    /// Where the subscription begins: nothing is committed for this partition.
    async fn first_position(&self) -> Result<i64, Error> {
        let (topic, partition) = &self.partition;
        loop {
            let find = async {
                let cluster = self.api.core.cluster()?;
                let group = cluster.find_fresh(topic, *partition, &self.topic_id).await?;
                find_offset(&self.api, &cluster, topic, group, self.start).await
            };
            match find.await {
                Ok(found) => return Ok(found.to_wire()),
                Err(error) => sleep(pause_after(&error).ok_or(error)?).await,
            }
        }
    }

    /// Waits for records at `next` or behind it, however long.
    async fn records_from(&self, next: i64) -> Result<(FetchRecordsResponse, Room), Error> {
        loop {
            let read = self.read(next, limits::SUBSCRIBE_PIECE_BYTES_MAX, WAIT_MS).await?;
            if read.next_offset == next {
                continue;
            }
            if let Some(room) = self.room_at_once(read.encoded_len()) {
                return Ok((read, room));
            }
            // What finds no room goes, and is read again once there is some: who waits holds nothing.
            drop(read);
            let mut room = self.room().await?;
            let read = self.read(next, room.loan.bytes(), 0).await?;
            if read.next_offset > next {
                room.loan.settle(read.encoded_len());
                return Ok((read, room));
            }
        }
    }

    /// Room for `bytes`, if there is.
    fn room_at_once(&self, bytes: usize) -> Option<Room> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let loan = self.loan(bytes);
        (loan.bytes() >= bytes).then_some(Room { loan, _place: place })
    }

    /// Waits for a place; gives as many bytes as there are for it.
    async fn room(&self) -> Result<Room, Error> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place
            .map_err(|_| Error::new(ErrorCode::BrokerNotAvailable, "the subscription has ended"))?;
        Ok(Room { loan: self.loan(limits::SUBSCRIBE_PIECE_BYTES_MAX), _place: place })
    }

    fn loan(&self, bytes: usize) -> Loan {
        let budget = &self.api.core.counters.subscribe_bytes.0;
        budget.take_some(bytes, limits::SUBSCRIBE_PIECE_BYTES_LEAST)
    }

    /// Reads once; what can be tried again is.
    async fn read(
        &self,
        next: i64,
        bytes_max: usize,
        wait_ms: u32,
    ) -> Result<FetchRecordsResponse, Error> {
        let (topic, partition) = &self.partition;
        let request = FetchRecordsRequest {
            topic: topic.clone(),
            partition: *partition,
            start: Some(OffsetSpec { spec: Some(Spec::Offset(next)) }),
            max_records: RECORDS_MAX,
            max_bytes: bytes_max as u32,
            max_wait_ms: wait_ms,
        };
        loop {
            match records::fetch_piece(&self.api, request.clone(), &self.topic_id).await {
                Ok(read) if read.next_offset >= next => return Ok(read),
                Ok(read) => {
                    let answered = read.next_offset;
                    let message = format!("{topic}/{partition} answered {answered} for {next}");
                    return Err(Error::new(ErrorCode::UnknownServerError, message));
                }
                Err(error) => match pause_after(&error) {
                    Some(pause) => sleep(pause).await,
                    None => return Err(located(error, &self.partition, next)),
                },
            }
        }
    }
}

/// How long to wait before another try; `None` when there is no point in one.
fn pause_after(error: &Error) -> Option<Duration> {
    match error.error_code() {
        // No reason to end a stream that holds other topics too.
        Ok(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId) => {
            Some(GONE_AGAIN_AFTER)
        }
        _ => error.retriable.then_some(AGAIN_AFTER),
    }
}

/// The error, with where it happened.
fn located(mut error: Error, (topic, partition): &Name, next: i64) -> Error {
    error.message = format!("read {topic}/{partition} at offset {next}: {}", error.message);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_change_ends_a_subscription() {
        let pause = |code| pause_after(&Error::new(code, "x"));
        assert_eq!(pause(ErrorCode::UnknownTopicOrPartition), Some(GONE_AGAIN_AFTER));
        assert_eq!(pause(ErrorCode::UnknownTopicId), Some(GONE_AGAIN_AFTER));
        assert_eq!(pause(ErrorCode::NotLeader), Some(AGAIN_AFTER));
        assert_eq!(pause(ErrorCode::OffsetOutOfRange), None);
        assert_eq!(pause(ErrorCode::CorruptMessage), None);
    }

    #[test]
    fn an_error_tells_where_it_happened() {
        let error = Error::new(ErrorCode::OffsetOutOfRange, "it begins at 9");
        let located = located(error, &("orders".to_owned(), 3), 7);
        assert_eq!(located.message, "read orders/3 at offset 7: it begins at 9");
        assert_eq!(located.error_code(), Ok(ErrorCode::OffsetOutOfRange));
    }
}
