//! What becomes of the replicas of a broker that is gone, in a line.

use std::time::Duration;

use jiff::SignedDuration;
use serde::Serialize;
use tidelog_client::admin::OutageFacts;
use tidelog_types::Timestamp;

use crate::moment::Zone;
use crate::output::plural;

/// A broker that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Outage {
    pub(super) broker: u32,
    /// For how long it has been missed, at least; `null`: not known.
    pub(super) gone_ms: Option<u64>,
    /// In what time its replicas are made anew, 0 for now; `null`: they are not, or it is not known.
    pub(super) rebuild_in_ms: Option<u64>,
    pub(super) draining: bool,
    pub(super) replicas: u32,
    pub(super) moving: u32,
    pub(super) rebuilt_on: Vec<Share>,
    pub(super) without_place: u32,
    pub(super) without_quorum: u32,
}

/// What a broker would be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Share {
    pub(super) broker: u32,
    pub(super) replicas: u32,
}

impl From<OutageFacts> for Outage {
    fn from(facts: OutageFacts) -> Self {
        let ms = |span: Duration| span.as_millis() as u64;
        let share = |(broker, replicas): (tidelog_types::BrokerId, u32)| Share {
            broker: broker.0,
            replicas,
        };
        Self {
            broker: facts.broker.0,
            gone_ms: facts.gone.map(ms),
            rebuild_in_ms: facts.rebuild_in.map(ms),
            draining: facts.draining,
            replicas: facts.replicas,
            moving: facts.moving,
            rebuilt_on: facts.rebuilt_on.into_iter().map(share).collect(),
            without_place: facts.without_place,
            without_quorum: facts.without_quorum,
        }
    }
}

impl Outage {
    /// The same without what changes from one look to the next though nothing has happened.
    pub(super) fn at_rest(&self) -> Self {
        let due = self.rebuild_in_ms.map(|left| u64::from(left > 0));
        Self { gone_ms: None, rebuild_in_ms: due, ..self.clone() }
    }

    /// The line. `rebuild_after_ms` is 0 where nothing is made anew by itself.
    pub(super) fn line(&self, rebuild_after_ms: Option<u64>, now: Timestamp, zone: Zone) -> String {
        let Some(gone) = self.gone_ms else {
            let id = self.broker;
            return format!(
                "broker {id} is gone; its cluster's controller does not tell for how long"
            );
        };
        let mut line = format!("broker {} is gone for {} or more", self.broker, seconds(gone));
        let can: u32 = self.rebuilt_on.iter().map(|share| share.replicas).sum();
        if can > 0 {
            line += &format!("; {}", self.rebuilt(can, rebuild_after_ms, now, zone));
        }
        if self.moving > 0 {
            line += &format!("; {} being made anew", are(self.moving));
        }
        if self.without_place > 0 {
            line += &format!(
                "; {} cannot be made anew: no other broker alive has room and none of the partition",
                plural(self.without_place.into(), "replica")
            );
        }
        if self.without_quorum > 0 {
            line += &format!(
                "; {} cannot be made anew: the partition has no leader that could move it",
                plural(self.without_quorum.into(), "replica")
            );
        }
        if self.replicas + self.moving == 0 {
            line += "; it has no replicas: tidelog cluster remove ";
            line += &self.broker.to_string();
        }
        line
    }

    fn rebuilt(&self, can: u32, after_ms: Option<u64>, now: Timestamp, zone: Zone) -> String {
        let onto: Vec<_> = self.rebuilt_on.iter().map(|share| share.broker.to_string()).collect();
        let onto = match onto.as_slice() {
            [one] => format!("broker {one}"),
            [most @ .., last] => format!("brokers {} and {last}", most.join(", ")),
            [] => String::new(),
        };
        let what = format!("{} of it", plural(can.into(), "replica"));
        match self.rebuild_in_ms {
            Some(0) => format!("{what} {} made anew on {onto} now", be(can)),
            Some(left) => {
                let at = Timestamp(now.0.saturating_add(left as i64));
                format!("{what} {} made anew on {onto} at {}", be(can), zone.show(at))
            }
            None if after_ms == Some(0) => format!(
                "{what} would be made anew on {onto}; off: set `replicas.rebuild_after` to switch on, \
                 or tidelog cluster drain {}",
                self.broker
            ),
            None => format!("{what} would be made anew on {onto}"),
        }
    }
}

fn be(count: u32) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

fn are(count: u32) -> String {
    format!("{} {}", plural(count.into(), "replica"), be(count))
}

fn seconds(ms: u64) -> String {
    format!("{:#}", SignedDuration::from_secs((ms / 1_000) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(outage: &Outage, after_ms: Option<u64>, expected: &str) {
        let now = Timestamp(1_700_000_000_000);
        assert_eq!(outage.line(after_ms, now, Zone::Utc), expected);
    }

    #[test]
    fn it_says_where_replicas_go_and_when_or_why_not() {
        let on = |broker, replicas| Share { broker, replicas };
        let outage = Outage {
            broker: 2,
            gone_ms: Some(130_999),
            rebuild_in_ms: Some(1_669_000),
            replicas: 3,
            rebuilt_on: vec![on(4, 2), on(5, 1)],
            ..Outage::default()
        };
        check(
            &outage,
            Some(1_800_000),
            "broker 2 is gone for 2m 10s or more; 3 replicas of it are made anew on brokers 4 and 5 at \
             2023-11-14T22:41:09.000Z",
        );
        check(
            &Outage { rebuild_in_ms: None, ..outage.clone() },
            Some(0),
            "broker 2 is gone for 2m 10s or more; 3 replicas of it would be made anew on brokers 4 and \
             5; off: set `replicas.rebuild_after` to switch on, or tidelog cluster drain 2",
        );
        check(
            &Outage {
                rebuild_in_ms: Some(0),
                rebuilt_on: vec![on(5, 1)],
                moving: 2,
                without_place: 1,
                without_quorum: 2,
                ..outage.clone()
            },
            Some(1_000),
            "broker 2 is gone for 2m 10s or more; 1 replica of it is made anew on broker 5 now; 2 \
             replicas are being made anew; 1 replica cannot be made anew: no other broker alive has \
             room and none of the partition; 2 replicas cannot be made anew: the partition has no \
             leader that could move it",
        );
        let empty = Outage { broker: 7, gone_ms: Some(900), ..Outage::default() };
        check(
            &empty,
            Some(0),
            "broker 7 is gone for 0s or more; it has no replicas: tidelog cluster remove 7",
        );
        check(
            &Outage { broker: 7, ..Outage::default() },
            None,
            "broker 7 is gone; its cluster's controller does not tell for how long",
        );
    }

    #[test]
    fn time_that_passes_is_no_news() {
        let of = |gone_ms, left| Outage {
            gone_ms: Some(gone_ms),
            rebuild_in_ms: Some(left),
            ..Outage::default()
        };
        assert_eq!(of(1, 10).at_rest(), of(2, 9).at_rest());
        assert_ne!(of(1, 10).at_rest(), of(11, 0).at_rest());
    }
}
