//! Batches without some of their records: what compaction leaves.
//!
//! A compacted batch keeps its offsets, its producer and its timestamps, and every record that stays
//! keeps its bytes. One of which nothing stays is a header alone, so that who reads it goes on behind
//! it, and a state machine that applies it remembers its producer. So does Kafka's log cleaner.

use bytes::{Bytes, BytesMut};

use super::layout::{self, HEADER_BYTES, LENGTH_EXCLUDES};
use super::record::{Span, Walk};
use super::{BatchError, BatchView, Codec, codec};
use crate::Offset;

/// What decides whether a record stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyed<'a> {
    /// Its position in the partition.
    pub offset: Offset,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Whether it has no value: it says that its key is gone.
    pub is_tombstone: bool,
}

impl<'a> Keyed<'a> {
    fn of(span: &Span, block: &'a [u8]) -> Self {
        let key = span.key.clone().map(|key| &block[key]);
        Self { offset: span.offset, key, is_tombstone: span.value.is_none() }
    }
}

/// Shows the key of each record of `batch`, in order.
///
/// # Errors
/// When the bytes are not exactly one batch, a record is malformed, or the records do not inflate
/// within `inflate_bytes_max`. What was shown before stays shown.
pub fn each_key(
    batch: &[u8],
    inflate_bytes_max: usize,
    mut each: impl FnMut(Keyed<'_>),
) -> Result<(), BatchError> {
    let view = BatchView::new(batch)?;
    let mut inflated = Vec::new();
    let block = block(&view, &mut inflated, inflate_bytes_max)?;
    let mut walk = Walk::new(&view);
    while let Some(span) = walk.step(block) {
        each(Keyed::of(&span?, block));
    }
    Ok(())
}

/// `batch` with only the records that `keep` wants; `None` when it wants all of them.
///
/// # Errors
/// As of [`each_key`]; also when the records cannot be compressed again.
pub fn retain(
    batch: &[u8],
    inflate_bytes_max: usize,
    mut keep: impl FnMut(Keyed<'_>) -> bool,
) -> Result<Option<Bytes>, BatchError> {
    let view = BatchView::new(batch)?;
    let mut inflated = Vec::new();
    let block = block(&view, &mut inflated, inflate_bytes_max)?;
    let mut out = BytesMut::with_capacity(HEADER_BYTES + block.len());
    out.extend_from_slice(&batch[..HEADER_BYTES]);
    let mut kept = 0_u32;
    let mut walk = Walk::new(&view);
    loop {
        let start = walk.at();
        let Some(span) = walk.step(block) else { break };
        if keep(Keyed::of(&span?, block)) {
            out.extend_from_slice(&block[start..walk.at()]);
            kept += 1;
        }
    }
    if kept == view.records_held() {
        return Ok(None);
    }
    let codec = codec::pack(&mut out, view.codec())?;
    let attributes = view.attributes() & !layout::CODEC_BITS | i16::from(codec.number());
    let length = (out.len() - LENGTH_EXCLUDES) as i32;
    layout::put(&mut out, layout::ATTRIBUTES, attributes.to_be_bytes());
    layout::put(&mut out, layout::BATCH_LENGTH, length.to_be_bytes());
    layout::put(&mut out, layout::RECORD_COUNT, kept.to_be_bytes());
    layout::seal(&mut out);
    Ok(Some(out.freeze()))
}

fn block<'a>(
    view: &BatchView<'a>,
    inflated: &'a mut Vec<u8>,
    inflate_bytes_max: usize,
) -> Result<&'a [u8], BatchError> {
    match view.codec() {
        Codec::None => Ok(view.records_bytes()),
        codec => {
            *inflated = codec::inflate(codec, view.records_bytes(), inflate_bytes_max)?;
            Ok(inflated)
        }
    }
}
