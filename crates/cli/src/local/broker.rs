//! One broker process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::{Error, Scraper, Setup, http_get};

/// Pause between two looks at a condition that is waited for.
const POLL: Duration = Duration::from_millis(10);
/// Longest wait for one answer over HTTP.
const HTTP_WAIT: Duration = Duration::from_secs(2);
/// How much of a log's end an error shows.
const TAIL_BYTES: u64 = 2048;

/// Where a broker listens: its ports, all on one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerPorts {
    /// The address; 127.0.0.1, unless brokers have networks of their own.
    pub host: Ipv4Addr,
    /// For clients, gRPC.
    pub client: u16,
    /// For other brokers.
    pub internal: u16,
    /// For `/metrics`, `/healthz` and `/readyz`.
    pub http: u16,
}

impl BrokerPorts {
    /// The ports that broker `id` has by default when several run on one machine: 7071, 7171 and
    /// 8071 for broker 1, one higher for each next.
    #[must_use]
    pub fn default_of(id: u32) -> Self {
        let id = id as u16;
        let host = Ipv4Addr::LOCALHOST;
        Self { host, client: 7070 + id, internal: 7170 + id, http: 8070 + id }
    }

    /// Where clients connect.
    #[must_use]
    pub fn client_address(&self) -> String {
        self.address(self.client)
    }

    /// Where it tells over HTTP how it is.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        SocketAddr::from((self.host, self.http))
    }

    fn address(&self, port: u16) -> String {
        format!("{}:{port}", self.host)
    }
}

/// One broker: its files, and its process while it runs.
#[derive(Debug)]
pub struct Broker {
    id: u32,
    /// What it is started with: the binary, and whatever starts that.
    program: Vec<OsString>,
    ports: BrokerPorts,
    config: PathBuf,
    data_dir: PathBuf,
    log: PathBuf,
    variables: BTreeMap<String, String>,
    process: Option<Child>,
}

impl Broker {
    /// One of those that form the cluster.
    pub(super) fn create(id: u32, setup: &Setup) -> Result<Self, Error> {
        let initial = (1_u32..).zip(&setup.ports);
        let initial = initial.map(|(id, ports)| format!("{id}@{}", ports.address(ports.internal)));
        Self::write(id, setup, initial.collect(), Vec::new())
    }

    /// One that joins the cluster of the brokers at `seeds`.
    pub(super) fn join(id: u32, setup: &Setup, seeds: &[BrokerPorts]) -> Result<Self, Error> {
        let seeds = seeds.iter().map(|ports| ports.address(ports.internal));
        Self::write(id, setup, Vec::new(), seeds.collect())
    }

    fn write(
        id: u32,
        setup: &Setup,
        initial_brokers: Vec<String>,
        seeds: Vec<String>,
    ) -> Result<Self, Error> {
        let within = |name: String| setup.dir.join(name);
        let mut program = setup.launchers.get(id as usize - 1).cloned().unwrap_or_default();
        program.push(setup.binary.clone().into());
        let broker = Self {
            id,
            program,
            ports: setup.ports[id as usize - 1],
            config: within(format!("node{id}.toml")),
            data_dir: within(format!("node{id}")),
            log: within(format!("node{id}.log")),
            variables: BTreeMap::new(),
            process: None,
        };
        let text = broker.configuration(setup, initial_brokers, seeds);
        std::fs::write(&broker.config, text).map_err(Error::at("write", &broker.config))?;
        Ok(broker)
    }

    fn configuration(
        &self,
        setup: &Setup,
        initial_brokers: Vec<String>,
        seeds: Vec<String>,
    ) -> String {
        let address = |port| self.ports.address(port);
        let listener = |port| Listener { bind: address(port), advertised: address(port) };
        let listener = BTreeMap::from([
            ("client", listener(self.ports.client)),
            ("internal", listener(self.ports.internal)),
            ("http", listener(self.ports.http)),
        ]);
        let data_dir = &self.data_dir;
        let node = Node { broker_id: self.id, data_dir, initial_brokers, seeds, listener };
        let mut table =
            toml::Table::try_from(node).expect("a node's file has only strings and ids");
        table.extend(setup.settings.clone());
        table.to_string()
    }

