//! Every proof there is, one after the other, and what each counted: `docs/reliability.md`.

use std::env;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output};

use crate::canaries;
use crate::figures::Figures;
use crate::range::{self, Seeds};

/// Tests that print figures.
struct Tests {
    what: &'static str,
    arguments: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
}

const TESTS: [Tests; 3] = [
    Tests {
        what: "crash states and flipped bits of a log",
        arguments: &["-p", "tidelog-log", "--test", "it"],
        variables: &[("TIDELOG_SEEDS", "40")],
    },
    Tests {
        what: "brokers that end at failpoints",
        arguments: &["-p", "tidelog", "--test", "e2e", "failpoints"],
        variables: &[("TIDELOG_E2E_ROUNDS", "2000")],
    },
    Tests {
        what: "bits that flip under load",
        arguments: &["-p", "tidelog", "--test", "e2e", "rot"],
        variables: &[("TIDELOG_E2E_ROUNDS", "90")],
    },
];

/// Runs everything. The report is written only when all of it holds.
pub(crate) fn run(seeds: Seeds, seconds: u64, jobs: usize) -> ExitCode {
    let range = range::run(seeds, seconds, jobs);
    range.tell();
    let canaries = canaries::run(seconds, jobs);
    canaries.tell();
    let mut figures = range.figures();
    figures.add(canaries.figures());
    let mut holds = range.holds() && canaries.holds();
    for tests in &TESTS {
        match test(tests) {
            Ok(ended) if ended.status.success() => {
                eprintln!("{}: held", tests.what);
                figures.add(Figures::read(&String::from_utf8_lossy(&ended.stdout)));
            }
            Ok(ended) => {
                holds = false;
                let (out, err) = (ended.stdout, ended.stderr);
                let said = [String::from_utf8_lossy(&out), String::from_utf8_lossy(&err)].concat();
                eprintln!("{}: failed\n{said}", tests.what);
            }
            Err(err) => {
                holds = false;
                eprintln!("{}: could not be started: {err}", tests.what);
            }
        }
    }
    if !holds {
        eprintln!("not everything held: no report is written");
        return ExitCode::FAILURE;
    }
    match write(seeds, seconds, &figures) {
        Ok(path) => {
            eprintln!("written: {}", path.display());
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn test(tests: &Tests) -> io::Result<Output> {
    cargo()
        .arg("test")
        .args(tests.arguments)
        .args(["--", "--nocapture"])
        .envs(tests.variables.iter().copied())
        .output()
}

/// Cargo in this folder, where it finds the flags that faults are compiled by.
fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn write(seeds: Seeds, seconds: u64, figures: &Figures) -> Result<PathBuf, String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reliability.md");
    let commit = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let commit = commit.map_err(|err| format!("git could not be asked for the commit: {err}"))?;
    let commit = String::from_utf8_lossy(&commit.stdout).trim().to_owned();
    let text = page(seeds, seconds, &commit, figures)?;
    fs::write(&path, text).map_err(|err| format!("{} cannot be written: {err}", path.display()))?;
    Ok(path)
}

/// The page. Every figure must have been counted, and each stands beside what it is a part of.
fn page(seeds: Seeds, seconds: u64, commit: &str, figures: &Figures) -> Result<String, String> {
    let of = |name: &str| figures.get(name).ok_or_else(|| format!("nothing counted {name:?}"));
    let hours = of("simulated ms")? as f64 / 3_600_000.0;
    let mut page = format!(
        "# Reliability\n\n\
         Made by `cd tests/sim && cargo run --release -- --report {seeds}` at commit `{commit}`. It is \
         written only when every seed, every planted bug and every test it counts held. What is run, \
         and what must hold in it, stands in [simulation.md](simulation.md) and [faults.md](faults.md).\n\n\
         | what | seen | of |\n|---|---|---|\n"
    );
    let mut row = |what: &str, seen: String, of: String| {
        let _ = writeln!(page, "| {what} | {seen} | {of} |");
    };
    row(
        "seeds that held",
        of("seeds held")?.to_string(),
        format!(
            "{} of {seconds} simulated seconds, {hours:.1} h in all; {} void",
            of("seeds")?,
            of("seeds void")?
        ),
    );
    let none = |what: &str| (what.to_owned(), "0".to_owned());
    for (what, seen) in
        [none("records lost"), none("records duplicated"), none("records skipped by a reader")]
    {
        row(
            &what,
            seen,
            format!("{} acked, {} read back", of("records acked")?, of("records read")?),
        );
    }
    row(
        "brokers that joined a running cluster",
        of("brokers joined")?.to_string(),
        of("brokers to join")?.to_string(),
    );
    row(
        "brokers that were drained until they held nothing, and removed",
        of("brokers removed")?.to_string(),
        format!(
            "{}; drains were called off and begun again {} times",
            of("brokers to leave")?,
            of("drains called off")?
        ),
    );
    row("planted bugs caught", of("bugs caught")?.to_string(), of("bugs planted")?.to_string());
    row(
        "crash states that recovered",
        of("crash states")?.to_string(),
        "as many distinct ones".to_owned(),
    );
    row(
        "brokers that ended at a failpoint",
        of("deaths at failpoints")?.to_string(),
        format!(
            "at {} of {} places, each at least {} times; {} times all brokers at once",
            of("failpoints reached")?,
            of("failpoints")?,
            of("deaths at the rarest failpoint")?,
            of("deaths of all at once")?
        ),
    );
    row(
        "records lost, duplicated or changed in these and in what follows",
        "0".to_owned(),
        format!("{} acked by real brokers", of("records audited")?),
    );
    row(
        "bits flipped in a log that were found and mended",
        of("flips mended")?.to_string(),
        format!(
            "{}; the other {} hit padding, which means nothing",
            of("flips")?,
            of("flips in padding")?
        ),
    );
    row(
        "bits flipped under load",
        of("flips under load")?.to_string(),
        format!(
            "{} damaged places mended; 0 corrupt records served",
            of("places mended under load")?
        ),
    );
    let _ = write!(
        page,
        "\n## Faults that fired in the simulated cluster\n\n| fault | times |\n|---|---|\n"
    );
    for (kind, times) in figures.with("fault ") {
        let _ = writeln!(page, "| `{kind}` | {times} |");
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_without_a_figure_is_none() {
        let seeds: Seeds = "1..3".parse().unwrap();
        let refused = page(seeds, 60, "abc", &Figures::default()).unwrap_err();
        assert!(refused.contains("simulated ms"), "{refused}");
    }
}
