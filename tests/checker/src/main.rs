//! Judges histories: a summary to stdout; exit code 0 when every rule holds, 1 on a violation, 2 on
//! input that cannot be judged.

use std::error::Error as _;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tidelog_checker::{Error, History, Verdict};

/// Judge recorded histories of consumer groups
///
/// The files together are one history; each member's events are in one of them. Without files, or for
/// `-`, reads standard input.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Histories, as JSON lines
    files: Vec<PathBuf>,
}

#[expect(clippy::print_stdout, reason = "the verdict is the result of the command")]
fn main() -> ExitCode {
    match judge(Args::parse()) {
        Ok(verdict) => {
            println!("{verdict}");
            ExitCode::from(u8::from(!verdict.holds()))
        }
        Err(err) => {
            let source = err.source().map(|source| format!(": {source}")).unwrap_or_default();
            eprintln!("error: {err}{source}");
            ExitCode::from(2)
        }
    }
}

fn judge(mut args: Args) -> Result<Verdict, Error> {
    if args.files.is_empty() {
        args.files.push(PathBuf::from("-"));
    }
    let mut history = History::default();
    for path in args.files {
        if path.as_os_str() == "-" {
            history.read("stdin", io::stdin().lock())?;
            continue;
        }
        let source_name = path.display().to_string();
        let file = File::open(&path)
            .map_err(|source| Error::Read { source_name: source_name.clone(), source })?;
        history.read(&source_name, BufReader::new(file))?;
    }
    tidelog_checker::check(&history)
}
