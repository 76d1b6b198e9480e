//! What a seed stands for: the cluster, the load, and the faults with their times, all drawn before
//! anything runs, so that a plan can be printed whole.
//!
//! Each seed allows some kinds of faults and not others (swarm testing: Groce et al., ISSTA 2012):
//! with all kinds in every run, the frequent ones hide what the rare ones would show.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::dice::Dice;
use crate::faults::{Fault, Kind};
use crate::roster::Roster;

/// When faults begin: the cluster has formed and the topic is there, or the seed is void.
const FAULTS_FROM: Duration = Duration::from_secs(5);

/// The part of a run that is left for healing.
const HEALED_SHARE: u32 = 3;

/// Of so many seeds in a hundred one copy of something is gone for good.
const LASTING_PERCENT: u64 = 25;

/// In so many seeds in a hundred replicas move; with them there are five brokers.
const MOVES_PERCENT: u64 = 25;

/// When lulls begin, over and over, and how long each lasts.
const LULL_EVERY: Duration = Duration::from_secs(10);
const LULL: Duration = Duration::from_secs(2);

/// The plan of one seed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The seed.
    pub(crate) seed: u64,
    /// Brokers that form the cluster.
    pub(crate) brokers: u32,
    /// Whether replicas move.
    pub(crate) moves: bool,
    /// Who joins and who leaves, if anybody does.
    pub(crate) roster: Option<Roster>,
    /// Partitions of the topic, of three replicas each.
    pub(crate) partitions: u32,
    /// Size of a segment.
    pub(crate) segment_bytes: u64,
    /// Producers, each a client of its own.
    pub(crate) producers: u32,
    /// Bytes that a record's value has at most.
    pub(crate) value_bytes_max: u64,
    /// Records that a producer sends at once, at most.
    pub(crate) round_max: u64,
    /// Size at which a producer closes a batch: small ones go several at a time.
    pub(crate) batch_bytes: usize,
    /// How long a producer waits for more records.
    pub(crate) linger: Duration,
    /// Whether there are consumer groups.
    pub(crate) groups: bool,
    /// Whether there is a compacted topic.
    pub(crate) views: bool,
    /// Pause of a producer between two rounds, at most.
    pub(crate) pause_ms_max: u64,
    /// How soon an idle group sleeps; zero: never.
    pub(crate) sleep_after: Duration,
    /// Whether all producers rest now and then, so that partitions fall asleep.
    pub(crate) lulls: bool,
    /// The longest that a message is on its way.
    pub(crate) latency_ms_max: u64,
    /// The longest that a healthy disk takes for a flush.
    pub(crate) flush_ms_max: u64,
    /// When everything is healed.
    pub(crate) heal: Duration,
    /// When the load ends.
    pub(crate) end: Duration,
    /// What goes wrong, in the order of time.
    pub(crate) faults: Vec<Fault>,
}

