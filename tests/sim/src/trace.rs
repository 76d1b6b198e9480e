//! What happened, line by line: the proof that a seed repeats itself.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// The trace of one run. Clones write to the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Arc<Mutex<String>>);

impl Trace {
    fn text(&self) -> MutexGuard<'_, String> {
        // Lines are whole or absent: a panic between two of them spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of all lines, unless somebody adds one now.
    pub(crate) fn try_text(&self) -> Option<String> {
        self.0.try_lock().ok().map(|text| text.clone())
    }

    /// Adds a line, behind the simulated time.
    pub(crate) fn line(&self, what: fmt::Arguments<'_>) {
        self.at(turmoil::sim_elapsed().unwrap_or_default(), what);
    }

    /// Adds a line of outside the simulation, behind its time.
    pub(crate) fn at(&self, time: Duration, what: fmt::Arguments<'_>) {
        writeln!(self.text(), "{:>10} {what}", time.as_micros()).expect("a string takes any text");
    }

    /// Looks at all lines so far.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&str) -> T) -> T {
        look(&self.text())
    }

    /// Writes what hosts log from now on into the trace: role changes above all, and every message
    /// that the network drops.
    pub(crate) fn take_logs(&self) {
        const FILTER: &str = "warn,tidelog_broker=info,tidelog_raft=info,tidelog_log=info,\
                              tidelog_client=info,turmoil=info";
        let logs = tracing_subscriber::fmt()
            .with_env_filter(FILTER)
            .without_time()
            .with_ansi(false)
            .with_writer(self.clone());
        logs.init();
    }
}

impl<'a> MakeWriter<'a> for Trace {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine(self.clone())
    }
}

/// One line of the log on its way into the trace.
#[derive(Debug)]
pub(crate) struct LogLine(Trace);

impl io::Write for LogLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.line(format_args!("log {}", text.trim_end()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
