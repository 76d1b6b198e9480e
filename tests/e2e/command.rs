//! Runs `tidelog` as a user would, to its end.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_tidelog");

/// What a command gave.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The command with these arguments, without the caller's settings.
pub(crate) fn tidelog(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDELOG_")) {
        command.env_remove(name);
    }
    // Nor with the contexts of whoever runs the tests.
    command.env("TIDELOG_CONFIG", "/nowhere/tidelog.toml").args(args);
    command
}

/// Runs to the end with nothing on stdin.
pub(crate) fn run(args: &[&str]) -> Ended {
    run_with(args, b"")
}

/// Runs to the end with these bytes on stdin.
pub(crate) fn run_with(args: &[&str], input: &[u8]) -> Ended {
    run_command(tidelog(args), input)
}

/// Runs a command to the end with these bytes on stdin.
pub(crate) fn run_command(mut command: Command, input: &[u8]) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that refuses its arguments reads nothing: then the pipe is broken, as it should be.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Ended::new(output)
}

impl Ended {
    fn new(output: Output) -> Self {
        Self {
            // A signal is no exit code and equals none.
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It ended well.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// What it gave in JSON, having ended well: one item.
    #[track_caller]
    pub(crate) fn item(self) -> Value {
        self.json()["item"].take()
    }

    /// The same of several items.
    #[track_caller]
    pub(crate) fn items(self) -> Vec<Value> {
        let Value::Array(items) = self.json()["items"].take() else { panic!("no items") };
        items
    }

    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.succeeded().stdout).unwrap()
    }

    /// It ended with `code` and said why in one line with every one of these words.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        let lines: Vec<&str> = self.stderr.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 1, "one clear line: {self:#?}");
        let missing = words.iter().find(|word| !self.stderr.contains(**word));
        assert_eq!(missing, None, "{self:#?}");
    }
}
