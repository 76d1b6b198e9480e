//! Plants failpoints in brokers, watches them end, and starts them again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use tidelog::demo::Load;
use tidelog_broker::faults::{self, FAILING};
use tidelog_types::failpoint::{self, DYING, Site, sites};
use tokio::time::{Instant, sleep};

use super::tally::Tally;
use crate::rot;
use crate::stage::{POLL, Stage, acks_go_on};

const BROKERS: u32 = 3;

/// The one whose bits flip: never more than one copy of a record.
pub(super) const ROTTING: u32 = 3;

/// About as much as the head of a segment.
const HEAD_BYTES: u64 = 128;

/// Deaths between two calms.
const DEATHS: u32 = 20;

/// Deaths while a cluster forms.
const DEATHS_OF_FORMATION: u32 = 24;

/// One in so many deaths takes all other brokers with it.
const ALL_AT_ONCE: u32 = 5;

/// How long a broker runs without coming to any of its failpoints, and how long one in four does: what
/// is old is thrown away every 10 seconds.
const WAIT: Duration = Duration::from_secs(4);
const WAIT_LONG: Duration = Duration::from_secs(15);
const LONG: u32 = 4;

/// One in so many brokers that end stays away for a while, and has then missed more than the others kept.
const AWAY: u32 = 15;

/// So many brokers in a row that come to none of theirs are a list of places where nothing comes by.
const IN_VAIN_MAX: u32 = 300;

/// What is planted in a broker.
enum Plant {
    /// Any of these sites ends it.
    Kill(Vec<Site>),
    /// The step of this site fails.
    Eio(Site),
}

/// A broker's life that ends by what was planted.
struct Life {
    plant: Plant,
    until: Instant,
    /// Where its part of the broker's log begins.
    log_from: u64,
}

pub(super) struct Storm<'a> {
    stage: &'a mut Stage,
    tally: &'a mut Tally,
    lives: BTreeMap<u32, Life>,
    /// Lives since the last death at a failpoint.
    in_vain: u32,
    /// Brokers that stay away, and until when.
    away: BTreeMap<u32, Instant>,
}

impl<'a> Storm<'a> {
    pub(super) fn new(stage: &'a mut Stage, tally: &'a mut Tally) -> Self {
        Self { stage, tally, lives: BTreeMap::new(), in_vain: 0, away: BTreeMap::new() }
    }

    /// Forms a cluster out of brokers that die meanwhile.
    pub(super) async fn of_formation(stage: &'a mut Stage, tally: &'a mut Tally) {
        let mut storm = Self::new(stage, tally);
        let forms =
            |site: &Site| matches!(site.what, "identity" | "votes" | "votes-copy" | "directory");
        storm.deaths(DEATHS_OF_FORMATION, &forms).await;
        storm.end_all();
        storm.start_calm().await;
    }

    /// Deaths at failpoints so far.
    pub(super) fn kills(&self) -> u32 {
        self.tally.kills()
    }

    /// Whether there is a site that can end a broker of a formed cluster and has not done so enough.
    pub(super) fn is_due(&self) -> bool {
        self.tally.is_due(&is_of_formed)
    }

    /// Lets brokers die, each as soon as it comes to what is planted in it.
    pub(super) async fn rage(&mut self) {
        self.end_all();
        self.deaths(DEATHS, &is_of_formed).await;
    }

    /// Ends all brokers at once and starts them with nothing planted: they must serve as before.
    pub(super) async fn calm(&mut self, load: &Load) {
        self.end_all();
        self.start_calm().await;
        acks_go_on(load, 20).await;
    }

    async fn start_calm(&mut self) {
        for id in 1..=BROKERS {
            self.stage.cluster.broker_mut(id).set_variables(BTreeMap::new());
        }
        self.stage.start_all().await;
    }

    async fn deaths(&mut self, deaths: u32, of: &impl Fn(&Site) -> bool) {
        let end = self.kills() + deaths;
        for id in 1..=BROKERS {
            self.start(id, of);
        }
        while self.kills() < end && self.tally.is_due(of) {
            assert!(self.in_vain < IN_VAIN_MAX, "{}", self.tally);
            sleep(POLL).await;
            for id in 1..=BROKERS {
                self.look_at(id, of);
            }
        }
    }

    fn look_at(&mut self, id: u32, of: &impl Fn(&Site) -> bool) {
        if let Some(until) = self.away.get(&id) {
            if Instant::now() > *until {
                self.away.remove(&id);
                self.start(id, of);
            }
            return;
        }
        let ended = self.stage.cluster.broker_mut(id).ended().unwrap();
        match ended {
            Some(status) => {
                self.bury(id, Some(status));
                if self.stage.rng.random_ratio(1, ALL_AT_ONCE) {
                    self.end_all();
                    self.tally.all_at_once += 1;
                    (1..=BROKERS).filter(|other| *other != id).for_each(|id| self.start(id, of));
                } else if self.away.is_empty() && self.stage.rng.random_ratio(1, AWAY) {
                    self.away.insert(id, Instant::now() + WAIT_LONG);
                    return;
                }
                self.start(id, of);
            }
            None if self.lives.get(&id).is_some_and(|life| Instant::now() > life.until) => {
                self.stage.cluster.broker_mut(id).kill().unwrap();
                self.bury(id, None);
                self.start(id, of);
            }
            None => {}
        }
    }

