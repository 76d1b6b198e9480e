//! `tidelog dev` in the foreground, and what brokers do when whoever started them dies.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{run_with, tidelog};
use crate::stage::until;

/// A `dev` cluster that has said how to use it.
struct Dev {
    process: Child,
    said: Vec<String>,
    dir: Option<tempfile::TempDir>,
}

impl Dev {
    fn start(nodes: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), nodes)
    }

    fn start_in(dir: tempfile::TempDir, nodes: &str) -> Self {
        let mut command = tidelog(&["dev", "--nodes", nodes, "--free-ports", "--dir"]);
        command.arg(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            said.push(line.unwrap());
            if said.last().unwrap().contains("Ctrl-C") {
                return Self { process, said, dir: Some(dir) };
            }
        }
        panic!("dev ended: {:?} {said:?}", process.wait_with_output());
    }

    /// The addresses for clients.
    fn addresses(&self) -> Vec<String> {
        let clients = self.said.iter().filter_map(|line| line.split_once("clients "));
        clients.map(|(_, rest)| rest.split(' ').next().unwrap().to_owned()).collect()
    }

    /// The commands that it told to try.
    fn commands(&self) -> Vec<&str> {
        self.said.iter().map(|line| line.trim()).filter(|line| line.contains("tidelog ")).collect()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// The brokers' process ids.
    fn brokers(&self) -> Vec<u32> {
        let pids = self.said.iter().filter_map(|line| line.split_once("pid "));
        pids.map(|(_, pid)| pid.trim().parse().unwrap()).collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether the process runs; one that ended and was not waited for does not.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_tells_commands_that_work_and_stops_on_ctrl_c() {
    let mut dev = Dev::start("3");
    assert_eq!((dev.addresses().len(), dev.brokers().len()), (3, 3), "{:?}", dev.said);
    assert_eq!(dev.commands().len(), 3, "{:?}", dev.said);
    let bootstrap = dev.addresses().join(",");
    let with = |args: &str, input: &[u8]| {
        let mut args: Vec<&str> = args.split(' ').collect();
        args.extend(["-b", &bootstrap]);
        run_with(&args, input).succeeded()
    };
    let args = |command: &str| command.split_once("tidelog ").unwrap().1.to_owned();
    let told: Vec<String> = dev.commands().into_iter().map(args).collect();
    let bare = |at: usize| told[at].split(" -b ").next().unwrap().to_owned();
    with(&bare(0), b"");
    with(&bare(1), b"hello tide\n");
    assert_eq!(with(&bare(2), b"").stdout, "hello tide\n");

    let brokers = dev.brokers();
    dev.signal(Signal::INT);
    assert!(dev.process.wait().unwrap().success());
    assert!(!brokers.into_iter().any(runs));

    // The same directory again, on other ports: the same cluster.
    let dev = Dev::start_in(dev.dir.take().unwrap(), "3");
    let bootstrap = dev.addresses().join(",");
    let consume = ["consume", "orders", "--until", "end", "-b", &bootstrap];
    assert_eq!(run_with(&consume, b"").succeeded().stdout, "hello tide\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_end_when_their_parent_is_killed() {
    let mut dev = Dev::start("1");
    let brokers = dev.brokers();
    assert!(brokers.len() == 1 && runs(brokers[0]));
    dev.process.kill().unwrap();
    dev.process.wait().unwrap();
    until("the broker has ended too", async || !runs(brokers[0])).await;
}
