//! `tidelog server`: one broker, until it is told to stop.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tidelog_broker::config::LogFormat;
use tidelog_broker::{Broker, Config, Environment, LogFilter, StartError, logging};
use tracing::error;

use crate::interrupt::Interrupt;
use crate::version::COMMIT;
use crate::{Failure, chain, local, parse_duration, runtime};

/// Arguments of `tidelog server`.
#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    /// Configuration file; each key can also come from a variable TIDELOG_…
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration and end
    #[arg(long)]
    check: bool,
    /// Print the effective configuration and end
    #[arg(long)]
    print_config: bool,
    /// Form of the log on stderr
    #[arg(long, value_name = "FORM")]
    log_format: Option<LogForm>,
    /// Filter of the log: info, or info,tidelog_raft=debug
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
    /// Worker threads; 2 on machines of up to 4 cores, else half the cores
    #[arg(long, value_name = "N")]
    worker_threads: Option<usize>,
    /// How long a stop may take; leadership is handed over first
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    stop_timeout: Duration,
    /// End when stdin closes
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogForm {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Runs a broker, or only looks at its configuration.
pub(crate) fn run(args: &ServerArgs) -> Result<ExitCode, Failure> {
    let config = args.load()?;
    if args.check || args.print_config {
        let shown = if args.print_config { config.print() } else { "configuration ok\n".into() };
        io::stdout().write_all(shown.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let filter = logging::install(&config.log).map_err(Failure::new)?;
    if let Some(level) = &args.log_level {
        filter.set(level).map_err(Failure::usage)?;
    }
    if args.exit_with_parent {
        local::parent_watch();
    }
    let runtime = runtime::server(args.worker_threads)?;
    runtime.block_on(serve(config, filter, args.stop_timeout))
}

impl ServerArgs {
    /// The configuration of the file, the environment and the flags, the later ones first.
    fn load(&self) -> Result<Config, Failure> {
        // A variable that is not UTF-8 is not ours: our keys and values are ASCII.
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let mut config = Config::load(self.config.as_deref(), variables)
            .map_err(|error| self.with_hint(Failure::usage(chain(&error))))?;
        match self.log_format {
            Some(LogForm::Text) => config.log.format = LogFormat::Text,
            Some(LogForm::Json) => config.log.format = LogFormat::Json,
            None => {}
        }
        Ok(config)
    }

    fn with_hint(&self, failure: Failure) -> Failure {
        match self.config {
            Some(_) => failure,
            None => failure.next_step("name a configuration file with -c FILE"),
        }
    }
}

async fn serve(
    config: Config,
    filter: Arc<dyn LogFilter>,
    stop_timeout: Duration,
) -> Result<ExitCode, Failure> {
    let mut interrupt = Interrupt::listen()?;
    let mut environment = Environment::system(&config)
        .map_err(|error| Failure::because("the broker's threads do not start", &error))?;
    environment.log_filter = Some(filter);
    environment.software = tidelog_broker::software(COMMIT);
    // A broker without an id waits here for one.
    let broker = tokio::select! {
        biased;
        () = interrupt.asked() => return Ok(ExitCode::SUCCESS),
        started = Broker::start(config, environment) => started.map_err(|error| not_started(&error))?,
    };
    tokio::select! {
        biased;
        () = interrupt.asked() => {}
        ended = broker.wait() => {
            let failure = match ended {
                Ok(()) => Failure::new("the broker ended by itself"),
                Err(error) => Failure::because("the broker gave up", &error),
            };
            error!(err = %failure, "broker ended");
            return Err(failure);
        }
    }
    broker.stop(stop_timeout).await;
    Ok(ExitCode::SUCCESS)
}

fn not_started(error: &StartError) -> Failure {
    let failure = Failure::because("the broker does not start", error);
    match error {
        StartError::Bind { .. } => {
            failure.next_step("stop what listens there, or change the listener's bind address")
        }
        StartError::Locked(_) => failure.next_step("stop that process, or choose another data_dir"),
        StartError::DataDir { .. } => {
            failure.next_step("make it writable, or choose another data_dir")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ServerArgs,
    }

    fn load(words: &[&str]) -> Result<Config, String> {
        let line = Line::parse_from(["server"].iter().chain(words));
        line.args.load().map_err(|failure| failure.to_string())
    }

    #[test]
    fn flags_beat_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        let text = "broker_id = 1\ndata_dir = \"d\"\ninitial_brokers = [\"1@127.0.0.1:7171\"]\n";
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        assert_eq!(load(&["-c", file]).unwrap().log.format, LogFormat::Text);
        let config = load(&["-c", file, "--log-format", "json"]).unwrap();
        assert_eq!(config.log.format, LogFormat::Json);
    }

    #[test]
    fn a_configuration_that_is_missing_or_wrong_is_one_line() {
        let error = load(&["-c", "/nowhere/x.toml"]).unwrap_err();
        assert!(error.starts_with("/nowhere/x.toml: ") && !error.contains('\n'), "{error}");
        let error = load(&[]).unwrap_err();
        assert!(error.contains("data_dir") && error.ends_with("-c FILE"), "{error}");
    }
}
