//! Networks of their own for brokers, on a bridge of this machine, where what one sends another can be
//! lost in silence: the sender holds a wrong hardware address for the receiver.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::process::Command;

/// Where clients are, beside the brokers by their ids.
pub(crate) const CLIENTS: u32 = 254;

/// A hardware address that nobody has.
const NOBODY: &str = "02:74:6c:ff:ff:ff";

/// A bridge, and a network namespace for each broker. They go when it is dropped.
#[derive(Debug)]
pub(crate) struct Network {
    name: String,
    /// A number of this process, so that runs beside each other do not meet.
    number: u8,
    brokers: u32,
}

impl Network {
    /// Makes it; or why this machine does not let us.
    pub(crate) fn new(brokers: u32) -> Result<Self, String> {
        let process = std::process::id();
        let name = format!("tl{process}");
        let network = Self { name, number: (process % 250) as u8, brokers };
        network.make()?;
        Ok(network)
    }

    fn make(&self) -> Result<(), String> {
        let bridge = self.bridge();
        ip(&["link", "add", &bridge, "address", &self.hardware(CLIENTS), "type", "bridge"])?;
        ip(&["address", "add", &format!("{}/24", self.address(CLIENTS)), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for id in 1..=self.brokers {
            let (space, cable) = (self.space(id), format!("{}c{id}", self.name));
            ip(&["netns", "add", &space])?;
            let end = ["peer", "name", "eth0", "address", &self.hardware(id), "netns", &space];
            ip(&[&["link", "add", &cable, "type", "veth"], &end[..]].concat())?;
            ip(&["link", "set", &cable, "master", &bridge, "up"])?;
            let within = ["-n", &space];
            let address = format!("{}/24", self.address(id));
            ip(&[&within[..], &["address", "add", &address, "dev", "eth0"]].concat())?;
            ip(&[&within[..], &["link", "set", "eth0", "up"]].concat())?;
            ip(&[&within[..], &["link", "set", "lo", "up"]].concat())?;
        }
        self.heal();
        Ok(())
    }

    /// The address of a broker, or of clients.
    pub(crate) fn address(&self, host: u32) -> Ipv4Addr {
        // A range for tests of networks, RFC 2544.
        Ipv4Addr::new(198, 18, self.number, host as u8)
    }

    /// The words that start a broker in its network.
    pub(crate) fn launcher(&self, id: u32) -> Vec<OsString> {
        ["ip", "netns", "exec", &self.space(id)].map(OsString::from).to_vec()
    }

    /// From now on nothing arrives that `from` sends to `to`.
    pub(crate) fn cut(&self, from: u32, to: u32) {
        self.aim(from, to, NOBODY);
    }

    /// From now on everything arrives.
    pub(crate) fn heal(&self) {
        for from in self.hosts() {
            for to in self.hosts().filter(|to| *to != from) {
                self.aim(from, to, &self.hardware(to));
            }
        }
    }

    /// All brokers, and clients.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = u32> {
        (1..=self.brokers).chain([CLIENTS])
    }

    /// Has `from` send what is for `to` to a hardware address.
    fn aim(&self, from: u32, to: u32, hardware: &str) {
        let (space, address) = (self.space(from), self.address(to).to_string());
        let (within, device) = match from {
            CLIENTS => (Vec::new(), self.bridge()),
            _ => (vec!["-n", &space], "eth0".to_owned()),
        };
        let entry = ["neighbour", "replace", &address, "lladdr", hardware, "nud", "permanent"];
        ip(&[&within[..], &entry, &["dev", &device]].concat()).unwrap();
    }

    fn bridge(&self) -> String {
        format!("{}b", self.name)
    }

    fn space(&self, id: u32) -> String {
        format!("{}-{id}", self.name)
    }

    fn hardware(&self, host: u32) -> String {
        format!("02:74:6c:{:02x}:00:{host:02x}", self.number)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What was never made cannot be taken down, and says so.
        let spaces = (1..=self.brokers).map(|id| ip(&["netns", "delete", &self.space(id)]));
        let gone: Vec<_> = spaces.chain([ip(&["link", "delete", &self.bridge()])]).collect();
        println!("network {}: {gone:?}", self.name);
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let ended = Command::new("ip").args(words).output();
    let ended = ended.map_err(|err| format!("ip is not there: {err}"))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    let told = || format!("ip {}: {}", words.join(" "), said.trim());
    if ended.status.success() { Ok(()) } else { Err(told()) }
}
