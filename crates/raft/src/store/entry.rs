//! Entries on their way between openraft and the log.

use std::io;

use openraft::EntryPayload;
use smallvec::smallvec;
use tidelog_log as log;
use tidelog_log::Kind;
use tidelog_types::Timestamp;

use crate::config::{Entry, Payload, Proposal, Records};
use crate::membership;

/// An entry for the log. Record bodies must be in memory, which they are when proposed or received.
pub(crate) fn into_new(entry: Entry) -> io::Result<log::NewEntry> {
    let position = entry.position();
    let expect_chain = entry.expect_chain;
    let new = |kind, append_time, ordinal, body| log::NewEntry {
        position,
        kind,
        append_time,
        ordinal,
        body,
        expect_chain,
        original: None,
    };
    Ok(match entry.payload {
        // The log raises the time to the one before, so zero means "no news".
        EntryPayload::Blank => new(Kind::Blank, Timestamp(0), 0, smallvec![]),
        EntryPayload::Membership(members) => {
            new(Kind::Membership, Timestamp(0), 0, smallvec![membership::encode(&members)])
        }
        EntryPayload::Normal(Proposal::Command { append_time, body }) => {
            new(Kind::Command, append_time, 0, smallvec![body])
        }
        EntryPayload::Normal(Proposal::Records(records)) => {
            let body = records.body.load().map_err(io::Error::other)?;
            let entry = new(Kind::Records, records.append_time, records.ordinal, body);
            log::NewEntry { original: records.original, ..entry }
        }
    })
}

/// An entry of the log with its body left where it lies, if it holds records. Other bodies are
/// small and needed at once, so they are loaded, which may read the disk.
pub(crate) fn from_log(stored: log::Entry) -> io::Result<Entry> {
    let header = stored.header;
    let payload: Payload = match header.kind {
        Kind::Blank => EntryPayload::Blank,
        Kind::Membership => {
            let body = single(&stored.body)?;
            EntryPayload::Membership(membership::decode(&body).map_err(io::Error::other)?)
        }
        Kind::Command => EntryPayload::Normal(Proposal::Command {
            append_time: header.append_time,
            body: single(&stored.body)?,
        }),
        Kind::Records => EntryPayload::Normal(Proposal::Records(Records {
            append_time: header.append_time,
            ordinal: header.ordinal,
            batches: stored.batches,
            body: stored.body,
            original: stored.original,
        })),
    };
    let mut entry = Entry::at(header.position, payload);
    entry.expect_chain = Some(header.chain);
    entry.header = Some(header);
    Ok(entry)
}

fn single(body: &log::Body) -> io::Result<bytes::Bytes> {
    let mut parts = body.load().map_err(io::Error::other)?;
    Ok(parts.pop().unwrap_or_default())
}