impl Plan {
    /// The plan of `seed` for `length` of load; without faults when `calm`.
    pub(crate) fn new(seed: u64, length: Duration, calm: bool) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let mut sleep = Dice::new(seed, "sleep");
        let moves = dice.percent(MOVES_PERCENT);
        let brokers = if !moves && dice.percent(75) { 3 } else { 5 };
        let end = length;
        let heal = end - end / HEALED_SHARE;
        let mut plan = Self {
            seed,
            brokers,
            moves,
            roster: Roster::draw(seed, brokers, FAULTS_FROM, heal),
            partitions: dice.within(1..5) as u32,
            segment_bytes: dice.pick(&[4096, 16 * 1024, 64 * 1024, 1024 * 1024]),
            producers: dice.within(1..4) as u32,
            value_bytes_max: dice.pick(&[24, 200, 2000]),
            round_max: dice.pick(&[8, 20, 60]),
            batch_bytes: dice.pick(&[400, 4_000, 256 * 1024]),
            linger: dice.pick(&[Duration::ZERO, Duration::from_millis(5)]),
            groups: dice.percent(30),
            views: dice.percent(30),
            pause_ms_max: dice.pick(&[20, 40, 100]),
            sleep_after: sleep.pick(&[0, 100, 400, 2_000].map(Duration::from_millis)),
            lulls: sleep.percent(50),
            latency_ms_max: dice.pick(&[2, 5, 20]),
            flush_ms_max: dice.pick(&[1, 5, 20]),
            heal,
            end,
            faults: Vec::new(),
        };
        if !calm && heal > FAULTS_FROM {
            plan.faults = plan.draw_faults(&mut dice);
        }
        let wipes = plan.wipes();
        if let Some(roster) = plan.roster.as_mut().filter(|_| wipes) {
            roster.loses_disk();
        }
        plan
    }

    /// How long producers rest from `now` on.
    pub(crate) fn lull(&self, now: Duration) -> Duration {
        let into = Duration::from_millis((now.as_millis() % LULL_EVERY.as_millis()) as u64);
        if self.lulls && now >= LULL_EVERY { LULL.saturating_sub(into) } else { Duration::ZERO }
    }

    /// Brokers that there ever are, those that join included.
    pub(crate) fn machines(&self) -> u32 {
        self.brokers + self.roster.as_ref().map_or(0, |roster| roster.joins.len() as u32)
    }

    /// Ids of all brokers that there ever are.
    pub(crate) fn ids(&self) -> RangeInclusive<u32> {
        1..=self.machines()
    }

    /// Ids of those that form the cluster.
    pub(crate) const fn first_ids(&self) -> RangeInclusive<u32> {
        1..=self.brokers
    }

    /// Whether a broker loses its disk for good.
    pub(crate) fn wipes(&self) -> bool {
        self.faults.iter().any(|fault| fault.kind == Kind::Wipe)
    }

    fn draw_faults(&self, dice: &mut Dice) -> Vec<Fault> {
        let mut kinds: Vec<_> = Kind::ALL.into_iter().filter(|_| dice.percent(50)).collect();
        if self.moves {
            kinds.push(Kind::Moves);
        }
        if kinds.is_empty() {
            kinds.push(Kind::Kill);
        }
        let pause_max = dice.pick(&[2_000, 4_000, 8_000]);
        let in_pairs = dice.percent(50);
        let mut faults = Vec::new();
        let mut at = FAULTS_FROM;
        while at < self.heal {
            faults.push(self.fault(at, &kinds, dice));
            if in_pairs {
                // While the first lasts, or just after it, and often at the same place.
                let first = faults.last().map(|fault: &Fault| (fault.broker, fault.aim));
                let mut second = self.fault(at + dice.ms(0..1_000), &kinds, dice);
                if let Some((broker, aim)) = first.filter(|_| dice.percent(50)) {
                    (second.broker, second.aim) = (broker, aim);
                }
                faults.push(second);
            }
            at += dice.ms(200..pause_max);
        }
        if dice.percent(LASTING_PERCENT) {
            let at = FAULTS_FROM + dice.ms(0..(self.heal - FAULTS_FROM).as_millis() as u64);
            // A replica that has moved away need not find its rot.
            let stay = !self.moves && self.roster.is_none();
            let kinds: &[Kind] = if stay { &Kind::LASTING } else { &[Kind::Wipe] };
            let mut fault = self.fault(at, kinds, dice);
            if let Some(roster) = &self.roster {
                // It is the broker with the lost disk that is replaced.
                (fault.broker, fault.aim) = (roster.leaves[0], None);
            }
            faults.push(fault);
        }
        if let Some(roster) = &self.roster {
            faults.extend(roster.faults(self.seed).into_iter().filter(|it| it.at < self.heal));
        }
        faults.sort_by_key(|fault| fault.at);
        faults
    }

    fn fault(&self, at: Duration, kinds: &[Kind], dice: &mut Dice) -> Fault {
        let brokers = self.machines();
        let broker = dice.within(1..u64::from(brokers) + 1) as u32;
        let other = (broker - 1 + dice.within(1..u64::from(brokers)) as u32) % brokers + 1;
        let lasts = dice.ms(50..dice.clone().pick(&[500, 3_000, 8_000]));
        let aim = dice.percent(40).then(|| dice.roll());
        Fault { at, lasts, kind: dice.pick(kinds), broker, aim, other, dice: dice.roll() }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", Self { faults: Vec::new(), roster: None, ..self.clone() })?;
        if let Some(roster) = &self.roster {
            write!(f, "{roster}")?;
        }
        self.faults.iter().try_for_each(|fault| writeln!(f, "  {fault}"))
    }
}
