//! The records of a batch, one after the other.

use std::iter::FusedIterator;

use bytes::Bytes;

use super::layout::HEADER_BYTES;
use super::record::Walk;
use super::{BatchError, BatchView, Codec, Record, codec};

/// The records of `batch`, which must be exactly one batch.
///
/// Uncompressed records are slices of `batch`. Compressed ones are inflated at once, into at most
/// `inflate_bytes_max` bytes. The CRC is not checked, see [`super::verify_crc`]. Records of a control
/// batch come like others; they are markers, see [`BatchView::is_control`].
///
/// # Errors
/// When the header is malformed, the codec not in this build, or inflating fails or passes the bound.
/// A malformed record is an error of the iterator, and its end.
pub fn records(batch: &Bytes, inflate_bytes_max: usize) -> Result<Records, BatchError> {
    Records::of(&BatchView::new(batch)?, batch, inflate_bytes_max)
}

/// The iterator of [`records`].
#[derive(Clone, Debug)]
pub struct Records {
    block: Bytes,
    walk: Walk,
}

impl Records {
    /// `view` must be of `batch`.
    pub(super) fn of(
        view: &BatchView<'_>,
        batch: &Bytes,
        inflate_bytes_max: usize,
    ) -> Result<Self, BatchError> {
        let block = match view.codec() {
            Codec::None => batch.slice(HEADER_BYTES..),
            codec => codec::inflate(codec, view.records_bytes(), inflate_bytes_max)?.into(),
        };
        Ok(Self { block, walk: Walk::new(view) })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.walk.step(&self.block)?;
        Some(step.map(|span| span.record(&self.block)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.walk.left()))
    }
}

impl FusedIterator for Records {}
