//! Reads one partition for a subscription, a piece at a time: the next one is read once the last one
//! was taken, so a slow client holds up its own partitions and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tidelog_proto::v1::offset_spec::Spec;
use tidelog_proto::v1::{Error, FetchRecordsRequest, FetchRecordsResponse, OffsetSpec};
use tidelog_types::ErrorCode;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::super::super::offsets::find_offset;
use super::super::super::{Api, records};

/// Records of one piece.
const RECORDS_MAX: u32 = 500;

/// Bytes of one piece.
const BYTES_MAX: u32 = 1 << 20;

/// How long a read waits for the next record.
const WAIT_MS: u32 = 2_000;

/// Pause after a read that may succeed later.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What was read of a partition.
#[derive(Debug)]
pub(super) struct Piece {
    /// The topic and partition.
    pub(super) partition: (String, u32),
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
    /// Records.
    Records(FetchRecordsResponse),
}

/// A partition that is being read; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Puller {
    /// One permit: another piece is wanted.
    wanted: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl Puller {
    /// Reads `partition` from `start` on, once it is asked to.
    pub(super) fn start(
        api: Api,
        partition: (String, u32),
        granted: u32,
        start: Spec,
        pieces: mpsc::Sender<Piece>,
    ) -> Self {
        let wanted = Arc::new(Semaphore::new(1));
        let task = pull(api, partition, granted, start, pieces, Arc::clone(&wanted));
        Self { wanted, task: tokio::spawn(task) }
    }

    /// Asks for the next piece.
    pub(super) fn next(&self) {
        if self.wanted.available_permits() == 0 {
            self.wanted.add_permits(1);
        }
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pull(
    api: Api,
    partition: (String, u32),
    granted: u32,
    start: Spec,
    pieces: mpsc::Sender<Piece>,
    wanted: Arc<Semaphore>,
) {
    let mut next = match start {
        Spec::Offset(offset) => Some(offset),
        _ => None,
    };
    loop {
        // It is never closed; an error would mean the end all the same.
        let Ok(permit) = wanted.acquire().await else { return };
        permit.forget();
        let read = match next {
            Some(next) => records_from(&api, &partition, next).await.map(Read::Records),
            None => first_position(&api, &partition, start).await.map(Read::Begins),
        };
        let ended = read.is_err();
        next = match &read {
            Ok(Read::Records(records)) => Some(records.next_offset),
            Ok(Read::Begins(offset)) => Some(*offset),
            Err(_) => next,
        };
        let piece = Piece { partition: partition.clone(), granted, read };
        if pieces.send(piece).await.is_err() || ended {
            return;
        }
    }
}

/// Waits for records at `next` or behind it, however long; what can be tried again is.
async fn records_from(
    api: &Api,
    partition: &(String, u32),
    next: i64,
) -> Result<FetchRecordsResponse, Error> {
    loop {
        match read(api, partition, next).await {
            Ok(read) if read.next_offset == next => {}
            Err(error) if error.retriable => sleep(AGAIN_AFTER).await,
            read => return read,
        }
    }
}

/// Where a subscription begins in a partition for which nothing is committed.
async fn first_position(
    api: &Api,
    (topic, partition): &(String, u32),
    start: Spec,
) -> Result<i64, Error> {
    loop {
        let find = async {
            let cluster = api.core.cluster()?;
            let group = cluster.find_fresh(topic, *partition, "").await?;
            find_offset(api, &cluster, topic, group, start).await
        };
        match find.await {
            Err(error) if error.retriable => sleep(AGAIN_AFTER).await,
            found => return found.map(tidelog_types::Offset::to_wire),
        }
    }
}

async fn read(
    api: &Api,
    (topic, partition): &(String, u32),
    next: i64,
) -> Result<FetchRecordsResponse, Error> {
    let request = FetchRecordsRequest {
        topic: topic.clone(),
        partition: *partition,
        start: Some(OffsetSpec { spec: Some(Spec::Offset(next)) }),
        max_records: RECORDS_MAX,
        max_bytes: BYTES_MAX,
        max_wait_ms: WAIT_MS,
    };
    // What the answer holds is given back at once: a piece is counted by the credit of its client.
    let (read, _) = records::fetch(api, request).await?;
    if read.next_offset < next {
        let message = format!("{topic}/{partition} answered {} for {next}", read.next_offset);
        return Err(Error::new(ErrorCode::UnknownServerError, message));
    }
    Ok(read)
}
