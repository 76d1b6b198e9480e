//! What ended brokers, how often.

use std::collections::BTreeMap;
use std::fmt;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use tidelog_types::failpoint::{Site, sites};

/// How many sites beside those that are due are planted at a time.
const OTHERS: usize = 5;

/// A site that was waited for in vain so often is one that is seldom reached.
const SELDOM: u32 = 10;

/// A failpoint that another one opens the way to: only after a death at it there is something to do.
const OPENERS: [(&str, &str); 1] = [("votes/cut", "votes/write/half")];

/// How often a broker comes to a failpoint at most until it ends there.
const PASSES: [u64; 8] = [1, 1, 1, 2, 3, 5, 10, 50];

/// Counts over a whole run.
pub(super) struct Tally {
    sites: BTreeMap<Site, Count>,
    /// How many deaths of each site are enough.
    quota: u32,
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
    /// For a run that ends after `deaths`, spread over all sites.
    pub(super) fn new(deaths: u32) -> Self {
        Self {
            quota: deaths.div_ceil(sites().count() as u32),
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

    /// Whether one of these sites has not yet ended as many brokers as it should.
    pub(super) fn is_due(&self, of: &impl Fn(&Site) -> bool) -> bool {
        self.count_due(of) > 0
    }

    /// How many of these sites have not.
    pub(super) fn count_due(&self, of: &impl Fn(&Site) -> bool) -> usize {
        self.sites.iter().filter(|(site, count)| of(site) && count.kills < self.quota).count()
    }

    /// About half of the sites that have not yet ended as many brokers as they should. What is reached
    /// at every start comes off the list soon, and brokers then live for long enough to reach the rest.
    /// Now and then some of the others, too: what only comes after a death at one of them still comes.
    pub(super) fn due(&self, rng: &mut StdRng, of: &impl Fn(&Site) -> bool) -> Vec<Site> {
        let all = self.sites.iter().filter(|(site, _)| of(site));
        let (due, full): (Vec<_>, Vec<_>) = all.partition(|(_, count)| count.kills < self.quota);
        let [mut due, mut full] =
            [due, full].map(|sites| sites.into_iter().map(|(site, _)| *site).collect::<Vec<_>>());
        due.shuffle(rng);
        due.truncate(due.len().div_ceil(2));
        let opened =
            |(step, _): &(&str, &str)| due.iter().any(|site| site.to_string().starts_with(step));
        let openers: Vec<_> =
            OPENERS.into_iter().filter(opened).map(|(_, opener)| opener).collect();
        full.retain(|site| {
            let opens = openers.contains(&&*site.to_string());
            if opens {
                due.push(*site);
            }
            !opens
        });
        if rng.random_ratio(1, 4) {
            full.shuffle(rng);
            due.extend(full.into_iter().take(OTHERS));
        }
        due
    }

    /// Of the sites that are due, those that were waited for in vain again and again.
    pub(super) fn seldom(&self, of: &impl Fn(&Site) -> bool) -> Vec<Site> {
        let due = self.sites.iter().filter(|(site, count)| of(site) && count.kills < self.quota);
        due.filter(|(_, count)| count.missed >= SELDOM).map(|(site, _)| *site).collect()
    }

    /// How often a broker passes a site before it ends there: not at all, where that happens seldom.
    pub(super) fn passes(&self, rng: &mut StdRng, site: Site) -> u64 {
        match self.sites[&site].missed {
            // The first write of a life repeats what is there already.
            _ if site.what == "votes" && site.step == "write" => rng.random_range(2..6),
            SELDOM.. => 1,
            _ => *PASSES.choose(rng).expect("there are some"),
        }
    }

    /// Whether every site has ended as many brokers as it should.
    pub(super) fn is_full(&self) -> bool {
        !self.is_due(&|_| true)
    }

    /// The sites that ended fewer brokers than that.
    pub(super) fn rarer_than(&self, kills: u32) -> Vec<String> {
        let rare = self.sites.iter().filter(|(_, count)| count.kills < kills);
        rare.map(|(site, count)| format!("{site}: {}", count.kills)).collect()
    }
}

impl Tally {
    /// The sums, a line each, for the report.
    pub(super) fn figures(&self) -> String {
        let reached = self.sites.values().filter(|count| count.kills > 0).count();
        let rarest = self.sites.values().map(|count| count.kills).min().unwrap_or_default();
        format!(
            "figure deaths at failpoints: {}\nfigure failpoints reached: {reached}\n\
             figure failpoints: {}\nfigure deaths at the rarest failpoint: {rarest}\n\
             figure deaths of all at once: {}",
            self.kills(),
            self.sites.len(),
            self.all_at_once
        )
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
