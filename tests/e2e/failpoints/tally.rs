//! What ended brokers, how often.

use std::collections::BTreeMap;
use std::fmt;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tidelog_types::failpoint::{Site, sites};

/// How many of the rarest sites the next one is drawn from.
const RAREST: usize = 15;

/// A site that was planted and never reached counts as this part of a kill when the next is drawn, so
/// that no time is lost on what happens seldom.
const MISSES_OF_KILL: u32 = 2;

/// Counts over a whole run.
pub(super) struct Tally {
    sites: BTreeMap<Site, Count>,
    /// Steps that failed on purpose, by name.
    failures: BTreeMap<String, u32>,
    pub(super) all_at_once: u32,
    pub(super) from_outside: u32,
    pub(super) slow: u32,
    pub(super) flips: u32,
}

#[derive(Clone, Copy, Default)]
struct Count {
    kills: u32,
    missed: u32,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            sites: sites().map(|site| (site, Count::default())).collect(),
            failures: BTreeMap::new(),
            all_at_once: 0,
            from_outside: 0,
            slow: 0,
            flips: 0,
        }
    }

    /// Deaths at failpoints.
    pub(super) fn kills(&self) -> u32 {
        self.sites.values().map(|count| count.kills).sum()
    }

    pub(super) fn killed(&mut self, site: Site) {
        self.of(site).kills += 1;
    }

    pub(super) fn missed(&mut self, site: Site) {
        self.of(site).missed += 1;
    }

    pub(super) fn failed(&mut self, step: &str) {
        *self.failures.entry(step.to_owned()).or_default() += 1;
    }

    fn of(&mut self, site: Site) -> &mut Count {
        self.sites.get_mut(&site).expect("every site is counted")
    }

    /// One of the sites that had the fewest turns, and how often it was waited for in vain.
    pub(super) fn rare(&self, rng: &mut StdRng, of: impl Fn(&Site) -> bool) -> (Site, u32) {
        let mut rarest: Vec<_> = self.sites.iter().filter(|(site, _)| of(site)).collect();
        rarest.sort_by_key(|(_, count)| count.kills + count.missed / MISSES_OF_KILL);
        rarest.truncate(RAREST);
        let (site, count) = rarest.choose(rng).expect("there are sites");
        (**site, count.missed)
    }

    /// The sites that ended fewer brokers than that.
    pub(super) fn rarer_than(&self, kills: u32) -> Vec<String> {
        let rare = self.sites.iter().filter(|(_, count)| count.kills < kills);
        rare.map(|(site, count)| format!("{site}: {}", count.kills)).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (site, count) in &self.sites {
            writeln!(f, "{:>6} {site} (waited for in vain {} times)", count.kills, count.missed)?;
        }
        for (step, times) in &self.failures {
            writeln!(f, "{times:>6} EIO at {step}")?;
        }
        write!(
            f,
            "{} deaths at {} of {} failpoints; {} times all brokers at once; {} killed from outside; \
             {} with a slow disk; {} bits flipped",
            self.kills(),
            self.sites.values().filter(|count| count.kills > 0).count(),
            self.sites.len(),
            self.all_at_once,
            self.from_outside,
            self.slow,
            self.flips
        )
    }
}
