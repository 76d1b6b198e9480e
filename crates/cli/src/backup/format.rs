//! The lines of a backup: one topic in one file.
//!
//! ```json
//! {"tidelog_backup":1,"topic":"orders","cluster":"6f1c…","exported":"2026-11-02T10:00:00.000Z",
//!  "partitions":2,"replication_factor":3,"configs":{"retention.ms":"5000"}}
//! {"group":"billing","partition":0,"offset":40,"metadata":""}
//! {"topic":"orders","partition":0,"offset":37,"timestamp":"…","key":"c42","value":"…","headers":[]}
//! {"block":1,"crc32c":"8a2c41f0"}
//! {"end":{"records":1,"groups":1,"partitions":[{"partition":0,"start":37,"end":38,"crc32c":"…"},
//!  {"partition":1,"start":5,"end":5,"crc32c":"00000000"}]},"crc32c":"03d1c5aa"}
//! ```
//! (lines are broken here, not in the file)
//!
//! - The head, then what groups have committed, then the records, then the end; a line feed behind each.
//! - Records are lines of `consume --json`, in the order of their offsets within a partition.
//! - `block` stands behind so many records at most 1,000 lines or 1 MiB after the last: a place where
//!   damage is found before the end is reached.
//! - The last `crc32c` of `block` and `end` is CRC-32C over every byte of the file before its 8 digits,
//!   in lower case; only `"}` and a line feed follow them. So it covers all lines and their order.
//! - `end` counts what the file holds; the `crc32c` of a partition is that of [`Sums`], 0 without
//!   records. A file without it, or with anything behind it, is none.
//!
//! [`Sums`]: super::sums::Sums

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version of the format, raised when an old reader would misread it.
pub(crate) const VERSION: u32 = 1;
/// A block ends at the first of the two.
pub(super) const BLOCK_LINES_MAX: u64 = 1_000;
pub(super) const BLOCK_BYTES_MAX: u64 = 1 << 20;
/// The longest line: a record that fills 64 MiB with bytes that JSON escapes. It bounds the memory that a
/// file without line ends takes.
pub(super) const LINE_BYTES_MAX: u64 = 512 << 20;

/// What stands before the checksum on a line that has one, and behind it.
pub(super) const BEFORE_CHECKSUM: &str = ",\"crc32c\":\"";
pub(super) const BEHIND_CHECKSUM: &str = "\"}\n";
/// Digits of a checksum.
pub(super) const CHECKSUM_DIGITS: usize = 8;

/// What the lines begin with.
pub(super) const GROUP: &[u8] = b"{\"group\":";
pub(super) const BLOCK: &[u8] = b"{\"block\":";
pub(super) const END: &[u8] = b"{\"end\":";

/// The first line: the topic as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    /// The version of the format.
    pub(super) tidelog_backup: u32,
    /// Name of the topic.
    pub(super) topic: String,
    /// Id of the cluster.
    pub(super) cluster: String,
    /// When the export began, as RFC 3339.
    pub(super) exported: String,
    /// How many partitions.
    pub(super) partitions: u32,
    /// How many replicas of each.
    pub(super) replication_factor: u32,
    /// The configs of the topic's own.
    pub(super) configs: BTreeMap<String, String>,
}

/// What a group has committed for a partition, at an offset of the topic that was exported.
///
/// Without the leader epoch: that of another topic means nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Commit {
    /// Id of the group.
    pub(super) group: String,
    /// The partition.
    pub(super) partition: u32,
    /// The first offset that is not done.
    pub(super) offset: u64,
    /// What the group kept beside it.
    pub(super) metadata: String,
}

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    /// How many records.
    pub(super) records: u64,
    /// How many lines about groups.
    pub(super) groups: u64,
    /// Every partition, by number.
    pub(super) partitions: Vec<PartitionEnd>,
}

/// What the file holds of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartitionEnd {
    /// Its number.
    pub(super) partition: u32,
    /// The offset of its first record; `end` when there is none.
    pub(super) start: u64,
    /// The offset behind its last one.
    pub(super) end: u64,
    /// Over its records.
    #[serde(rename = "crc32c")]
    pub(super) crc: Crc,
}

/// A checksum, as 8 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crc(pub(super) u32);

impl std::fmt::Display for Crc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Serialize for Crc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Crc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let crc = u32::from_str_radix(&text, 16).ok().map(Self);
        let written = crc.filter(|crc| crc.to_string() == text);
        written.ok_or_else(|| serde::de::Error::custom("a checksum has 8 digits in lower case"))
    }
}

/// A line with a checksum, before it: `{"block":…` or `{"end":…`, without the brace that closes it.
pub(super) fn open(name: &str, value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&BTreeMap::from([(name, value)]))?;
    line.pop();
    line.extend(BEFORE_CHECKSUM.as_bytes());
    Ok(line)
}
