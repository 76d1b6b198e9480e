//! `cargo run --release -p tidelog-fuzz -- --executions 1000000`: every target, so often.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use tidelog_fuzz::engine::{self, Finding, Report, Target};
use tidelog_fuzz::{corpus, targets};

/// Feed decoders with mutated inputs
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this target; may be repeated
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    /// Executions of each target
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    executions: u64,
    /// Where the mutations come from: the same number makes the same ones
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Execute this input alone, with one --target
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Make the shortest input of each verdict the corpus
    #[arg(long, conflicts_with = "input")]
    keep: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen: Vec<&Target> = match &*arguments.targets {
        [] => targets::ALL.iter().collect(),
        names => targets::ALL.iter().filter(|t| names.iter().any(|name| name == t.name)).collect(),
    };
    if chosen.len() < arguments.targets.len() || chosen.is_empty() {
        let names: Vec<&str> = targets::ALL.iter().map(|target| target.name).collect();
        eprintln!("no such target: there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    if let Some(path) = &arguments.input {
        return again(&chosen, path);
    }
    engine::hush_panics();
    let found = chosen.iter().filter(|target| !fuzz(target, &arguments)).count();
    if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one target; whether all went well.
fn fuzz(target: &Target, arguments: &Arguments) -> bool {
    let began = Instant::now();
    let report = match target.fuzz(arguments.executions, arguments.seed) {
        Ok(report) => report,
        Err(finding) => {
            tell(target, &finding);
            return false;
        }
    };
    let Report { executions, verdicts, allocated_max, longest } = &report;
    eprintln!(
        "{:<20} {executions:>9} executions, {:>3} verdicts, at most {allocated_max} bytes and \
         {longest:.1?} for one, {:.1?} in all",
        target.name,
        verdicts.len(),
        began.elapsed()
    );
    if !arguments.keep {
        return true;
    }
    match corpus::keep(target.name, &report) {
        Ok(_) => true,
        Err(err) => {
            eprintln!("the corpus of {} cannot be written: {err}", target.name);
            false
        }
    }
}

/// Prints a finding and keeps its input.
fn tell(target: &Target, finding: &Finding) {
    let name = format!("{}-{:08x}", target.name, crc32c::crc32c(&finding.input));
    let path = std::env::temp_dir().join(name);
    let kept = match fs::write(&path, &finding.input) {
        Ok(()) => format!("--target {} --input {}", target.name, path.display()),
        Err(err) => format!("{}: {err}", path.display()),
    };
    eprintln!("{:<20} {}\n  replay with {kept}", target.name, finding.what);
}

/// Executes one input, with whatever it prints.
fn again(chosen: &[&Target], path: &PathBuf) -> ExitCode {
    let [target] = chosen else {
        eprintln!("--input is for one --target");
        return ExitCode::from(2);
    };
    let input = match fs::read(path) {
        Ok(input) => input,
        Err(err) => {
            eprintln!("{} cannot be read: {err}", path.display());
            return ExitCode::FAILURE;
        }
    };
    match target.execute(&input, &mut Report::default()) {
        Ok(verdict) => {
            eprintln!("{verdict}");
            ExitCode::SUCCESS
        }
        Err(finding) => {
            eprintln!("{}", finding.what);
            ExitCode::FAILURE
        }
    }
}
