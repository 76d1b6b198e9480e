//! The `tidelog` command: server, admin command line and local cluster.
//!
//! Results go to stdout, everything else to stderr. A command returns its exit code or a
//! [`Failure`], which is printed here and nowhere else.

mod apply;
pub mod args;
#[cfg(test)]
mod arrows;
pub mod audit;
pub mod backup;
mod bench;
mod cluster;
mod confirm;
mod connect;
mod consume;
mod context;
mod debug;
pub mod demo;
mod dump;
mod failure;
mod group;
mod interrupt;
pub mod local;
mod moment;
mod offsets;
mod outcomes;
mod output;
mod partition;
mod position;
mod produce;
mod progress;
mod record;
mod runtime;
mod server;
mod tail;
mod target;
mod topic;
mod version;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::{CommandFactory, Parser};

pub use failure::{Exit, Failure, chain};
pub use moment::{Zone, parse_duration};
pub use output::{Color, Column, Format, Output, Page};

use args::{Cli, Command};

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let color = cli.globals.color();
    match run(cli) {
        Ok(exit) => exit,
        Err(failure) => {
            report(&failure, color);
            failure.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let globals = &cli.globals;
    match cli.command {
        Command::Server(args) => server::run(&args),
        Command::Dev(args) => local::dev(args),
        Command::Demo(args) => demo::run(globals, args),
        Command::Bench(command) => bench::run(globals, command),
        Command::Topic(command) => topic::run(globals, command),
        Command::Apply(args) => apply::apply(globals, &args),
        Command::Diff(args) => apply::diff(globals, &args),
        Command::Produce(args) => produce::run(globals, args),
        Command::Consume(args) => consume::run(globals, args),
        Command::Tail(args) => tail::run(globals, args),
        Command::Group(command) => group::run(globals, command),
        Command::Cluster(command) => cluster::run(globals, command),
        Command::Partition(command) => partition::run(globals, command),
        Command::Context(command) => context::run(globals, command),
        Command::Debug(command) => debug::run(globals, command),
        Command::Dump(command) => dump::run(globals, command),
        Command::Version => version::run(globals),
        Command::Completion { shell } => completion(shell),
    }
}

fn completion(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidelog", &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints why a command failed.
fn report(failure: &Failure, color: Color) {
    let red = match io::stderr().is_terminal() && color.is_allowed() {
        true => AnsiColor::Red.on_default().bold(),
        false => Style::new(),
    };
    for line in failure.lines() {
        // When stderr is gone as well, the exit code is all that is left.
        let _ = writeln!(io::stderr(), "{red}error{red:#}: {line}");
    }
}
