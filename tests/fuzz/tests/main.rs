//! Every target a little, the whole corpus, and the list of decoders.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "tests say how much they tried")]

mod table;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidelog_fuzz::engine::hush_panics;
use tidelog_fuzz::targets;

/// Executions of each target; the long run has its own command.
const EXECUTIONS: u64 = 5_000;

/// What is allocated is counted for the whole process, so tests take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn no_input_panics_or_allocates_without_bound() {
    let _alone = alone();
    let seed: u64 = std::env::var("TIDELOG_FUZZ_SEED").map_or(1, |seed| seed.parse().unwrap());
    hush_panics();
    let mut findings = Vec::new();
    for target in targets::ALL {
        match target.fuzz(EXECUTIONS, seed) {
            Ok(report) => {
                println!("{}: {} verdicts", target.name, report.verdicts.len());
                // A log is read whatever its index says, and nothing else comes of it.
                if report.verdicts.len() < 2 && target.name != "recovery-index" {
                    findings.push(format!("{}: all inputs are the same to it", target.name));
                }
            }
            Err(finding) => {
                let input = finding.input.escape_ascii();
                findings.push(format!("{}: {} of b\"{input}\"", target.name, finding.what));
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
