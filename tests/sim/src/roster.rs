//! Brokers that come and go: in some seeds machines join the running cluster, and some of the first
//! brokers are drained, removed, and taken away, while the faults go on.
//!
//! The plan is here, and what happens to the machines; what the operator does stands in `steward`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use turmoil::Sim;

use crate::cluster::{Machine, host};
use crate::dice::Dice;
use crate::faults::{Fault, Kind};
use crate::recovering::until_all_ended;
use crate::simulation::go_on;
use crate::workload::Stage;

/// In so many seeds in a hundred brokers come and go.
const PERCENT: u64 = 20;

/// So often, in a hundred cases, something befalls a broker that comes or goes on its way.
const BEFALLS_PERCENT: u64 = 60;

/// What does: they are cut off, or end and come back.
const BEFALLS: [Kind; 4] = [Kind::Kill, Kind::PowerLoss, Kind::PowerLossAtOperation, Kind::Cut];

/// How soon a process of a removed broker ends by itself.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// What becomes of the machine of a removed broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It is switched off for good.
    Off,
    /// It is left alone: its process must end by itself.
    LeftOn,
    /// It is switched off, and on again in the end: its process must end by itself then.
    ComesBack,
}

/// Who comes and who goes.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    /// When brokers join, by their ids, which follow those of the first.
    pub(crate) joins: BTreeMap<u32, Duration>,
    /// First brokers that leave, one after the other.
    pub(crate) leaves: Vec<u32>,
    /// When the operator begins with that.
    pub(crate) leaves_from: Duration,
    /// How often it may call a drain off, and begin again.
    pub(crate) calls_off_max: u64,
    /// What becomes of those that left.
    pub(crate) after: After,
}

impl Roster {
    /// The roster of a seed, if it has one, whose first `brokers` meet faults from one time to another.
    pub(crate) fn draw(seed: u64, brokers: u32, from: Duration, heal: Duration) -> Option<Self> {
        let mut dice = Dice::new(seed, "roster");
        if !dice.percent(PERCENT) || heal <= from {
            return None;
        }
        let third = (heal - from).as_millis() as u64 / 3;
        let join = dice.within(1..3) as u32;
        let leave = dice.within(1..u64::from(join) + 1) as usize;
        let joins = (1..=join).map(|n| (brokers + n, from + dice.ms(0..third))).collect();
        let mut first: Vec<u32> = (1..=brokers).collect();
        let mut leaves = || first.swap_remove(dice.within(0..first.len() as u64) as usize);
        let leaves = (0..leave).map(|_| leaves()).collect();
        Some(Self {
            joins,
            leaves,
            leaves_from: from + Duration::from_millis(third) + dice.ms(0..third),
            calls_off_max: dice.within(0..4),
            after: dice.pick(&[After::Off, After::LeftOn, After::ComesBack]),
        })
    }

    /// The first that leaves loses its disk: its process ends for that, and must be started again to be
    /// told that it was removed.
    pub(crate) fn loses_disk(&mut self) {
        if self.after == After::LeftOn {
            self.after = After::ComesBack;
        }
    }

    /// The ids that are left in the end, of the first `brokers` and those that join.
    pub(crate) fn left(&self, brokers: u32) -> impl Iterator<Item = u32> {
        let all = (1..=brokers).chain(self.joins.keys().copied());
        all.filter(|id| !self.leaves.contains(id))
    }

    /// What befalls those that come and go, besides whatever else happens: as they join, and as replicas
    /// go from some to others.
    pub(crate) fn faults(&self, seed: u64) -> Vec<Fault> {
        let mut dice = Dice::new(seed, "roster faults");
        let joins = self.joins.iter().map(|(id, at)| (*id, *at));
        let move_replicas = self.leaves.iter().chain(self.joins.keys());
        let move_replicas = move_replicas.map(|id| (*id, self.leaves_from));
        let mut faults = Vec::new();
        for (broker, from) in joins.chain(move_replicas) {
            let (at, lasts) = (from + dice.ms(0..5_000), dice.ms(50..3_000));
            let (kind, roll) = (dice.pick(&BEFALLS), dice.roll());
            if dice.percent(BEFALLS_PERCENT) {
                faults.push(Fault {
                    at,
                    lasts,
                    kind,
                    broker,
                    aim: None,
                    other: broker,
                    dice: roll,
                });
            }
        }
        faults
    }

    /// Starts whose time has come, and takes away who was removed.
    pub(crate) fn step(
        &self,
        now: Duration,
        sim: &mut Sim<'_>,
        machines: &mut [Machine],
        stage: &Stage,
    ) {
        for (id, at) in &self.joins {
            let machine = &mut machines[*id as usize - 1];
            // Who joins is never taken away.
            if *at <= now && !machine.is_there {
                stage.trace.at(now, format_args!("broker {id} is set up, to join"));
                machine.set_up(sim);
            }
        }
        if self.after == After::LeftOn {
            return;
        }
        for id in stage.history.lock().changes.removed.keys() {
            let machine = &mut machines[*id as usize - 1];
            if machine.is_there {
                stage.trace.at(now, format_args!("broker {id} is taken away"));
                machine.take_away(sim);
            }
        }
    }

    /// Everything was judged. Who was removed and has a machine must not run on it; then everything is
    /// read once more.
    pub(crate) fn turn_away(
        &self,
        sim: &mut Sim<'_>,
        machines: &mut [Machine],
        stage: &Stage,
    ) -> Result<(), String> {
        if self.after == After::Off {
            return Ok(());
        }
        let removed = stage.history.lock().changes.removed.clone();
        for id in removed.keys() {
            let machine = &mut machines[*id as usize - 1];
            if !machine.is_there {
                stage.trace.at(sim.elapsed(), format_args!("broker {id} is back"));
                machine.set_up(sim);
            }
        }
        go_on(sim, ENDS_WITHIN)?;
        for id in removed.keys() {
            let ended = format!("broker {} ended: Err(", host(*id));
            let was_told = |line: &str| line.contains(&ended) && line.contains("removed from");
            if !stage.trace.look(|text| text.lines().any(was_told)) {
                let what = format!("{id} goes on, {ENDS_WITHIN:?} after it should have ended");
                stage.history.violated("the_removed_are_turned_away", what);
            }
        }
        sim.client("inspector", stage.clone().look_again());
        until_all_ended(sim)
    }
}

impl fmt::Display for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, at) in &self.joins {
            writeln!(f, "  {at:?} broker {id} joins")?;
        }
        let Self { leaves, leaves_from, calls_off_max, after, .. } = self;
        writeln!(
            f,
            "  {leaves_from:?} brokers {leaves:?} leave in turn, called off up to {calls_off_max} \
             times, then {after:?}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_brokers_are_left_at_least_and_a_fifth_of_the_seeds_has_a_roster() {
        let (from, heal) = (Duration::from_secs(5), Duration::from_secs(40));
        let rosters: Vec<_> =
            (0..1_000).filter_map(|seed| Roster::draw(seed, 3, from, heal)).collect();
        assert!((150..250).contains(&rosters.len()), "{}", rosters.len());
        for roster in &rosters {
            assert!(roster.left(3).count() >= 3, "{roster}");
            assert!(roster.joins.values().all(|at| *at < roster.leaves_from), "{roster}");
            assert!(roster.leaves_from < heal, "{roster}");
        }
    }
}
