//! The shop: four services on one stream of events, each its own processes and consumer group, on a
//! cluster of three brokers. An inventory process and a broker are killed on the way; at the end an
//! audit compares what was ordered with what each service did.
//!
//! ```text
//! cargo run --release --example shop
//! cargo run --release --example shop -- --mixed
//! ```
//! This one binary is the story, each service (`service KIND …`) and each broker (`server …`), started
//! again as processes of their own. See README.md for the services in Python and Node.

#![expect(clippy::print_stdout, reason = "the story is told on stdout")]

mod audit;
mod event;
mod journal;
mod process;
mod services;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use process::{Language, Languages};

/// Whatever ends an example early; its message is for people.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Run a shop of four services, kill some of it, and audit what is left
#[derive(Debug, Parser)]
#[command(name = "shop", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    story: StoryArgs,
}

/// What else this binary is.
#[derive(Debug, clap::Subcommand)]
enum Role {
    /// Be one of the services
    #[command(hide = true)]
    Service {
        /// Which
        kind: services::Kind,
        /// Its arguments, the same in every language
        #[command(flatten)]
        args: services::Args,
    },
}

/// Arguments of the story.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StoryArgs {
    /// Orders to create
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(12..=100_000))]
    orders: u32,
    /// Seconds over which they are created
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Order and inventory in Python; `TIDELOG_PYTHON` names the interpreter
    #[arg(long)]
    python: bool,
    /// Notification in Node; `TIDELOG_NODE_MODULES` names the folder of its modules
    #[arg(long)]
    node: bool,
    /// One inventory process in Rust and one in Python, notification in Node
    #[arg(long, conflicts_with_all = ["python", "node"])]
    mixed: bool,
    /// Directory for data, logs and journals, kept at the end; without it a temporary one
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl StoryArgs {
    fn languages(&self) -> Languages {
        let or_rust = |other, is_wanted| if is_wanted { other } else { Language::Rust };
        Languages {
            order: or_rust(Language::Python, self.python),
            inventory: [
                or_rust(Language::Python, self.python),
                or_rust(Language::Python, self.python || self.mixed),
            ],
            notification: or_rust(Language::Node, self.node || self.mixed),
        }
    }
}

fn main() -> ExitCode {
    // A broker: the command line of `tidelog` takes it from here.
    if std::env::args_os().nth(1).is_some_and(|role| role == "server") {
        return tidelog::main();
    }
    let args = Args::parse();
    match run(args) {
        Ok(exit) => exit,
        Err(err) => {
            eprintln!("error: {}", tidelog::chain(&*err));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: Args) -> Result<ExitCode, Error> {
    let Some(Role::Service { kind, args }) = args.role else {
        let audit = story::tell(&args.story).await?;
        println!("\n{audit}");
        return Ok(if audit.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    };
    services::run(kind, &args).await?;
    Ok(ExitCode::SUCCESS)
}