    /// What the environment of its next process has beside the caller's, instead of what was set before.
    pub fn set_variables(&mut self, variables: BTreeMap<String, String>) {
        self.variables = variables;
    }

    /// Starts the process; [`Broker::ready`] waits for it. It must not be running.
    ///
    /// # Errors
    /// The log cannot be opened or the binary not be run.
    pub fn start(&mut self) -> Result<(), Error> {
        assert!(!self.is_running(), "broker {} is started twice", self.id);
        let open = || OpenOptions::new().create(true).append(true).open(&self.log);
        let log = open().map_err(Error::at("open", &self.log))?;
        let errors = log.try_clone().map_err(Error::at("open", &self.log))?;
        let (first, rest) = self.program.split_first().expect("a binary at least");
        let mut command = Command::new(first);
        command.args(rest).arg("server").arg("-c").arg(&self.config).arg("--exit-with-parent");
        // The caller's variables are about the caller; only what makes brokers talk more is theirs.
        let ours = |name: &str| name.starts_with("TIDELOG_") && !name.starts_with("TIDELOG_LOG");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
            command.env_remove(name);
        }
        command.envs(&self.variables);
        // A group of its own: Ctrl-C on the terminal is for the parent, who stops the brokers.
        command.stdin(Stdio::piped()).stdout(log).stderr(errors).process_group(0);
        self.process = Some(command.spawn().map_err(Error::at("run", Path::new(first)))?);
        Ok(())
    }

    /// Waits until the broker says over HTTP that it is ready.
    ///
    /// # Errors
    /// It exits or is not ready in time.
    pub async fn ready(&mut self, within: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + within;
        loop {
            self.still_running()?;
            let answer = http_get(self.ports.http_address(), "/readyz", HTTP_WAIT).await;
            if matches!(answer, Ok((200, _))) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.timed_out("was not ready", within));
            }
            sleep(POLL).await;
        }
    }

    /// SIGKILL, and waits for the end. Nothing when it does not run.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.send_kill()?;
        self.reap()
    }

    /// SIGTERM, and waits for an orderly end.
    ///
    /// # Errors
    /// It does not end in time, or not with success.
    pub async fn stop(&mut self, within: Duration) -> Result<(), Error> {
        self.still_running()?;
        self.signal(Signal::TERM)?;
        let status = self.exited(within).await?;
        if !status.success() {
            return Err(self.exit_error(status));
        }
        Ok(())
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// It does not in time.
    ///
    /// # Panics
    /// When the broker was never started, or its end was seen already.
    pub async fn exited(&mut self, within: Duration) -> Result<ExitStatus, Error> {
        let poll = async {
            loop {
                let process = self.process.as_mut().expect("only a started broker exits");
                match process.try_wait() {
                    Ok(None) => sleep(POLL).await,
                    Ok(Some(status)) => return Ok(status),
                    Err(source) => return Err(source),
                }
            }
        };
        let status = match timeout(within, poll).await {
            Ok(status) => status.map_err(|source| Error::Signal { broker: self.id, source })?,
            Err(_) => return Err(self.timed_out("did not end", within)),
        };
        self.process = None;
        Ok(status)
    }

    /// How the process ended by itself, if it did; from then on it can be started again.
    ///
    /// # Errors
    /// The system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        let Some(process) = self.process.as_mut() else { return Ok(None) };
        let ended =
            process.try_wait().map_err(|source| Error::Signal { broker: self.id, source })?;
        if ended.is_some() {
            self.process = None;
        }
        Ok(ended)
    }

    /// SIGSTOP: the process freezes, its connections stay open.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: a frozen process goes on.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.signal(Signal::CONT)
    }

    /// Whether the process runs; a frozen one does.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// Whether it was started and not ended by this side since; it may have ended by itself.
    #[must_use]
    pub fn was_started(&self) -> bool {
        self.process.is_some()
    }

    /// The broker's id in the cluster.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Its ports.
    #[must_use]
    pub fn ports(&self) -> BrokerPorts {
        self.ports
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its log file, one for all its lives.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_else(|err| format!("(cannot be read: {err})"))
    }

    /// What its process holds in memory, in bytes; `None` when it does not run or the system does
    /// not say.
    #[must_use]
    pub fn resident_bytes(&self) -> Option<u64> {
        self.memory("VmRSS:")
    }

    /// The most that its process ever held in memory, in bytes.
    #[must_use]
    pub fn resident_bytes_max(&self) -> Option<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }

    /// Asks it for its metrics, over all its lives.
    #[must_use]
    pub fn scraper(&self) -> Scraper {
        Scraper { broker: self.id, http: self.ports.http_address() }
    }

    pub(super) fn send_kill(&mut self) -> Result<(), Error> {
        if self.is_running() { self.signal(Signal::KILL) } else { Ok(()) }
    }

    pub(super) fn reap(&mut self) -> Result<(), Error> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.wait().map_err(|source| Error::Signal { broker: self.id, source })?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let failed = |source| Error::Signal { broker: self.id, source };
        let Some(process) = &self.process else {
            return Err(failed(io::Error::other("it does not run")));
        };
        kill_process(Pid::from_child(process), signal).map_err(|errno| failed(errno.into()))
    }

    pub(super) fn still_running(&mut self) -> Result<(), Error> {
        let process = self.process.as_mut().map(Child::try_wait);
        match process {
            Some(Ok(None)) => Ok(()),
            Some(Ok(Some(status))) => Err(self.exit_error(status)),
            Some(Err(source)) => Err(Error::Signal { broker: self.id, source }),
            None => {
                let source = io::Error::other("it does not run");
                Err(Error::Signal { broker: self.id, source })
            }
        }
    }

    fn exit_error(&self, status: ExitStatus) -> Error {
        Error::Exited { broker: self.id, status, log: self.log.clone(), tail: self.log_tail() }
    }

    fn timed_out(&self, missed: &'static str, within: Duration) -> Error {
        Error::TimedOut { broker: self.id, missed, within, log: self.log.clone() }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Nobody is left to be told; a process that cannot be killed still sees its input close.
        let _ = self.kill();
    }
}

