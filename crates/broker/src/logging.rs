//! What the process logs: format, level, and how to change it while it runs.

use std::io::IsTerminal;
use std::sync::Arc;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{LogConfig, LogFormat, LogLevel};
use crate::environment::LogFilter;

/// What libraries may say at most: openraft logs a line per message and chunk, HTTP/2 one per frame.
const QUIET: &str =
    "openraft=warn,h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,sled=warn";

/// Installs the process's logger, on stderr, and gives what changes it.
///
/// # Errors
/// One line, when the process has a logger already.
pub fn install(config: &LogConfig) -> Result<Arc<dyn LogFilter>, String> {
    let filter = parse(config.level.word())?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines: Box<dyn Layer<_> + Send + Sync> = match config.format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            Box::new(fmt::layer().with_ansi(colours).with_writer(std::io::stderr))
        }
        LogFormat::Json => {
            Box::new(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr))
        }
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|err| err.to_string())?;
    Ok(Arc::new(Handle(handle)))
}

#[derive(Debug)]
struct Handle(reload::Handle<EnvFilter, Registry>);

impl LogFilter for Handle {
    fn set(&self, filter: &str) -> Result<String, String> {
        let next = parse(filter)?;
        let previous = self.0.with_current(ToString::to_string).map_err(|err| err.to_string())?;
        self.0.reload(next).map_err(|err| err.to_string())?;
        Ok(previous)
    }
}

/// A level, or a list as `info,tidelog_raft=trace`; libraries stay quiet unless they are named.
fn parse(filter: &str) -> Result<EnvFilter, String> {
    let named = filter.split(',').any(|part| part.contains('='));
    if !named && LogLevel::from_word(filter).is_none() {
        return Err(format!(
            "log filter {filter:?} is not allowed: expected error, warn, info, debug or trace, or a \
             list as info,tidelog_raft=trace"
        ));
    }
    EnvFilter::try_new(format!("{QUIET},{filter}"))
        .map_err(|err| format!("log filter {filter:?} is not allowed: {err}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_lists_are_taken_and_nonsense_is_not() {
        for filter in ["info", "trace", "info,tidelog_raft=trace", "openraft=debug"] {
            assert!(parse(filter).is_ok(), "{filter}");
        }
        for filter in ["", "loud", "info,x=loud"] {
            assert!(parse(filter).is_err(), "{filter}");
        }
    }

    /// Hazard H16: the engine logs a line per message and chunk.
    #[test]
    fn engine_stays_quiet_at_every_level_unless_it_is_named() {
        for level in ["info", "debug", "trace"] {
            let filter = parse(level).unwrap().to_string();
            assert!(filter.contains("openraft=warn"), "{level}: {filter}");
        }
        let named = parse("info,openraft=debug").unwrap().to_string();
        assert!(named.contains("openraft=debug") && !named.contains("openraft=warn"), "{named}");
    }
}
