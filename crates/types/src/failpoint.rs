//! Places where a process can be made to kill itself. Only in builds with `--cfg tidelog_faults`;
//! elsewhere [`failpoint!`](crate::failpoint!) is nothing, and nothing of this file is in what ships.
//!
//! A place is written `what/step/phase`, as `segment/write/half`. The environment says at which of them
//! the process ends and at which time it comes there, as `segment/write/half:3`; see [`VARIABLE`]. Of
//! several, separated by commas, the one that is due first ends it.

use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that names places, each with a count from 1.
pub const VARIABLE: &str = "TIDELOG_FAILPOINT";

/// When, in a step, the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Nothing of the step is done.
    Before,
    /// Half of the bytes of a write are written.
    Half,
    /// The step is done, and nobody knows.
    After,
}

impl Phase {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Half => "half",
            Self::After => "after",
        }
    }
}

/// A place where a process can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// What the step is done to or by.
    pub what: &'static str,
    /// The step.
    pub step: &'static str,
    /// Where in the step.
    pub phase: Phase,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.what, self.step, self.phase.as_str())
    }
}

/// Every step that has failpoints: what it is done to, and its name. A process that has one planted
/// and comes to a step that is not here aborts, so that the list stays whole.
pub const STEPS: &[(&str, &[&str])] = &[
    // What the log writes, by the kind of file.
    ("segment", &["create", "write", "sync", "cut", "rename", "remove"]),
    ("index", &["create", "write", "remove"]),
    ("start", &["create", "write", "sync", "rename", "remove"]),
    ("votes", &["write", "sync", "cut", "rename"]),
    ("votes-copy", &["create", "write", "sync", "remove"]),
    ("identity", &["create", "write", "sync", "rename", "remove"]),
    ("mend", &["create", "write", "sync", "remove"]),
    ("aside", &["create", "write", "sync", "rename", "remove"]),
    ("directory", &["create", "rename", "remove", "sync"]),
    // What a replica does between its disk and its engine.
    ("replica", &["append", "vote", "apply", "snapshot", "install", "truncate", "purge"]),
    // What a client is told.
    ("answer", &["produce", "commit", "create"]),
];

/// The places of every step.
pub fn sites() -> impl Iterator<Item = Site> {
    STEPS.iter().flat_map(|(what, steps)| {
        let sites = move |step| phases(what, step).iter().map(move |p| (step, *p));
        let sites = steps.iter().flat_map(move |step| sites(*step));
        sites.map(move |(step, phase)| Site { what, step, phase })
    })
}

fn phases(what: &str, step: &str) -> &'static [Phase] {
    match (what, step) {
        (_, "write") => &[Phase::Before, Phase::Half, Phase::After],
        // What comes after is the network's.
        ("answer", _) => &[Phase::Before],
        _ => &[Phase::Before, Phase::After],
    }
}

/// A place, and how often the process passes it before it ends there.
#[derive(Debug)]
struct Planted {
    site: Site,
    left: AtomicU64,
}

impl FromStr for Planted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{VARIABLE}: {text:?} is no failpoint: expected {EXAMPLE}");
        let (name, count) = text.rsplit_once(':').ok_or_else(expected)?;
        let site = sites().find(|site| site.to_string() == name).ok_or_else(expected)?;
        let left: u64 = count.parse().map_err(|_| expected())?;
        if left == 0 { Err(expected()) } else { Ok(Self { site, left: left.into() }) }
    }
}

const EXAMPLE: &str = "segment/write/half:3";

static PLANTED: OnceLock<Vec<Planted>> = OnceLock::new();

/// Ends the process when it is planted to end here, and has come here often enough.
///
/// # Panics
/// When the environment names no failpoint: a test would pass for the wrong reason.
pub fn reached(what: &str, step: &str, phase: Phase) {
    if let Some(site) = due(what, step, phase) {
        die(site);
    }
}

/// Whether the process is to end here now, after what the caller does before [`die`].
///
/// # Panics
/// As [`reached`].
#[must_use]
pub fn due(what: &str, step: &str, phase: Phase) -> Option<Site> {
    let planted = PLANTED.get_or_init(from_environment);
    if planted.is_empty() {
        return None;
    }
    if !STEPS.iter().any(|(kind, steps)| *kind == what && steps.contains(&step)) {
        say(&format!("no failpoint is called {what}/{step}: add it to the list"));
        std::process::abort();
    }
    let is_here = |site: Site| (site.what, site.step, site.phase) == (what, step, phase);
    let here = planted.iter().find(|planted| is_here(planted.site))?;
    let last = here.left.fetch_sub(1, Ordering::Relaxed) == 1;
    last.then_some(here.site)
}

/// Ends the process as SIGKILL does, at once: nothing is flushed, closed or told.
pub fn die(site: Site) -> ! {
    say(&format!("{DYING} {site}"));
    let killed = rustix::process::kill_process(rustix::process::getpid(), KILL);
    // The signal is delivered before the call returns.
    unreachable!("the process outlived SIGKILL: {killed:?}");
}

const KILL: rustix::process::Signal = rustix::process::Signal::KILL;

/// How the last line of a process that ended at a failpoint begins.
pub const DYING: &str = "killed at failpoint";

fn say(line: &str) {
    // Who reads it counts a death without a line as one that is not ours.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[expect(clippy::disallowed_methods, reason = "a test of processes has no other way in here")]
fn from_environment() -> Vec<Planted> {
    let Ok(text) = std::env::var(VARIABLE) else {
        return Vec::new();
    };
    text.split(',').map(|one| one.parse().unwrap_or_else(|err| panic!("{err}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_site_is_read_back_from_its_name() {
        let mut seen = std::collections::BTreeSet::new();
        for site in sites() {
            let planted: Planted = format!("{site}:7").parse().unwrap();
            assert_eq!((planted.site, planted.left.load(Ordering::Relaxed)), (site, 7));
            assert!(seen.insert(site), "{site} is listed twice");
        }
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", "segment", "segment/write:3", "segment/sync/half:1", "votes/write/half:0"]
        {
            let refused = text.parse::<Planted>().unwrap_err();
            assert!(refused.contains(EXAMPLE), "{refused}");
        }
    }
}
