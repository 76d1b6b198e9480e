//! Conversions between openraft's messages and the stream's.

use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, VoteResponse};
use smallvec::SmallVec;
use tidelog_log::{self as log, Kind};
use tidelog_proto::v1;
use tidelog_types::batch::{self, Info};
use tidelog_types::{GroupId, LogIndex, LogPosition, NodeId, Term, Timestamp};

use crate::config::{Entry, LogId, Payload, Proposal, Records, TypeConfig, Vote, log_id, position};
use crate::membership;

/// The kind of an entry of records that was compacted.
pub(super) const COMPACTED: u32 = 4;

/// Parts below this are copied out of the receive buffer, which a slice would keep alive whole.
const COPY_BELOW_BYTES: usize = 4096;

/// A message that breaks the contract of the stream.
#[derive(Debug, thiserror::Error)]
#[error("malformed message: {0}")]
pub(crate) struct Malformed(&'static str);

pub(crate) fn group(bytes: &[u8]) -> Result<GroupId, Malformed> {
    bytes.try_into().map(GroupId::from_bytes).map_err(|_| Malformed("group id"))
}

pub(crate) fn vote_out(vote: &Vote) -> v1::RaftVote {
    v1::RaftVote {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for.to_u64(),
        committed: vote.committed,
    }
}

pub(crate) fn vote_in(vote: Option<v1::RaftVote>) -> Result<Vote, Malformed> {
    let vote = vote.ok_or(Malformed("vote is missing"))?;
    let node = NodeId::from_u64(vote.node);
    Ok(if vote.committed {
        Vote::new_committed(vote.term, node)
    } else {
        Vote::new(vote.term, node)
    })
}

pub(crate) fn log_id_out(id: &LogId) -> v1::RaftLogId {
    let at = position(id);
    v1::RaftLogId { term: at.term.0, index: at.index.0 }
}

pub(crate) fn log_id_in(id: v1::RaftLogId) -> LogId {
    log_id(LogPosition { term: Term(id.term), index: LogIndex(id.index) })
}

/// The request for the wire, and its bytes of payload.
pub(crate) fn append_out(request: AppendEntriesRequest<TypeConfig>) -> (v1::AppendRequest, usize) {
    let entries: Vec<v1::RaftEntry> = request.entries.into_iter().map(entry_out).collect();
    let bytes = entries.iter().flat_map(|entry| &entry.parts).map(bytes::Bytes::len).sum();
    let message = v1::AppendRequest {
        vote: Some(vote_out(&request.vote)),
        prev: request.prev_log_id.as_ref().map(log_id_out),
        commit: request.leader_commit.as_ref().map(log_id_out),
        entries,
    };
    (message, bytes)
}

pub(crate) fn append_in(
    request: v1::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    Ok(AppendEntriesRequest {
        vote: vote_in(request.vote)?,
        prev_log_id: request.prev.map(log_id_in),
        leader_commit: request.commit.map(log_id_in),
        entries: request.entries.into_iter().map(entry_in).collect::<Result<_, _>>()?,
    })
}

fn entry_out(entry: Entry) -> v1::RaftEntry {
    let at = entry.position();
    let chain = entry.header.as_ref().map(|header| header.chain);
    let mut original = None;
    let (kind, append_time, ordinal, parts) = match entry.payload {
        EntryPayload::Blank => (Kind::Blank, Timestamp(0), 0, Vec::new()),
        EntryPayload::Membership(members) => {
            (Kind::Membership, Timestamp(0), 0, vec![membership::encode(&members)])
        }
        EntryPayload::Normal(Proposal::Command { append_time, body }) => {
            (Kind::Command, append_time, 0, vec![body])
        }
        EntryPayload::Normal(Proposal::Records(records)) => {
            let parts = match records.body {
                log::Body::Memory(parts) => parts.into_vec(),
                log::Body::Slice(_) => unreachable!("replication reads whole entries"),
            };
            original = records.original;
            (Kind::Records, records.append_time, records.ordinal, parts)
        }
    };
    v1::RaftEntry {
        term: at.term.0,
        index: at.index.0,
        kind: if original.is_some() { COMPACTED } else { u32::from(kind as u8) },
        append_time: append_time.0,
        ordinal,
        chain,
        parts,
        original: original.iter().flatten().map(part_out).collect(),
    }
}

/// A part as it was appended, of an entry that was compacted.
pub(super) const fn part_out(part: &log::Part) -> v1::RaftPart {
    v1::RaftPart { bytes: part.bytes, crc: part.crc }
}

/// The parts as they were appended, if the entry was compacted.
pub(super) fn original_in(entry: &v1::RaftEntry) -> Option<SmallVec<[log::Part; 1]>> {
    let part = |part: &v1::RaftPart| log::Part { bytes: part.bytes, crc: part.crc };
    (entry.kind == COMPACTED).then(|| entry.original.iter().map(part).collect())
}

fn entry_in(entry: v1::RaftEntry) -> Result<Entry, Malformed> {
    let original = original_in(&entry);
    let at = LogPosition { term: Term(entry.term), index: LogIndex(entry.index) };
    let append_time = Timestamp(entry.append_time);
    let mut parts: SmallVec<[bytes::Bytes; 1]> =
        entry.parts.into_iter().map(own_if_small).collect();
    let payload: Payload = match entry.kind {
        0 => EntryPayload::Blank,
        1 => {
            let body = parts.pop().ok_or(Malformed("membership is missing"))?;
            let members = membership::decode(&body).map_err(|_| Malformed("membership"))?;
            EntryPayload::Membership(members)
        }
        2 | COMPACTED => EntryPayload::Normal(Proposal::Records(Records {
            append_time,
            ordinal: entry.ordinal,
            batches: parts.iter().map(checked).collect::<Result<_, _>>()?,
            body: log::Body::Memory(parts),
            original,
        })),
        3 => {
            let body = parts.pop().ok_or(Malformed("command is missing"))?;
            EntryPayload::Normal(Proposal::Command { append_time, body })
        }
        _ => return Err(Malformed("unknown kind of entry")),
    };
    let mut received = Entry::at(at, payload);
    received.expect_chain = entry.chain;
    Ok(received)
}

/// The head of a batch whose checksum holds: a follower takes no byte on trust.
fn checked(part: &bytes::Bytes) -> Result<Info, Malformed> {
    batch::verify_crc(part).map_err(|_| Malformed("record batch fails its checksum"))?;
    Info::read(part).map_err(|_| Malformed("record batch"))
}

fn own_if_small(part: bytes::Bytes) -> bytes::Bytes {
    if part.len() < COPY_BELOW_BYTES { bytes::Bytes::copy_from_slice(&part) } else { part }
}

pub(crate) fn vote_request_out(
    request: &openraft::raft::VoteRequest<TypeConfig>,
) -> v1::VoteRequest {
    v1::VoteRequest {
        vote: Some(vote_out(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_out),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_in(
    request: v1::VoteRequest,
) -> Result<openraft::raft::VoteRequest<TypeConfig>, Malformed> {
    let mut asked =
        openraft::raft::VoteRequest::new(vote_in(request.vote)?, request.last.map(log_id_in));
    asked.leadership_transfer = request.leadership_transfer;
    Ok(asked)
}

pub(crate) fn vote_reply_out(reply: &VoteResponse<TypeConfig>) -> v1::VoteReply {
    v1::VoteReply {
        vote: Some(vote_out(&reply.vote)),
        granted: reply.vote_granted,
        last: reply.last_log_id.as_ref().map(log_id_out),
    }
}

pub(crate) fn vote_reply_in(reply: v1::VoteReply) -> Result<VoteResponse<TypeConfig>, Malformed> {
    Ok(VoteResponse::new(vote_in(reply.vote)?, reply.last.map(log_id_in), reply.granted))
}

/// The answer to one append request.
pub(crate) fn append_answer_out(
    answer: Result<Option<LogId>, StreamAppendError<TypeConfig>>,
) -> v1::raft_response::Body {
    use v1::raft_response::Body;
    match answer {
        Ok(last) => Body::Append(v1::AppendSuccess { last: last.as_ref().map(log_id_out) }),
        Err(StreamAppendError::Conflict(at)) => Body::Conflict(log_id_out(&at)),
        Err(StreamAppendError::HigherVote(vote)) => Body::HigherVote(vote_out(&vote)),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn samples() -> Vec<v1::RaftRequest> {
        use v1::raft_request::Body;
        let vote = v1::RaftVote { term: 3, node: NodeId::new(2, 1).to_u64(), committed: true };
        let at = v1::RaftLogId { term: 3, index: 17 };
        let members = crate::config::Members::new_with_defaults(
            vec![[NodeId::new(1, 1), NodeId::new(2, 1)].into()],
            [NodeId::new(3, 1)],
        );
        let mut builder = batch::Builder::new();
        let record = batch::NewRecord {
            key: Some(b"key"),
            value: Some(b"value"),
            headers: &[],
            timestamp: Timestamp(1),
        };
        builder.push(&record).unwrap();
        let records = builder.finish(batch::Codec::None, None).unwrap();
        let parts =
            [vec![], vec![membership::encode(&members)], vec![records], vec![vec![1].into()]];
        let original = vec![v1::RaftPart { bytes: 99, crc: 7 }];
        let mut entries: Vec<_> = (0..)
            .zip(parts)
            .map(|(kind, parts)| v1::RaftEntry {
                term: 3,
                index: 18 + u64::from(kind),
                kind,
                chain: Some(7),
                parts,
                ..v1::RaftEntry::default()
            })
            .collect();
        let compacted =
            v1::RaftEntry { index: 22, kind: COMPACTED, original, ..entries[2].clone() };
        entries.push(compacted);
        let append =
            v1::AppendRequest { vote: Some(vote), prev: Some(at), commit: Some(at), entries };
        let asked = v1::VoteRequest { vote: Some(vote), last: Some(at), leadership_transfer: true };
        [Body::Append(append), Body::Vote(asked)]
            .map(|body| v1::RaftRequest { body: Some(body), ..v1::RaftRequest::default() })
            .into()
    }

    #[test]
    fn mutated_requests_are_taken_or_refused() {
        use v1::raft_request::Body;
        let (mut taken, mut refused) = (0, 0);
        for sample in samples() {
            crate::mutated::each(&sample.encode_to_vec(), |bytes| {
                let Ok(request) = v1::RaftRequest::decode(bytes) else { return };
                let came = match request.body {
                    Some(Body::Append(append)) => append_in(append).map(|request| {
                        let (message, _) = append_out(request);
                        assert!(append_in(message).is_ok(), "what was taken is sent on");
                    }),
                    Some(Body::Vote(asked)) => vote_request_in(asked).map(|request| {
                        let message = vote_request_out(&request);
                        assert!(vote_request_in(message).is_ok(), "what was taken is sent on");
                    }),
                    _ => return,
                };
                taken += u32::from(came.is_ok());
                refused += u32::from(came.is_err());
            });
        }
        assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
    }
}
