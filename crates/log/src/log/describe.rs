//! What the segments are, and which of them retention may take.

use std::time::Duration;

use tidelog_types::{Offset, Timestamp};

use super::Log;
use super::env::SegmentInfo;

impl Log {
    /// The offset up to which whole closed segments may be trimmed at `now`: those whose newest
    /// append time is older than `retention`, and the oldest ones while all together hold more
    /// than `bytes`.
    #[must_use]
    pub fn retention(
        &self,
        now: Timestamp,
        retention: Option<Duration>,
        bytes: Option<u64>,
    ) -> Option<Offset> {
        let oldest = retention.map(|retention| {
            now.0.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX))
        });
        let segments = self.segments();
        let mut left: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let closed = &segments[..segments.len() - 1];
        let trimmed = closed.iter().take_while(|segment| {
            let expired = oldest.is_some_and(|oldest| segment.append_time.0 < oldest);
            let over = bytes.is_some_and(|bytes| left > bytes);
            left -= segment.bytes;
            expired || over
        });
        trimmed.last().map(|segment| segment.end_offset)
    }

    /// The segments whose files exist, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let state = self.state();
        let ends = state.segments.iter().skip(1).map(|next| next.head.frontier);
        state
            .segments
            .iter()
            .zip(ends.chain([state.synced]))
            .map(|(segment, end)| SegmentInfo {
                first_index: segment.first_index(),
                end_index: end.next_index(),
                base_offset: segment.base_offset(),
                end_offset: end.next_offset,
                bytes: segment.end(),
                append_time: end.append_time,
                started: segment.started(),
            })
            .collect()
    }

    /// The bytes of all segment files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state().segments.iter().map(|segment| segment.end()).sum()
    }
}