    fn end_all(&mut self) {
        self.away.clear();
        self.stage.cluster.kill_all().unwrap();
        let ids: Vec<u32> = self.lives.keys().copied().collect();
        ids.into_iter().for_each(|id| self.bury(id, None));
    }

    /// Counts what ended a broker: by itself with a status, or from outside.
    fn bury(&mut self, id: u32, ended: Option<ExitStatus>) {
        let life = self.lives.remove(&id).expect("only a living broker ends");
        let said = self.said(id, life.log_from);
        let died = said.lines().find_map(|line| line.strip_prefix(DYING));
        let failed = said.contains(FAILING);
        match (life.plant, ended) {
            // It may have come to one in the moment in which it was killed.
            (Plant::Kill(sites), _) if died.is_some() => {
                let at = died.unwrap_or_default().trim();
                let site = sites.into_iter().find(|site| site.to_string() == at);
                let signal = ended.and_then(|status| status.signal());
                assert!(ended.is_none() || signal == Some(9), "broker {id}: {ended:?}\n{said}");
                self.tally.killed(site.unwrap_or_else(|| panic!("{at} is not planted\n{said}")));
                self.in_vain = 0;
            }
            (Plant::Kill(sites), None) => {
                sites.into_iter().for_each(|site| self.tally.missed(site));
                self.tally.from_outside += 1;
                self.in_vain += 1;
            }
            (Plant::Eio(site), _) if failed => {
                self.tally.failed(&format!("{}/{}", site.what, site.step));
            }
            (Plant::Eio(_), None) => self.tally.from_outside += 1,
            (_, Some(status)) => panic!("broker {id} ended by itself, {status}:\n{said}"),
        }
    }

    /// What a broker logged from a place on.
    fn said(&self, id: u32, from: u64) -> String {
        let mut log = File::open(self.stage.cluster.broker(id).log()).unwrap();
        log.seek(SeekFrom::Start(from)).unwrap();
        let mut said = Vec::new();
        log.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Starts a broker with something planted, the one that rots with a bit flipped now and then.
    fn start(&mut self, id: u32, of: &impl Fn(&Site) -> bool) {
        let may_rot = id == ROTTING && self.stage.cluster.broker(id).data_dir().exists();
        if may_rot && self.stage.rng.random_ratio(1, 3) {
            self.flip();
        }
        let rng = &mut self.stage.rng;
        let mut faults = Vec::new();
        let mut variables = BTreeMap::new();
        // Those that are there go on, so that whoever comes back has missed something.
        let missed = !self.away.is_empty();
        let plant = if rng.random_ratio(1, 10) {
            let disks: Vec<Site> = sites().filter(|site| is_of_disk(site) && of(site)).collect();
            let site = *disks.choose(rng).unwrap();
            let passes = self.tally.passes(rng, site);
            faults.push(format!("eio={}/{}:{passes}", site.what, site.step));
            Plant::Eio(site)
        } else {
            let sites = if missed { self.tally.seldom(of) } else { self.tally.due(rng, of) };
            let planted: Vec<String> = sites
                .iter()
                .map(|site| format!("{site}:{}", self.tally.passes(rng, *site)))
                .collect();
            if !planted.is_empty() {
                variables.insert(failpoint::VARIABLE.to_owned(), planted.join(","));
            }
            Plant::Kill(sites)
        };
        if rng.random_ratio(1, 8) {
            faults.push(format!("fdatasync-delay={}ms", rng.random_range(1..40)));
            self.tally.slow += 1;
        }
        variables.insert(faults::VARIABLE.to_owned(), faults.join(","));
        let wait = if missed || rng.random_ratio(1, LONG) { WAIT_LONG } else { WAIT };
        let broker = self.stage.cluster.broker_mut(id);
        let log_from = fs::metadata(broker.log()).map_or(0, |log| log.len());
        broker.set_variables(variables);
        broker.start().unwrap();
        self.lives.insert(id, Life { plant, until: Instant::now() + wait, log_from });
    }

    /// Flips a bit in what the broker that rots has written for good, and no other has lost: anywhere,
    /// or where a segment begins, which is looked at by whoever opens it.
    fn flip(&mut self) {
        let mut files = rot::settled_files(self.stage.cluster.broker(ROTTING).data_dir());
        if self.stage.rng.random() {
            files.iter_mut().for_each(|(_, bytes)| *bytes = (*bytes).min(HEAD_BYTES));
        }
        if !files.is_empty() {
            rot::flip(&mut self.stage.rng, &files);
            self.tally.flips += 1;
        }
    }
}

/// A broker of a formed cluster knows who it is.
fn is_of_formed(site: &Site) -> bool {
    site.what != "identity"
}

fn is_of_disk(site: &Site) -> bool {
    !matches!(site.what, "replica" | "answer")
}
