//! The services as processes, in whichever language they are written.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use crate::Error;
use crate::services::Kind;

const POLL: Duration = Duration::from_millis(20);

/// What a service is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    Python,
    Node,
}

/// Who is written in what. Shipping is in Rust.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Languages {
    pub(crate) order: Language,
    pub(crate) inventory: [Language; 2],
    pub(crate) notification: Language,
}

impl Languages {
    fn has(&self, language: Language) -> bool {
        let [first, second] = self.inventory;
        [self.order, first, second, self.notification].contains(&language)
    }
}

/// Starts services with what they have in common.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    /// Where journals and generated stubs are.
    pub(crate) dir: PathBuf,
}

impl Launcher {
    /// Generates what the languages need.
    pub(crate) fn prepare(&self, languages: &Languages) -> Result<(), Error> {
        if !languages.has(Language::Python) {
            return Ok(());
        }
        let (proto, stubs) = (root().join("proto"), self.stubs());
        std::fs::create_dir_all(&stubs)?;
        let mut command = Command::new(python());
        command.args(["-m", "grpc_tools.protoc", "-I"]).arg(&proto);
        for option in ["--python_out", "--grpc_python_out"] {
            command.arg(format!("{option}={}", stubs.display()));
        }
        for file in std::fs::read_dir(proto.join("tidelog/v1"))? {
            command.arg(file?.path());
        }
        let status = command.status().map_err(|err| format!("run {}: {err}", python()))?;
        if !status.success() {
            let advice = "examples/shop/install DIR installs what it needs";
            return Err(format!("no stubs for Python ({status}): {advice}").into());
        }
        Ok(())
    }

    pub(crate) fn journal(&self, kind: Kind) -> PathBuf {
        self.dir.join(format!("{}.jsonl", kind.name()))
    }

    /// Starts a process of a service.
    pub(crate) fn start(
        &self,
        kind: Kind,
        language: Language,
        more: &[String],
    ) -> Result<Process, Error> {
        let mut command = self.command(kind, language)?;
        command.args(["--bootstrap", &self.bootstrap, "--topic", &self.topic, "--journal"]);
        command.arg(self.journal(kind));
        if kind != Kind::Order {
            command.args(["--group", kind.name()]);
        }
        // A service in Rust ends when the other end closes, however this process ends.
        command.args(more).stdin(Stdio::piped());
        let child = command.spawn().map_err(|err| format!("run {command:?}: {err}"))?;
        Ok(Process { name: kind.name(), child })
    }

    fn command(&self, kind: Kind, language: Language) -> Result<Command, Error> {
        let script = |folder: &str, ending: &str| {
            root().join(format!("examples/shop/{folder}/{}_service.{ending}", kind.name()))
        };
        Ok(match language {
            Language::Rust => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["service", kind.name()]);
                command
            }
            Language::Python => {
                let mut command = Command::new(python());
                command.env("PYTHONPATH", self.stubs()).env("PYTHONDONTWRITEBYTECODE", "1");
                command.arg(script("python", "py"));
                command
            }
            Language::Node => {
                let mut command = Command::new("node");
                if let Some(modules) = std::env::var_os("TIDELOG_NODE_MODULES") {
                    command.env("NODE_PATH", modules);
                }
                command.arg(script("node", "js"));
                command
            }
        })
    }

    fn stubs(&self) -> PathBuf {
        self.dir.join("python-stubs")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn python() -> String {
    std::env::var("TIDELOG_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// A process of a service; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    /// SIGKILL: it has no time for anything.
    pub(crate) fn kill(mut self) -> Result<u32, Error> {
        let pid = self.child.id();
        self.child.kill()?;
        self.child.wait()?;
        Ok(pid)
    }

    /// SIGTERM, and waits for an orderly end.
    pub(crate) async fn stop(mut self, within: Duration) -> Result<(), Error> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.ended(within).await
    }

    /// Waits until it ends by itself, with success.
    pub(crate) async fn ended(&mut self, within: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + within;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.failed(status)),
                None if Instant::now() >= deadline => {
                    return Err(format!("{} does not end", self.name).into());
                }
                None => sleep(POLL).await,
            }
        }
    }

    /// An error when it has ended, which it should not have.
    pub(crate) fn still_runs(&mut self) -> Result<(), Error> {
        self.child.try_wait()?.map_or(Ok(()), |status| Err(self.failed(status)))
    }

    fn failed(&self, status: ExitStatus) -> Error {
        format!("the {} service ended with {status}", self.name).into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; nobody is left to be told otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
