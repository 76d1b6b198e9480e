//! Cuts concatenated batches apart.

use std::iter::FusedIterator;

use bytes::Bytes;

use super::{BatchError, layout};

/// Cuts `bytes` into the batches that lie one behind the other in it, without copying.
///
/// Each is whole by its length field; nothing else of it is checked. The first error ends the
/// iteration, since nobody knows where the next batch would begin.
#[must_use]
pub fn split(bytes: &Bytes) -> Split {
    Split { rest: bytes.clone() }
}

/// The iterator of [`split`].
#[derive(Clone, Debug)]
pub struct Split {
    rest: Bytes,
}

impl Split {
    fn cut(&mut self) -> Result<Bytes, BatchError> {
        let needed = layout::batch_bytes(layout::head(&self.rest)?)? as usize;
        if self.rest.len() < needed {
            return Err(BatchError::Truncated { bytes: self.rest.len(), needed });
        }
        Ok(self.rest.split_to(needed))
    }
}

impl Iterator for Split {
    type Item = Result<Bytes, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let cut = self.cut();
        if cut.is_err() {
            self.rest.clear();
        }
        Some(cut)
    }
}

impl FusedIterator for Split {}
