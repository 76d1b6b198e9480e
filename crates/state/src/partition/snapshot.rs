//! The partition machine in bytes.
//!
//! ```text
//! version u8 = 2, or 1 of a partition that was never to be compacted, without what 2 adds
//! applied      option (term u64, index u64)
//! log_start u64 | high_watermark u64 | append_time i64 | ordinal_next u64
//! producers_max u32 | expiry_ms i64
//! epochs       list of (term u64, first offset u64), ascending
//! producers    list of (id i64, epoch i16, batches), ids ascending
//!   batches    list of 1 to 5 (base_sequence i32, count u32, base_offset u64, append_time i64)
//! since version 2:
//! compact_to u64 | tombstones_to u64 | mature option (offset u64, since i64)
//! ```
//!
//! A version that knows of no compaction reads all partitions that have not begun with it.

use tidelog_types::canary;
use tidelog_types::{LogIndex, LogPosition, Offset, ProducerEpoch, ProducerId, Term, Timestamp};

use super::epochs::Epochs;
use super::producers::{BATCHES_REMEMBERED, Limits, Producer, ProducerTable, Remembered};
use super::{Compaction, Machine, Mature};
use crate::DecodeError;
use crate::codec::{Reader, Writer};

/// The newest version that this build reads and writes.
pub const VERSION: u8 = 2;

/// The version of a partition that was never to be compacted.
const VERSION_WITHOUT_COMPACTION: u8 = 1;

pub(super) fn encode(machine: &Machine) -> Vec<u8> {
    let is_compacted = machine.compaction != Compaction::default();
    let version = if is_compacted { VERSION } else { VERSION_WITHOUT_COMPACTION };
    let mut writer = Writer::new(version);
    writer.option(machine.applied, |writer, applied| {
        writer.u64(applied.term.0);
        writer.u64(applied.index.0);
    });
    writer.u64(machine.log_start.0);
    writer.u64(machine.high_watermark.0);
    writer.i64(machine.append_time.0);
    writer.u64(machine.ordinal_next);
    let limits = machine.producers.limits();
    writer.u32(limits.producers_max);
    writer.i64(limits.expiry_ms);
    writer.list(machine.epochs.starts().iter(), |writer, (term, first)| {
        writer.u64(term.0);
        writer.u64(first.0);
    });
    let forgotten = if canary!(ProducersForgotten) { usize::MAX } else { 0 };
    writer.list(machine.producers.iter().skip(forgotten), write_producer);
    if is_compacted {
        let Compaction { to, tombstones_to, mature } = machine.compaction;
        writer.u64(to.0);
        writer.u64(tombstones_to.0);
        writer.option(mature, |writer, mature| {
            writer.u64(mature.offset.0);
            writer.i64(mature.since.0);
        });
    }
    writer.finish()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Machine, DecodeError> {
    let mut reader = Reader::new("partition snapshot", VERSION, bytes)?;
    let applied = reader.option(|reader| {
        Ok(LogPosition { term: Term(reader.u64()?), index: LogIndex(reader.u64()?) })
    })?;
    let log_start = Offset(reader.u64()?);
    let high_watermark = Offset(reader.u64()?);
    let append_time = Timestamp(reader.i64()?);
    let ordinal_next = reader.u64()?;
    let limits = Limits { producers_max: reader.u32()?, expiry_ms: reader.i64()? };
    let starts = reader.list(|reader| Ok((Term(reader.u64()?), Offset(reader.u64()?))))?;
    let producers = reader.list(read_producer)?;
    let has_compaction = reader.version() > VERSION_WITHOUT_COMPACTION;
    let compaction =
        if has_compaction { read_compaction(&mut reader)? } else { Compaction::default() };
    let malformed = reader.malformed();
    reader.finish()?;

    let ascend = producers.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let bounded = producers.len() <= limits.producers_max as usize;
    let mature = compaction.mature.map_or(compaction.to, |mature| mature.offset);
    let is_ordered = compaction.tombstones_to <= mature && mature <= compaction.to;
    let is_committed = log_start <= high_watermark && compaction.to <= high_watermark;
    if !is_ordered || !is_committed || !ascend || !bounded {
        return Err(malformed);
    }
    let epochs = Epochs::from_starts(starts).ok_or(malformed)?;
    let mut table = ProducerTable::new(limits);
    producers.into_iter().for_each(|(id, producer)| table.insert(id, producer));
    let producers = table;
    Ok(Machine {
        applied,
        log_start,
        high_watermark,
        append_time,
        ordinal_next,
        epochs,
        producers,
        compaction,
    })
}

fn read_compaction(reader: &mut Reader<'_>) -> Result<Compaction, DecodeError> {
    Ok(Compaction {
        to: Offset(reader.u64()?),
        tombstones_to: Offset(reader.u64()?),
        mature: reader.option(|reader| {
            Ok(Mature { offset: Offset(reader.u64()?), since: Timestamp(reader.i64()?) })
        })?,
    })
}

fn write_producer(writer: &mut Writer, (id, producer): (ProducerId, &Producer)) {
    writer.i64(id.0);
    writer.i16(producer.epoch.0);
    writer.list(producer.batches.iter(), |writer, batch| {
        writer.i32(batch.base_sequence);
        writer.u32(batch.count);
        writer.u64(batch.base_offset.0);
        writer.i64(batch.append_time.0);
    });
}

fn read_producer(reader: &mut Reader<'_>) -> Result<(ProducerId, Producer), DecodeError> {
    let id = ProducerId(reader.i64()?);
    let epoch = ProducerEpoch(reader.i16()?);
    let batches = reader.list(|reader| {
        Ok(Remembered {
            base_sequence: reader.i32()?,
            count: reader.u32()?,
            base_offset: Offset(reader.u64()?),
            append_time: Timestamp(reader.i64()?),
        })
    })?;
    if !(1..=BATCHES_REMEMBERED).contains(&batches.len()) {
        return Err(reader.malformed());
    }
    Ok((id, Producer { epoch, batches: batches.into() }))
}
