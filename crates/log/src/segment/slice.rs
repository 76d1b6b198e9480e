//! A handle on the body of an entry that lies in a segment.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::{Scanned, Segment};
use crate::entry::Header;
use crate::envelope::Envelope;
use crate::error::Error;

/// The body of an entry that lies in a segment.
#[derive(Clone, Debug)]
pub struct SegmentSlice {
    segment: Arc<Segment>,
    cuts: usize,
    position: u64,
    bytes: usize,
    header: Header,
}

impl SegmentSlice {
    pub(crate) fn new(segment: &Arc<Segment>, entry: &Scanned) -> Self {
        Self {
            segment: Arc::clone(segment),
            cuts: entry.cuts,
            position: entry.position,
            bytes: entry.envelope.table.envelope_bytes()
                + entry.envelope.table.body_bytes() as usize,
            header: entry.envelope.header,
        }
    }

    pub(crate) fn load(&self) -> Result<SmallVec<[Bytes; 1]>, Error> {
        let loaded = self.read();
        // Whatever was read, it counts only if nothing was cut meanwhile.
        if !self.segment.intact(self.cuts, self.position + self.bytes as u64) {
            return Err(Error::Gone { index: self.header.position.index });
        }
        loaded
    }

    fn read(&self) -> Result<SmallVec<[Bytes; 1]>, Error> {
        let mut bytes = BytesMut::zeroed(self.bytes);
        let read = self
            .segment
            .file()?
            .read_at(&mut bytes, self.position)
            .map_err(Error::io("read segment", &self.segment.path))?;
        bytes.truncate(read);
        let bytes = bytes.freeze();
        let corrupt = |reason: String| self.segment.corrupt(self.position, reason);
        let envelope = Envelope::decode(&bytes, self.segment.head.generation)
            .map_err(|flaw| corrupt(flaw.to_string()))?;
        if envelope.header != self.header {
            return Err(corrupt("another entry".to_owned()));
        }
        let body = bytes.slice(envelope.table.envelope_bytes()..);
        envelope.check_body(&body).map_err(|flaw| corrupt(flaw.to_string()))
    }
}
