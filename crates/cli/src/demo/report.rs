//! What the demo found, for people and for programs.

use std::fmt;

use serde::Serialize;

use crate::audit::Verdict;
use crate::progress::thousands;

/// The outcome of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the audit found; its fields stand beside the others.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Whether the audit holds.
    pub holds: bool,
    /// Sends that ended with an error.
    pub failed: u64,
    /// The first of those errors.
    pub failures: Vec<String>,
    /// The partition whose leader was killed.
    pub killed_partition: u32,
    /// The broker that led it then.
    pub killed_broker: u32,
    /// The broker that led it when the killed one came back, if one did.
    pub new_leader: Option<u32>,
    /// Records sent to that partition and not acked when its leader was killed.
    pub in_flight_at_kill: u64,
    /// The longest time between two consecutive acks of that partition, from the last ack before the
    /// kill on.
    pub gap_ms_max: f64,
    /// Acked records by the time of producing, the pause included.
    pub records_per_s: f64,
    /// Acked bytes of keys and values, in 10^6 bytes, by the same time.
    pub mb_per_s: f64,
    /// The time of producing.
    pub produce_s: f64,
    /// What each broker did to make it durable.
    pub brokers: Vec<BrokerReport>,
    /// What the run's records were made from.
    pub seed: u64,
    /// What was run.
    #[serde(skip)]
    pub shape: Shape,
}

/// The size of a run.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Brokers.
    pub brokers: u32,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Producers.
    pub producers: u32,
}

/// The work of one broker over all its lives but the one that only served the read.
#[derive(Clone, Debug, Serialize)]
pub struct BrokerReport {
    /// The broker.
    pub broker: u32,
    /// Calls of fdatasync or fsync.
    pub fdatasync_calls: u64,
    /// Bytes written before them.
    pub synced_bytes: u64,
}

impl Report {
    /// One JSON object on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings have a form in JSON")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { brokers, partitions, producers } = self.shape;
        let topic = super::TOPIC;
        writeln!(f, "What happened")?;
        writeln!(
            f,
            "  {brokers} brokers, topic {topic} with {partitions} partitions of {brokers} replicas, \
             {producers} producers"
        )?;
        write!(
            f,
            "  broker {}, leader of {topic}/{}, was killed with {} records in flight on it",
            self.killed_broker,
            self.killed_partition,
            thousands(self.in_flight_at_kill),
        )?;
        match self.new_leader {
            Some(leader) => writeln!(f, "; broker {leader} took over")?,
            None => writeln!(f)?,
        }
        writeln!(
            f,
            "  at the end all {brokers} were killed, started again, and read by a new process"
        )?;
        writeln!(f, "\nAudit")?;
        let verdict = &self.verdict;
        let counts = [
            ("sent", verdict.sent),
            ("acked", verdict.acked),
            ("read", verdict.read),
            ("lost", verdict.lost),
            ("duplicated", verdict.duplicated),
            ("out of order", verdict.out_of_order),
        ];
        for (name, count) in counts {
            writeln!(f, "  {name:<14}{:>12}", thousands(count))?;
        }
        // Faults that people do not ask for are shown when there are any.
        let rare = [
            ("changed", verdict.changed),
            ("gaps", verdict.gaps),
            ("invented", verdict.invented),
            ("retracted", verdict.retracted),
            ("failed sends", self.failed),
        ];
        for (name, count) in rare.into_iter().filter(|(_, count)| *count > 0) {
            writeln!(f, "  {name:<14}{:>12}", thousands(count))?;
        }
        let sentences = verdict.examples.iter().chain(&self.failures);
        sentences.into_iter().try_for_each(|sentence| writeln!(f, "    {sentence}"))?;
        writeln!(f, "\nSpeed")?;
        let pause = format!("longest pause of {topic}/{}", self.killed_partition);
        writeln!(f, "  {pause:<28}{:>10.0} ms", self.gap_ms_max)?;
        writeln!(
            f,
            "  {:<28}{:>10} records/s   {:.1} MB/s",
            "produced and acked",
            thousands(self.records_per_s as u64),
            self.mb_per_s
        )?;
        for broker in &self.brokers {
            writeln!(
                f,
                "  {:<28}{:>10} fdatasync calls   {:.1} MB synced",
                format!("broker {}", broker.broker),
                thousands(broker.fdatasync_calls),
                broker.synced_bytes as f64 / 1e6
            )?;
        }
        let sentence = if self.holds {
            "The audit holds: every acked record was read back, once, in order."
        } else {
            "THE AUDIT FAILS."
        };
        write!(f, "\n{sentence}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lost: u64) -> Report {
        let verdict =
            Verdict { sent: 200_000, acked: 200_000, read: 200_000, lost, ..Verdict::default() };
        Report {
            holds: verdict.holds(),
            verdict,
            failed: 0,
            failures: Vec::new(),
            killed_partition: 1,
            killed_broker: 2,
            new_leader: Some(3),
            in_flight_at_kill: 4_211,
            gap_ms_max: 412.5,
            records_per_s: 98_123.4,
            mb_per_s: 21.25,
            produce_s: 2.04,
            brokers: vec![BrokerReport {
                broker: 1,
                fdatasync_calls: 1_234,
                synced_bytes: 48_200_000,
            }],
            seed: 7,
            shape: Shape { brokers: 3, partitions: 3, producers: 4 },
        }
    }

    #[test]
    fn report_is_read_at_a_glance() {
        let text = report(0).to_string();
        for line in [
            "  sent               200,000\n",
            "  lost                     0\n",
            "killed with 4,211 records in flight on it; broker 3 took over\n",
            "longest pause of orders/1          412 ms\n",
            "The audit holds",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        assert!(!text.contains("gaps"), "{text}");
        assert!(report(1).to_string().ends_with("THE AUDIT FAILS."));
    }

    #[test]
    fn json_has_what_programs_look_for() {
        let json: serde_json::Value = serde_json::from_str(&report(0).to_json()).unwrap();
        for field in [
            "sent",
            "acked",
            "read",
            "lost",
            "duplicated",
            "out_of_order",
            "gap_ms_max",
            "records_per_s",
        ] {
            assert!(json[field].is_number(), "{field}");
        }
        assert_eq!(json["holds"], true);
        assert_eq!(json["brokers"][0]["fdatasync_calls"], 1_234);
    }
}
