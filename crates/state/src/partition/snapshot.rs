//! The partition machine in bytes.
//!
//! ```text
//! version u8 = 1
//! applied      option (term u64, index u64)
//! log_start u64 | high_watermark u64 | append_time i64 | ordinal_next u64
//! producers_max u32 | expiry_ms i64
//! epochs       list of (term u64, first offset u64), ascending
//! producers    list of (id i64, epoch i16, batches), ids ascending
//!   batches    list of 1 to 5 (base_sequence i32, count u32, base_offset u64, append_time i64)
//! ```

use tidelog_types::canary;
use tidelog_types::{LogIndex, LogPosition, Offset, ProducerEpoch, ProducerId, Term, Timestamp};

use super::Machine;
use super::epochs::Epochs;
use super::producers::{BATCHES_REMEMBERED, Limits, Producer, ProducerTable, Remembered};
use crate::DecodeError;
use crate::codec::{Reader, Writer};

const VERSION: u8 = 1;

pub(super) fn encode(machine: &Machine) -> Vec<u8> {
    let mut writer = Writer::new(VERSION);
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
    let malformed = reader.malformed();
    reader.finish()?;

    let ascend = producers.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let bounded = producers.len() <= limits.producers_max as usize;
    if log_start > high_watermark || !ascend || !bounded {
        return Err(malformed);
    }
    let epochs = Epochs::from_starts(starts).ok_or(malformed)?;
    let mut table = ProducerTable::new(limits);
    producers.into_iter().for_each(|(id, producer)| table.insert(id, producer));
    let producers = table;
    Ok(Machine { applied, log_start, high_watermark, append_time, ordinal_next, epochs, producers })
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
