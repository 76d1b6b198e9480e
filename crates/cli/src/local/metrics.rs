//! A broker's metrics, as numbers.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Error, http_get};

const WITHIN: Duration = Duration::from_secs(2);

/// Asks one broker for its metrics, whether or not it runs.
#[derive(Clone, Copy, Debug)]
pub struct Scraper {
    pub(super) broker: u32,
    pub(super) http: SocketAddr,
}

impl Scraper {
    /// The metrics as they stand now: the sum over all labels, by name.
    ///
    /// # Errors
    /// It does not answer, or not with metrics.
    pub async fn metrics(&self) -> Result<BTreeMap<String, f64>, Error> {
        let failed = |source| Error::Metrics { broker: self.broker, source };
        let (status, text) = http_get(self.http, "/metrics", WITHIN).await.map_err(failed)?;
        if status != 200 {
            return Err(failed(io::Error::other(format!("HTTP status {status}"))));
        }
        Ok(sum_by_name(&text))
    }
}

/// Adds up the samples of each name in the Prometheus text format.
fn sum_by_name(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name_ends = line.find(['{', ' ']).unwrap_or(line.len());
        let (name, rest) = line.split_at(name_ends);
        // Labels may hold blanks; the value follows the brace.
        let value = rest.rsplit_once('}').map_or(rest, |(_, value)| value);
        if let Some(Ok(value)) = value.split_whitespace().next().map(str::parse::<f64>) {
            *sums.entry(name.to_owned()).or_default() += value;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_add_up_over_labels() {
        let text = "# TYPE tidelog_syncs_total counter\n\
                    tidelog_syncs_total{kind=\"log file\"} 5\n\
                    tidelog_syncs_total{kind=\"votes}\"} 2\n\
                    tidelog_bytes 1.5e3 1700000000\nbroken\n\n";
        let sums = sum_by_name(text);
        assert_eq!(sums.get("tidelog_syncs_total"), Some(&7.0));
        assert_eq!(sums.get("tidelog_bytes"), Some(&1500.0));
        assert_eq!(sums.len(), 2);
    }
}
