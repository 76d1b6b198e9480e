//! Segments: files of entries.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::error::Error;

/// The body of an entry that lies in a segment.
#[derive(Clone, Debug)]
pub struct SegmentSlice {}

impl SegmentSlice {
    pub(crate) fn load(&self) -> Result<SmallVec<[Bytes; 1]>, Error> {
        todo!()
    }
}
