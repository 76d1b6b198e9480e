//! How long things took, as a distribution.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest time that is told apart.
const LATENCY_MAX: Duration = Duration::from_secs(600);

/// Times in microseconds, to three digits.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        let max = LATENCY_MAX.as_micros() as u64;
        Self(Histogram::new_with_max(max, 3).expect("the bounds make sense"))
    }

    pub(super) fn record(&mut self, took: Duration) {
        self.0.saturating_record(took.as_micros() as u64);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        let ms = |quantile| self.0.value_at_quantile(quantile) as f64 / 1_000.0;
        Percentiles {
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: self.0.max() as f64 / 1_000.0,
        }
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut latencies = Self::new();
        times.into_iter().for_each(|took| latencies.record(took));
        latencies
    }
}

/// What is told of a distribution, in milliseconds; zeros when it is empty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
}

impl Percentiles {
    /// For people.
    pub(super) fn facts(&self) -> [(&'static str, String); 4] {
        [
            ("p50 ms", format!("{:.2}", self.p50_ms)),
            ("p99 ms", format!("{:.2}", self.p99_ms)),
            ("p99.9 ms", format!("{:.2}", self.p999_ms)),
            ("max ms", format!("{:.2}", self.max_ms)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_three_digits() {
        let told = (1..=1_000).map(Duration::from_millis).collect::<Latencies>().percentiles();
        for (found, expected) in
            [(told.p50_ms, 500.0), (told.p99_ms, 990.0), (told.p999_ms, 999.0), (told.max_ms, 1e3)]
        {
            assert!((found / expected - 1.0).abs() < 0.002, "{found} {expected}");
        }
    }

    #[test]
    fn nothing_took_no_time() {
        assert_eq!(Latencies::new().percentiles().max_ms, 0.0);
    }
}
