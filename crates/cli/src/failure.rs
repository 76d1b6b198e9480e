//! How a command ends when it does not end well.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use tidelog_types::ErrorCode;

/// The exit codes besides 0. Scripts depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command failed.
    Failed = 1,
    /// The command line, or a file it names, is wrong.
    Usage = 2,
    /// Some items succeeded, others did not.
    Partial = 3,
    /// File and cluster were compared, and differ. Not 1, as with `diff(1)`: that is a failure here.
    Differs = 4,
    /// The cluster answered, and is not healthy.
    Unhealthy = 10,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What went wrong, and what to do next: one line on stderr, or one for each item that failed.
///
/// The message names the facts, causes included; the next step is a command or a sentence. A quiet
/// failure is printed nowhere and exits with 0: the reader of our output went away.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    next_step: Option<String>,
    code: Option<ErrorCode>,
    quiet: bool,
    more: Vec<Failure>,
}

impl Failure {
    /// A failure that exits with 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            message: message.into(),
            next_step: None,
            code: None,
            quiet: false,
            more: Vec::new(),
        }
    }

    /// A wrong command line or file: exits with 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(message).exit(Exit::Usage)
    }

    /// `doing` failed because of `source`, whose own causes are named too.
    pub fn because(doing: impl fmt::Display, source: &(dyn Error + 'static)) -> Self {
        Self::new(format!("{doing}: {}", chain(source)))
    }

    /// The same failure with another exit code.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The same failure with what to do next.
    #[must_use]
    pub fn next_step(mut self, next_step: impl Into<String>) -> Self {
        self.next_step = Some(next_step.into());
        self
    }

    /// The same failure with the code that a broker gave.
    #[must_use]
    pub(crate) fn code(mut self, code: Option<ErrorCode>) -> Self {
        self.code = code;
        self
    }

    /// The same failure with its message put into another one.
    #[must_use]
    pub(crate) fn at(mut self, place: impl FnOnce(&str) -> String) -> Self {
        self.message = place(&self.message);
        self
    }

    /// Whether a topic or partition is not there.
    pub(crate) fn is_unknown_topic(&self) -> bool {
        self.is(ErrorCode::UnknownTopicOrPartition)
    }

    /// Whether a broker gave this code.
    pub(crate) fn is(&self, code: ErrorCode) -> bool {
        self.code == Some(code)
    }

    /// This failure and another one, a line each.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.more.push(other);
        self
    }

    /// What is to be printed, line by line.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let own = match &self.next_step {
            _ if self.quiet => None,
            Some(next_step) => Some(format!("{}; {next_step}", self.message)),
            None => Some(self.message.clone()),
        };
        own.into_iter().chain(self.more.iter().flat_map(Self::lines)).collect()
    }

    /// What the process exits with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if self.quiet { ExitCode::SUCCESS } else { self.exit.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let mut failure = Self::new(chain(&error));
        failure.quiet = error.kind() == io::ErrorKind::BrokenPipe;
        failure
    }
}

/// An error and its causes on one line. A cause that its effect already quotes is left out.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("read node.toml")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_failure_is_one_line_with_its_causes_and_the_next_step() {
        let outer = Outer(io::Error::other("it is\ngone"));
        let failure = Failure::because("start", &outer).next_step("look");
        assert_eq!(failure.to_string(), "start: read node.toml: it is gone; look");
    }

    #[test]
    fn a_broken_pipe_is_no_error() {
        let failure = |kind| Failure::from(io::Error::from(kind));
        assert!(failure(io::ErrorKind::BrokenPipe).lines().is_empty());
        assert_eq!(failure(io::ErrorKind::BrokenPipe).exit_code(), ExitCode::SUCCESS);
        assert_eq!(failure(io::ErrorKind::NotFound).exit_code(), ExitCode::from(1));
    }
}
