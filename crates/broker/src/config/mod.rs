//! The configuration of a broker: one TOML file, each key also an environment variable.
//!
//! [`keys`] is the one table of all keys: reading, showing and the reference in `docs/config.md`
//! follow it. Environment beats file beats default. Unknown keys are refused, values are checked
//! against their bounds one by one and then against each other, and an error is one line: where it
//! was written, the key, what is allowed.

mod check;
mod keys;
mod load;
mod reference;
mod values;

use std::path::{Path, PathBuf};

use serde::Serialize;
use tidelog_types::BrokerId;

pub use load::ConfigError;
pub use reference::reference;
pub use values::{ByteSize, HostPort, InitialBroker, LogFormat, LogLevel, Span};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The broker's number, unique in the cluster; the cluster gives one to a broker that joins without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_id: Option<u32>,
    /// Where everything of this broker lies; relative to the working directory.
    pub data_dir: PathBuf,
    /// Where the broker stands; replicas of a partition are spread over racks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// The brokers that form the cluster, this one among them, sorted by id; empty when it joins one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub initial_brokers: Vec<InitialBroker>,
    /// Internal listeners of brokers whose cluster this one joins; empty when it forms one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<HostPort>,
    /// The three listeners.
    pub listener: Listeners,
    /// What a broker's clients may use up.
    pub limits: LimitsConfig,
    /// Timings of replication.
    pub raft: RaftConfig,
    /// Threads and memory of the storage.
    pub storage: StorageConfig,
    /// Where replicas are.
    pub replicas: ReplicasConfig,
    /// Consumer groups.
    pub groups: GroupsConfig,
    /// What is logged.
    pub log: LogConfig,
}

/// The three listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listeners {
    /// gRPC for clients.
    pub client: ListenerConfig,
    /// gRPC between brokers.
    pub internal: ListenerConfig,
    /// HTTP for `/metrics`, `/healthz` and `/readyz`.
    pub http: ListenerConfig,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerConfig {
    /// Where it listens.
    pub bind: HostPort,
    /// What others are told to dial; what is bound when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertised: Option<HostPort>,
}

/// What clients may use up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitsConfig {
    /// Bytes of batches that wait for their ack, over all partitions.
    pub in_flight_bytes: ByteSize,
    /// The same for one partition.
    pub in_flight_bytes_per_partition: ByteSize,
    /// Bytes of batches read for consumers and not yet taken by them.
    pub fetch_bytes: ByteSize,
    /// Bytes of messages that have not arrived whole.
    pub receive_bytes: ByteSize,
    /// Connections of the client listener.
    pub connections: u32,
    /// Calls of the client listener at a time, streams among them.
    pub calls: u32,
    /// Fetch streams of the broker.
    pub fetch_streams: u32,
}

/// Timings of replication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RaftConfig {
    /// Pause between a leader's heartbeats.
    pub heartbeat: Span,
    /// Shortest election timeout.
    pub election_min: Span,
    /// Longest election timeout.
    pub election_max: Span,
    /// Pause between two probes of another broker.
    pub probe: Span,
    /// Silence after which another broker counts as dead.
    pub probe_missed: Span,
    /// How long nothing must have happened in a group until it sleeps; zero: never.
    pub sleep_after: Span,
}

/// Threads and memory of the storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StorageConfig {
    /// Threads that write and fsync.
    pub flush_threads: u32,
    /// Threads that read what is not in memory.
    pub read_threads: u32,
    /// Recent entries kept in memory, over all partitions.
    pub tail_cache: ByteSize,
    /// Free bytes on the disk below which no records are taken; zero: take them until it is full.
    pub free_min: ByteSize,
    /// How often old segments are looked for.
    pub clean_every: Span,
    /// Within this time every byte is read again.
    pub scrub_every: Span,
    /// Bytes per second that are read for it at most.
    pub scrub_rate_max: ByteSize,
    /// Bytes per second that are read to compact logs at most; zero: they are not.
    pub compact_rate_max: ByteSize,
    /// Bytes of keys held in memory for it.
    pub compact_keys: ByteSize,
}

/// Where replicas are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplicasConfig {
    /// Bytes per second that a broker sends to replicas that join; zero: as fast as it goes.
    pub move_rate_max: ByteSize,
    /// How long a broker may be gone until its replicas are made anew elsewhere; zero: for ever.
    pub rebuild_after: Span,
}

/// Consumer groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupsConfig {
    /// How many coordinators the cluster gets when the first group is made.
    pub coordinators: u32,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogConfig {
    /// How much.
    pub level: LogLevel,
    /// How lines are written.
    pub format: LogFormat,
}

impl Default for Config {
    /// The defaults; `data_dir`, and one of `initial_brokers` and `seeds` have none
    /// and must be given.
    fn default() -> Self {
        let listener = |port| ListenerConfig {
            bind: HostPort { host: "127.0.0.1".to_owned(), port },
            advertised: None,
        };
        Self {
            broker_id: None,
            data_dir: PathBuf::new(),
            rack: None,
            initial_brokers: Vec::new(),
            seeds: Vec::new(),
            listener: Listeners {
                client: listener(7071),
                internal: listener(7171),
                http: listener(8071),
            },
            limits: LimitsConfig {
                in_flight_bytes: ByteSize::mib(64),
                in_flight_bytes_per_partition: ByteSize::mib(16),
                fetch_bytes: ByteSize::mib(64),
                receive_bytes: ByteSize::mib(64),
                calls: 4096,
                connections: 1024,
                fetch_streams: 1024,
            },
            raft: RaftConfig {
                heartbeat: Span::ms(200),
                election_min: Span::ms(1_000),
                election_max: Span::ms(1_500),
                probe: Span::ms(100),
                probe_missed: Span::ms(900),
                sleep_after: Span::ms(3_000),
            },
            storage: StorageConfig {
                flush_threads: 8,
                read_threads: 4,
                tail_cache: ByteSize::mib(64),
                free_min: ByteSize::mib(512),
                clean_every: Span::ms(10_000),
                scrub_every: Span::ms(7 * 24 * 60 * 60 * 1_000),
                scrub_rate_max: ByteSize::mib(10),
                compact_rate_max: ByteSize::mib(50),
                compact_keys: ByteSize::mib(64),
            },
            replicas: ReplicasConfig {
                move_rate_max: ByteSize::mib(100),
                rebuild_after: Span::ms(0),
            },
            groups: GroupsConfig { coordinators: 16 },
            log: LogConfig { level: LogLevel::Info, format: LogFormat::Text },
        }
    }
}

impl Config {
    /// Reads `path` and the `TIDELOG_…` variables of `environment`, and checks the whole.
    ///
    /// # Errors
    /// One line: the file or variable, the key, what is allowed.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        load::load(path, environment)
    }

    /// Checks the values against each other; [`Config::load`] has done so.
    ///
    /// # Errors
    /// The first relation that does not hold.
    pub fn check(&self) -> Result<(), ConfigError> {
        check::check(self)
    }

    /// The broker; 0, which no broker is, as long as the cluster has not given it an id.
    #[must_use]
    pub fn broker(&self) -> BrokerId {
        BrokerId(self.broker_id.unwrap_or_default())
    }

    /// The effective configuration as a file that [`Config::load`] reads. No key is a secret yet; one
    /// that is will be shown as `"***"`.
    #[must_use]
    pub fn print(&self) -> String {
        toml::to_string(self).expect("every value has a form in TOML")
    }

    /// The initial brokers as they are exchanged at formation.
    #[must_use]
    pub fn initial_list(&self) -> Vec<String> {
        self.initial_brokers.iter().map(ToString::to_string).collect()
    }
}
