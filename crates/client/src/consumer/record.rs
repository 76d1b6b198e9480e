//! Records that a consumer hands out.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::reading::Reading;
use crate::ReadRecord;

/// A record that a consumer handed out: a [`ReadRecord`] that can be marked.
#[derive(Clone)]
pub struct ConsumerRecord {
    record: ReadRecord,
    reading: Arc<Reading>,
}

impl ConsumerRecord {
    pub(super) fn new(record: ReadRecord, reading: Arc<Reading>) -> Self {
        Self { record, reading }
    }

    /// Marks the record as processed, see [`super::Consumer::mark`].
    pub fn mark(&self) {
        self.reading.mark(self.record.offset);
    }

    /// Whether the consumer still holds the record's partition as it did when it handed the record out.
    /// Otherwise a mark counts for nothing: the record comes again, to this consumer or to another.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.reading.is_held()
    }

    /// The record alone.
    #[must_use]
    pub fn into_record(self) -> ReadRecord {
        self.record
    }
}

impl Deref for ConsumerRecord {
    type Target = ReadRecord;

    fn deref(&self) -> &ReadRecord {
        &self.record
    }
}

impl fmt::Debug for ConsumerRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}