#[derive(Serialize)]
struct Node<'a> {
    broker_id: u32,
    data_dir: &'a Path,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    initial_brokers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    seeds: Vec<String>,
    listener: BTreeMap<&'static str, Listener>,
}

#[derive(Serialize)]
struct Listener {
    bind: String,
    advertised: String,
}

fn tail(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let end = String::from_utf8_lossy(&end);
    // The first line is whole only when the file is shown from its beginning.
    let whole = if start == 0 { &*end } else { end.split_once('\n').map_or("", |(_, rest)| rest) };
    Ok(whole.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_names_every_broker_and_keeps_settings() {
        let dir = tempfile::tempdir().unwrap();
        let mut setup = Setup::new(dir.path(), 2).unwrap();
        setup.settings = "[storage]\ncache_bytes = 5\n".parse().unwrap();
        let broker = Broker::create(2, &setup).unwrap();
        let written: toml::Table =
            std::fs::read_to_string(broker.config()).unwrap().parse().unwrap();
        assert_eq!(written["broker_id"].as_integer(), Some(2));
        assert_eq!(written["initial_brokers"].as_array().unwrap().len(), 2);
        let first = format!("1@127.0.0.1:{}", setup.ports[0].internal);
        assert_eq!(written["initial_brokers"][0].as_str(), Some(first.as_str()));
        let client = &written["listener"]["client"];
        assert_eq!(client["bind"].as_str(), Some(broker.ports().client_address().as_str()));
        assert_eq!(written["storage"]["cache_bytes"].as_integer(), Some(5));
    }

    #[test]
    fn tail_shows_whole_lines_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "short\n").unwrap();
        assert_eq!(tail(&path).unwrap(), "short");
        std::fs::write(&path, format!("{}\nlast\n", "x".repeat(5000))).unwrap();
        assert_eq!(tail(&path).unwrap(), "last");
    }
}
