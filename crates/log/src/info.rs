//! Stands in for `tidelog_types::batch` until that has landed.

use bytes::Bytes;
use tidelog_types::{Offset, Timestamp};

/// A batch's head.
#[derive(Clone, Debug)]
pub struct Info {
    /// First offset.
    pub base_offset: Offset,
    /// Leader epoch.
    pub leader_epoch: i32,
    /// Records.
    pub count: u32,
    /// Newest timestamp.
    pub max_timestamp: Timestamp,
}

impl Info {
    pub(crate) fn parse(part: &Bytes) -> Result<Self, String> {
        if part.len() < 61 || part[16] != 2 {
            return Err("no batch of format 2".into());
        }
        let i32_at =
            |at: usize| i32::from_be_bytes([part[at], part[at + 1], part[at + 2], part[at + 3]]);
        let mut max = [0; 8];
        max.copy_from_slice(&part[35..43]);
        if i32_at(8) as usize + 12 != part.len() {
            return Err("batch length is not the part's".into());
        }
        Ok(Self {
            base_offset: Offset::ZERO,
            leader_epoch: i32_at(12),
            count: u32::try_from(i32_at(57)).map_err(|_| "negative count")?,
            max_timestamp: Timestamp(i64::from_be_bytes(max)),
        })
    }
}
