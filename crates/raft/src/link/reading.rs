//! Entries of a log for a replica that has lost some of them to damage: both ends of the call.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::StreamExt;
use smallvec::SmallVec;
use tidelog_log as log;
use tidelog_log::{Kind, Log, NewEntry, StartPoint};
use tidelog_proto::v1;
use tidelog_proto::v1::raft_service_client::RaftServiceClient;
use tidelog_types::{GroupId, LogIndex, LogPosition, Offset, Term, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::{Status, Streaming};

use super::peer::Peer;
use super::server::{Port, SNAPSHOT_BYTES_MAX};
use super::wire;
use crate::config::Vote;
use crate::executor::{self, Executor};

/// Bytes of bodies, or of a start point, in one message; one entry always passes.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// The largest message that is taken: an entry of the largest size, and what goes around it.
const MESSAGE_BYTES_MAX: usize = super::MESSAGE_BYTES_MAX;

/// Messages that are read ahead of what the caller has taken.
const MESSAGES_AHEAD: usize = 2;

/// Where the answer to one call goes.
type Answer = mpsc::Sender<Result<v1::ReadLogResponse, Status>>;

/// Answers one call; `place` is held until all of it is sent.
pub(super) fn answer(
    port: Arc<dyn Port>,
    executor: Arc<dyn Executor>,
    place: OwnedSemaphorePermit,
    request: &v1::ReadLogRequest,
) -> mpsc::Receiver<Result<v1::ReadLogResponse, Status>> {
    let (from, until) = (LogIndex(request.from), request.until.map(LogIndex));
    let (sender, answer) = mpsc::channel(MESSAGES_AHEAD);
    tokio::spawn(async move {
        let _place = place;
        if let Err(status) = send(&*port, &executor, from, until, &sender).await {
            // The caller may be gone, and its interest with it.
            let _ = sender.send(Err(status)).await;
        }
    });
    answer
}

async fn send(
    port: &dyn Port,
    executor: &Arc<dyn Executor>,
    from: LogIndex,
    until: Option<LogIndex>,
    to: &Answer,
) -> Result<(), Status> {
    let vote = match until {
        Some(_) => None,
        None => Some(port.confirm().await.map_err(Status::failed_precondition)?),
    };
    let log = port.log();
    // After the confirmation: all that a quorum may have committed until then is in the log.
    let (first, last) = (log.first_index(), log.frontier().next_index());
    let end = until.map_or(last, |until| until.min(last));
    let start =
        if first > from && until.is_none() { oldest_start(&log, executor).await? } else { None };
    let bytes = start.as_ref().map(StartPoint::encode).unwrap_or_default();
    let header = v1::ReadLogHeader {
        vote: vote.as_ref().map(wire::vote_out),
        start_bytes: bytes.len() as u64,
        end: end.0,
        compacted_to: log.compacted().to.0,
    };
    let header = v1::ReadLogResponse { header: Some(header), ..v1::ReadLogResponse::default() };
    let gone = |_| Status::cancelled("the caller is gone");
    to.send(Ok(header)).await.map_err(gone)?;
    for part in bytes.chunks(MESSAGE_BYTES) {
        let start = bytes.slice_ref(part);
        let part = v1::ReadLogResponse { start, ..v1::ReadLogResponse::default() };
        to.send(Ok(part)).await.map_err(gone)?;
    }
    let mut next = start.map_or(from, |start| start.index);
    while next < end {
        let entries = load(&log, executor, next..end).await?;
        let Some(last) = entries.last() else {
            return Err(Status::aborted("the log was cut while it was read"));
        };
        next = LogIndex(last.index + 1);
        let message = v1::ReadLogResponse { entries, ..v1::ReadLogResponse::default() };
        to.send(Ok(message)).await.map_err(gone)?;
    }
    Ok(())
}

async fn oldest_start(
    log: &Arc<Log>,
    executor: &Arc<dyn Executor>,
) -> Result<Option<StartPoint>, Status> {
    let log = Arc::clone(log);
    let read = executor::run(&**executor, move || log.oldest_start()).await;
    read?.map_err(|err| Status::internal(err.to_string()))
}

async fn load(
    log: &Arc<Log>,
    executor: &Arc<dyn Executor>,
    range: Range<LogIndex>,
) -> Result<Vec<v1::RaftEntry>, Status> {
    let log = Arc::clone(log);
    let read = executor::run(&**executor, move || {
        let entries = log.load(range, MESSAGE_BYTES)?;
        entries.into_iter().map(entry_out).collect::<Result<_, log::Error>>()
    });
    read.await?.map_err(|err| Status::internal(err.to_string()))
}

fn entry_out(entry: log::Entry) -> Result<v1::RaftEntry, log::Error> {
    let header = entry.header;
    Ok(v1::RaftEntry {
        term: header.position.term.0,
        index: header.position.index.0,
        kind: match entry.original {
            Some(_) => wire::COMPACTED,
            None => u32::from(header.kind as u8),
        },
        append_time: header.append_time.0,
        ordinal: header.ordinal,
        chain: Some(header.chain),
        parts: entry.body.load()?.into_vec(),
        original: entry.original.iter().flatten().map(wire::part_out).collect(),
    })
}

/// An entry as it came: nothing in it is believed before the log has compared its chain value.
fn entry_in(entry: v1::RaftEntry) -> Result<NewEntry, Status> {
    let malformed = || Status::data_loss("malformed entry");
    let original = wire::original_in(&entry);
    let kind = match original {
        Some(_) => Some(Kind::Records),
        None => u8::try_from(entry.kind).ok().and_then(Kind::from_number),
    };
    let kind = kind.ok_or_else(malformed)?;
    Ok(NewEntry {
        position: LogPosition { term: Term(entry.term), index: LogIndex(entry.index) },
        kind,
        append_time: Timestamp(entry.append_time),
        ordinal: entry.ordinal,
        body: entry.parts.into_iter().collect::<SmallVec<[Bytes; 1]>>(),
        expect_chain: Some(entry.chain.ok_or_else(malformed)?),
        original,
    })
}

/// What another replica sends of its log.
pub(crate) struct LogReading {
    /// The vote of the leader, if everything was asked for.
    pub(crate) vote: Option<Vote>,
    /// Where the entries begin, when the log does not reach back to what was asked for.
    pub(crate) start: Option<StartPoint>,
    /// The index after the last entry.
    pub(crate) end: LogIndex,
    /// How far the log is compacted from which they come.
    pub(crate) compacted_to: Offset,
    stream: Streaming<v1::ReadLogResponse>,
}

impl LogReading {
    /// Asks `peer` for the entries of `group` from `from` on.
    pub(crate) async fn open(
        peer: &Peer,
        group: GroupId,
        from: LogIndex,
        until: Option<LogIndex>,
    ) -> Result<Self, Status> {
        let node = peer.node();
        let connection = peer.connection();
        let connection =
            connection.ok_or_else(|| Status::unavailable(format!("no connection to {node}")))?;
        let mut client =
            RaftServiceClient::new(connection.channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let request = v1::ReadLogRequest {
            hello: Some(peer.hello()),
            group: group.to_bytes().to_vec().into(),
            from: from.0,
            until: until.map(|until| until.0),
        };
        let mut stream = client.read_log(request).await?.into_inner();
        let first = stream.next().await.transpose()?.and_then(|first| first.header);
        let header = first.ok_or_else(|| Status::data_loss("an answer without a header"))?;
        let malformed = |err: &dyn std::fmt::Display| Status::data_loss(err.to_string());
        let vote = header.vote.map(|vote| wire::vote_in(Some(vote))).transpose();
        let start = read_start(&mut stream, header.start_bytes).await?;
        Ok(Self {
            vote: vote.map_err(|err| malformed(&err))?,
            start,
            end: LogIndex(header.end),
            compacted_to: Offset(header.compacted_to),
            stream,
        })
    }

    /// The next entries; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<NewEntry>>, Status> {
        let Some(message) = self.stream.next().await.transpose()? else { return Ok(None) };
        message.entries.into_iter().map(entry_in).collect::<Result<_, _>>().map(Some)
    }
}

async fn read_start(
    stream: &mut Streaming<v1::ReadLogResponse>,
    bytes: u64,
) -> Result<Option<StartPoint>, Status> {
    if bytes == 0 {
        return Ok(None);
    }
    if bytes > SNAPSHOT_BYTES_MAX {
        return Err(Status::data_loss("start point is too large"));
    }
    let mut start = BytesMut::new();
    while (start.len() as u64) < bytes {
        let part = stream.next().await.transpose()?;
        let part = part.filter(|part| !part.start.is_empty());
        let part = part.ok_or_else(|| Status::data_loss("start point is cut short"))?;
        start.extend_from_slice(&part.start);
    }
    let start = StartPoint::decode(&start.freeze());
    start.map(Some).map_err(|err| Status::data_loss(err.to_string()))
}
