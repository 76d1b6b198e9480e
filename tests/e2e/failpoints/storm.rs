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
const ROTTING: u32 = 3;

/// Deaths between two calms.
const DEATHS: u32 = 20;

/// Deaths while a cluster forms.
const DEATHS_OF_FORMATION: u32 = 6;

/// One in so many deaths takes all other brokers with it.
const ALL_AT_ONCE: u32 = 5;

/// How long a broker runs without coming to its failpoint; longer, where that was too short before.
const WAIT: Duration = Duration::from_secs(2);
const WAIT_LONG: Duration = Duration::from_secs(14);

/// How often a broker passes its failpoint at most, and one more.
const PASSES: [u64; 8] = [1, 1, 1, 2, 3, 5, 10, 50];

/// What is planted in a broker.
#[derive(Clone, Copy)]
enum Plant {
    Kill(Site),
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
}

impl<'a> Storm<'a> {
    pub(super) fn new(stage: &'a mut Stage, tally: &'a mut Tally) -> Self {
        Self { stage, tally, lives: BTreeMap::new() }
    }

    /// Forms a cluster out of brokers that die meanwhile.
    pub(super) async fn of_formation(stage: &'a mut Stage, tally: &'a mut Tally) {
        let mut storm = Self::new(stage, tally);
        let forms = |site: &Site| matches!(site.what, "identity" | "votes" | "directory");
        storm.deaths(DEATHS_OF_FORMATION, &forms).await;
        storm.end_all();
        storm.start_calm().await;
    }

    /// Deaths at failpoints so far.
    pub(super) fn kills(&self) -> u32 {
        self.tally.kills()
    }

    /// Lets brokers die, each as soon as it comes to what is planted in it.
    pub(super) async fn rage(&mut self) {
        self.end_all();
        self.deaths(DEATHS, &|site| site.what != "identity").await;
    }

    /// Ends all brokers at once and starts them with nothing planted: all must be as it was.
    pub(super) async fn calm(&mut self, load: &Load) {
        self.end_all();
        if self.stage.rng.random() {
            let flipped = rot::flip(self.stage, ROTTING);
            println!("flipped a bit of {}", flipped.display());
            self.tally.flips += 1;
        }
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
        while self.kills() < end {
            sleep(POLL).await;
            for id in 1..=BROKERS {
                self.look_at(id, of);
            }
        }
    }

    fn look_at(&mut self, id: u32, of: &impl Fn(&Site) -> bool) {
        let ended = self.stage.cluster.broker_mut(id).ended().unwrap();
        match ended {
            Some(status) => {
                self.bury(id, Some(status));
                if self.stage.rng.random_ratio(1, ALL_AT_ONCE) {
                    self.end_all();
                    self.tally.all_at_once += 1;
                    (1..=BROKERS).filter(|other| *other != id).for_each(|id| self.start(id, of));
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
            // It may have come to it in the moment in which it was killed.
            (Plant::Kill(site), _) if died.is_some_and(|at| at.trim() == site.to_string()) => {
                let signal = ended.and_then(|status| status.signal());
                assert!(ended.is_none() || signal == Some(9), "broker {id}: {ended:?}\n{said}");
                self.tally.killed(site);
            }
            (Plant::Kill(site), None) => {
                self.tally.missed(site);
                self.tally.from_outside += 1;
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

    /// Starts a broker with something planted.
    fn start(&mut self, id: u32, of: &impl Fn(&Site) -> bool) {
        let rng = &mut self.stage.rng;
        let passes = PASSES.choose(rng).unwrap();
        let mut faults = Vec::new();
        let mut variables = BTreeMap::new();
        let mut wait = WAIT;
        let plant = if rng.random_ratio(1, 10) {
            let disks: Vec<Site> = sites().filter(|site| is_of_disk(site) && of(site)).collect();
            let site = *disks.choose(rng).unwrap();
            faults.push(format!("eio={}/{}:{passes}", site.what, site.step));
            Plant::Eio(site)
        } else {
            let (site, misses) = self.tally.rare(rng, of);
            // What seldom happens is not waited for to happen often.
            let passes = if misses > 0 { 1 } else { *passes };
            if misses % 3 == 2 {
                wait = WAIT_LONG;
            }
            variables.insert(failpoint::VARIABLE.to_owned(), format!("{site}:{passes}"));
            Plant::Kill(site)
        };
        if rng.random_ratio(1, 8) {
            faults.push(format!("fdatasync-delay={}ms", rng.random_range(1..40)));
            self.tally.slow += 1;
        }
        variables.insert(faults::VARIABLE.to_owned(), faults.join(","));
        let broker = self.stage.cluster.broker_mut(id);
        let log_from = fs::metadata(broker.log()).map_or(0, |log| log.len());
        broker.set_variables(variables);
        broker.start().unwrap();
        self.lives.insert(id, Life { plant, until: Instant::now() + wait, log_from });
    }
}

fn is_of_disk(site: &Site) -> bool {
    !matches!(site.what, "replica" | "answer")
}
