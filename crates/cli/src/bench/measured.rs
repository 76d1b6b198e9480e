//! What a load of a cluster gave.

use std::time::Duration;

use serde::Serialize;

use super::latency::Percentiles;
use crate::output::Page;

/// How much in what time.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Rate {
    pub(super) records: u64,
    /// Of the values.
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) records_per_s: f64,
    /// 10^6 bytes of values per second.
    pub(super) mb_per_s: f64,
}

impl Rate {
    pub(super) fn new(records: u64, bytes: u64, took: Duration) -> Self {
        let seconds = took.as_secs_f64();
        Self {
            records,
            bytes,
            seconds,
            records_per_s: records as f64 / seconds,
            mb_per_s: bytes as f64 / seconds / 1e6,
        }
    }

    /// For people.
    pub(super) fn facts(&self) -> [(&'static str, String); 4] {
        [
            ("records", self.records.to_string()),
            ("seconds", format!("{:.2}", self.seconds)),
            ("records/s", format!("{:.0}", self.records_per_s)),
            ("MB/s", format!("{:.1}", self.mb_per_s)),
        ]
    }
}

/// What `produce`, `consume` and `e2e` measure.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) topic: String,
    pub(super) partitions: u32,
    pub(super) clients: u32,
    /// Of each value that was written; missing where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value_bytes: Option<u32>,
    #[serde(flatten)]
    pub(super) rate: Rate,
    #[serde(flatten)]
    pub(super) latency: Percentiles,
    /// Whether all of it was read back as written; missing where nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verified: Option<bool>,
}

impl Measured {
    /// For people.
    pub(super) fn page(&self) -> Page {
        let page = Page::new().facts(self.rate.facts().into_iter().chain(self.latency.facts()));
        match self.verified {
            None => page,
            Some(true) => page.verdict(true, "everything was read back as it was written"),
            Some(false) => page.verdict(false, "what was read back is not what was written"),
        }
    }
}
