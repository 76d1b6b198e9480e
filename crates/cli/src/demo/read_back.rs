//! Reads a whole topic and compares it with what producers wrote down.

use std::path::Path;

use tidelog_client::{Client, Position, ReadRecord, Until};

use super::Error;
use super::order::{Orders, recognise};
use crate::audit::{Ledger, Read, file, fingerprint};

/// Reads every partition of `topic` from its first offset to the end it has now. `seen` is told how
/// many records were read so far.
///
/// # Errors
/// The topic cannot be read. A read that ends too early is none: the audit finds what is missing.
pub async fn read_all(
    client: &Client,
    topic: &str,
    mut seen: impl FnMut(u64),
) -> Result<Vec<Read>, Error> {
    let reader = client.reader().topic(topic, Position::Earliest).until(Until::End);
    let mut reader = reader.build().await?;
    let mut reads = Vec::new();
    while let Some(record) = reader.recv().await? {
        reads.push(reduce(&record));
        seen(reads.len() as u64);
    }
    Ok(reads)
}

/// What the producers of a run wrote down below `dir`, and the orders that they sent.
///
/// # Errors
/// A file that is not whole.
pub fn ledger_of(dir: &Path, producers: u32) -> Result<(Ledger, Orders), Error> {
    let mut ledger = Ledger::default();
    let mut seed = 0;
    for producer in 0..producers {
        let told = file::read(dir, producer).map_err(Error::at("read the acks in", dir))?;
        seed = told.seed;
        ledger.sent.push(told.sent);
        ledger.acks.extend(told.acks);
    }
    Ok((ledger, Orders::new(seed)))
}

/// One record, as an audit wants it.
#[must_use]
pub fn reduce(record: &ReadRecord) -> Read {
    // A record of ours has both; one that lacks either is foreign, whatever it hashes to.
    let key = record.key.as_deref().unwrap_or_default();
    let value = record.value.as_deref().unwrap_or_default();
    Read {
        partition: record.partition,
        offset: record.offset,
        id: recognise(value),
        key: fingerprint(&[key]),
        hash: fingerprint(&[key, value]),
    }
}
