//! Mutates inputs, executes them and judges what came.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use stats_alloc::Region;

use crate::ALLOCATOR;
use crate::corpus;
use crate::mutate::mutate;

/// Something that decodes.
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Inputs as the product writes them.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// Decodes an input, checks what must hold of what came out, and says what it came to.
    pub run: fn(&[u8]) -> String,
    /// Puts right what only checksums and lengths are wrong with, so that decoders see the rest.
    pub mend: Option<fn(&mut [u8])>,
    /// What an input may make it allocate: so much in any case, and so much for each of its bytes.
    pub allocates: (usize, usize),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What an input must not do.
#[derive(Debug)]
pub struct Finding {
    /// The input.
    pub input: Vec<u8>,
    /// What it did.
    pub what: String,
}

/// What came of many executions.
#[derive(Debug, Default)]
pub struct Report {
    /// How many.
    pub executions: u64,
    /// The shortest input for each verdict.
    pub verdicts: BTreeMap<String, Vec<u8>>,
    /// The most bytes that one input made it allocate.
    pub allocated_max: usize,
    /// The longest that one input took.
    pub longest: Duration,
}

thread_local! {
    static EXECUTES: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps panics of targets from being printed: they are reported with their input.
pub fn hush_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if EXECUTES.get() { PANIC.set(info.to_string()) } else { usual(info) }
    }));
}

impl Target {
    /// Executes one input.
    ///
    /// # Errors
    /// It panicked, or allocated more than it may.
    pub fn execute(&self, input: &[u8], report: &mut Report) -> Result<String, Finding> {
        let finding = |what: String| Finding { input: input.to_vec(), what };
        let (region, began) = (Region::new(ALLOCATOR), Instant::now());
        EXECUTES.set(true);
        let ended = panic::catch_unwind(AssertUnwindSafe(|| (self.run)(input)));
        EXECUTES.set(false);
        let (took, allocated) = (began.elapsed(), region.change().bytes_allocated);
        report.executions += 1;
        report.longest = report.longest.max(took);
        report.allocated_max = report.allocated_max.max(allocated);
        let verdict = ended.map_err(|_| finding(format!("it panicked: {}", PANIC.take())))?;
        let (any, each) = self.allocates;
        let most = any + each * input.len();
        if allocated > most {
            let bytes = input.len();
            let what = format!("{bytes} bytes made it allocate {allocated}, {most} are allowed");
            return Err(finding(what));
        }
        Ok(general(&verdict))
    }

    /// Executes the samples, the corpus, and so many mutations of them.
    ///
    /// # Errors
    /// The first finding.
    pub fn fuzz(&self, executions: u64, seed: u64) -> Result<Report, Finding> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut report = Report::default();
        let mut pool: Vec<Vec<u8>> = Vec::new();
        for input in (self.samples)().into_iter().chain(corpus::inputs(self.name)) {
            let verdict = self.execute(&input, &mut report)?;
            report.note(verdict, &input);
            pool.push(input);
        }
        while report.executions < executions {
            let mut input = pool.choose(&mut rng).cloned().unwrap_or_default();
            let other = pool.choose(&mut rng).cloned().unwrap_or_default();
            mutate(&mut rng, &mut input, &other);
            if let Some(mend) = self.mend
                && rng.random()
            {
                mend(&mut input);
            }
            let verdict = self.execute(&input, &mut report)?;
            if report.note(verdict, &input) {
                pool.push(input);
            }
        }
        Ok(report)
    }
}

impl Report {
    /// Keeps the shortest input of a verdict; whether the verdict is new.
    fn note(&mut self, verdict: String, input: &[u8]) -> bool {
        match self.verdicts.get_mut(&verdict) {
            Some(known) => {
                if input.len() < known.len() {
                    *known = input.to_vec();
                }
                false
            }
            None => {
                self.verdicts.insert(verdict, input.to_vec());
                true
            }
        }
    }
}

/// A verdict without its numbers and quoted texts: those are the input's, not the decoder's.
fn general(verdict: &str) -> String {
    let mut out = String::with_capacity(verdict.len().min(VERDICT_BYTES_MAX));
    let mut quoted = false;
    for letter in verdict.chars() {
        if out.len() >= VERDICT_BYTES_MAX {
            break;
        }
        match letter {
            '"' => {
                quoted = !quoted;
                out.push('"');
            }
            _ if quoted => {}
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            letter => out.push(letter),
        }
    }
    out
}

/// What comes behind is not what makes a verdict another one.
const VERDICT_BYTES_MAX: usize = 160;
