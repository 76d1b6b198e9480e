//! The table of all keys: type, bounds, and what breaks when a value is wrong.

use super::Config;
use super::values::Value;

/// One key of the configuration.
pub(super) struct Key {
    /// Its name, sections joined by dots.
    pub(super) name: &'static str,
    /// How its value is written.
    pub(super) kind: &'static str,
    /// The least and the most, where there are bounds.
    pub(super) bounds: Option<(&'static str, &'static str)>,
    /// Whether it must be given.
    pub(super) required: bool,
    /// What it is, and what goes wrong when it is wrong.
    pub(super) text: &'static str,
    /// Takes a value; `false` when it is not of the type or not within the bounds.
    pub(super) put: fn(&mut Config, &str) -> bool,
    /// The value it has.
    pub(super) show: fn(&Config) -> String,
}

impl Key {
    /// The environment variable.
    pub(super) fn variable(&self) -> String {
        format!("TIDELOG_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// What is allowed, for a person.
    pub(super) fn allowed(&self) -> String {
        match self.bounds {
            Some((least, most)) => format!("a {} from {least} to {most}", self.kind),
            None => format!("a {}", self.kind),
        }
    }
}

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

macro_rules! keys {
    ($($name:literal: $type:ty = $($field:ident).+ $(in $least:literal to $most:literal)? $(, $required:ident)?; $text:literal)*) => {
        /// All keys, in the order of the file.
        pub(super) static KEYS: &[Key] = &[$(Key {
            name: $name,
            kind: <$type as Value>::TYPE,
            bounds: bounds!($($least, $most)?),
            required: required!($($required)?),
            text: $text,
            put: |config, text| {
                let Some(value) = <$type as Value>::read(text) else { return false };
                $(if !value.within($least, $most) { return false })?
                config.$($field).+ = value;
                true
            },
            show: |config| config.$($field).+.show(),
        },)*];
    };
}

macro_rules! bounds {
    () => {
        None
    };
    ($least:literal, $most:literal) => {
        Some(($least, $most))
    };
}

macro_rules! required {
    () => {
        false
    };
    (required) => {
        true
    };
}

use super::values::{ByteSize, HostPort, InitialBroker, LogFormat, LogLevel, Span};
use std::path::PathBuf;

keys! {
    "broker_id": Option<u32> = broker_id in "1" to "2147483647";
    "The broker's number, unique in the cluster. Two brokers with one number: the second is refused. Left out beside `seeds`: the cluster gives one that nobody ever had, which stays in `data_dir`; a disk that is not mounted then looks like a new broker."
    "data_dir": PathBuf = data_dir, required;
    "Where everything of this broker lies, relative to the working directory. Another broker's directory is refused."
    "rack": Option<String> = rack;
    "Where the broker stands: replicas of a partition are spread over racks. Left out or wrong: one rack may hold them all."
    "initial_brokers": Vec<InitialBroker> = initial_brokers;
    "The 1, 3 or 5 brokers that form the cluster, equal on all of them, with their internal addresses. A broker whose list differs is refused. This or `seeds` must be given."
    "seeds": Vec<HostPort> = seeds;
    "Internal addresses of brokers of a cluster that is there, which this broker joins: it needs one that answers. Wrong: it waits."
    "listener.client.bind": HostPort = listener.client.bind;
    "Where clients are served. Not reachable from where they run: they cannot connect."
    "listener.client.advertised": Option<HostPort> = listener.client.advertised;
    "What clients are told to dial; `bind` when left out. Wrong: clients reach the first broker and no other."
    "listener.internal.bind": HostPort = listener.internal.bind;
    "Where the other brokers are served. Not reachable for them: this broker counts as dead."
    "listener.internal.advertised": Option<HostPort> = listener.internal.advertised;
    "What the other brokers dial; this broker's address in `initial_brokers`, or else `bind`, when left out. Wrong: it drops out of all its groups."
    "listener.http.bind": HostPort = listener.http.bind;
    "Where `/metrics`, `/healthz` and `/readyz` are served. Open to the world: so are the metrics."
    "listener.http.advertised": Option<HostPort> = listener.http.advertised;
    "What monitoring is told to dial; `bind` when left out."
    "limits.in_flight_bytes": ByteSize = limits.in_flight_bytes in "1MiB" to "64GiB";
    "Batches that wait for their ack, over all partitions. Too small: producers are told to slow down. Too large: memory."
    "limits.in_flight_bytes_per_partition": ByteSize = limits.in_flight_bytes_per_partition in "1MiB" to "64GiB";
    "The same for one partition, so that one without a quorum does not use up the whole. Too small: a busy partition is slowed down."
    "limits.fetch_bytes": ByteSize = limits.fetch_bytes in "1MiB" to "64GiB";
    "Batches read for consumers that have not taken them yet. Too small: smaller answers. Too large: memory."
    "limits.receive_bytes": ByteSize = limits.receive_bytes in "1MiB" to "64GiB";
    "Messages of clients that have not arrived whole; beyond, they are refused with `RESOURCE_EXHAUSTED`. Too small: large batches are refused while others arrive. Too large: memory."
    "limits.connections": u32 = limits.connections in "16" to "100000";
    "Connections of the client listener; beyond, new ones wait. Too small: clients time out. Too large: memory and file descriptors."
    "limits.calls": u32 = limits.calls in "16" to "1000000";
    "Calls of all clients at a time, streams among them; beyond, new ones are refused with `RESOURCE_EXHAUSTED`. Too small: clients are refused. Too large: memory."
    "limits.fetch_streams": u32 = limits.fetch_streams in "1" to "100000";
    "Fetch streams of the broker; beyond, new ones are refused with `RESOURCE_EXHAUSTED`. Too large: memory."
    "raft.heartbeat": Span = raft.heartbeat in "10ms" to "10s";
    "Pause between a leader's heartbeats. Too small: idle partitions cost CPU. Too large: a dead leader is noticed late."
    "raft.election_min": Span = raft.election_min in "50ms" to "60s";
    "Shortest election timeout. Too small: a busy machine loses leaders. Too large: a frozen leader is replaced late."
    "raft.election_max": Span = raft.election_max in "100ms" to "120s";
    "Longest election timeout. Too close to the shortest: candidates collide."
    "raft.probe": Span = raft.probe in "10ms" to "10s";
    "Pause between two probes of another broker. Too small: CPU. Too large: a dead broker is noticed late."
    "raft.probe_missed": Span = raft.probe_missed in "50ms" to "60s";
    "Silence after which a broker counts as dead. Too small: a busy machine loses leaders. Too large: a frozen broker is missed late."
    "raft.sleep_after": Span = raft.sleep_after in "0ms" to "1h";
    "How long nothing must have been written to a partition until it costs no heartbeats; `0ms`: never. Too short: partitions that are written to now and then wait a round trip each time. Too long: idle partitions cost CPU."
    "storage.flush_threads": u32 = storage.flush_threads in "1" to "64";
    "Threads that write and fsync. Too few: acks wait for each other. Too many: nothing gained."
    "storage.read_threads": u32 = storage.read_threads in "1" to "64";
    "Threads that read what is not in memory. Too few: consumers that lag wait for each other."
    "storage.tail_cache": ByteSize = storage.tail_cache in "1MiB" to "64GiB";
    "Recent entries kept in memory, over all partitions. Too small: consumers and followers read the disk. Too large: memory."
    "storage.free_min": ByteSize = storage.free_min in "0B" to "1024GiB";
    "Free bytes on the disk of `data_dir` below which the broker takes no records, until there are more; reads, deletions and the metadata go on. Too small: the disk fills up all the same, and replicas stop. 0 turns it off."
    "storage.clean_every": Span = storage.clean_every in "100ms" to "1h";
    "Pause between two looks for segments that retention or trimming has given up. Too short: CPU. Too long: disks hold what nobody needs."
    "storage.scrub_every": Span = storage.scrub_every in "1s" to "365d";
    "Within this time every byte is read again to find what has rotted. Too short: disk reads. Too long: rot in one copy may meet rot in another."
    "storage.scrub_rate_max": ByteSize = storage.scrub_rate_max in "0B" to "10GiB";
    "Bytes per second that are read for it at most; 0 turns it off, and rot is found by whoever reads it."
    "storage.compact_rate_max": ByteSize = storage.compact_rate_max in "0B" to "10GiB";
    "Bytes per second that are read to compact logs at most; 0 turns it off. Too small: compacted topics hold much that is superseded. Too large: producers and consumers wait."
    "storage.compact_keys": ByteSize = storage.compact_keys in "1MiB" to "16GiB";
    "Keys held in memory while a log is compacted, in bytes with what goes around them. Too small: a log with more keys than fit is read more than once. Too large: memory."
    "replicas.move_rate_max": ByteSize = replicas.move_rate_max in "0B" to "10GiB";
    "Bytes per second that this broker sends to replicas that join, at most; 0: as fast as it goes. Too small: moves take long, below what is produced for ever. Too large: producers and consumers wait."
    "replicas.rebuild_after": Span = replicas.rebuild_after in "0ms" to "365d";
    "How long a broker may be gone until its replicas are made anew on others; `0ms`: for ever. Too short: a restart that takes long moves everything."
    "groups.coordinators": u32 = groups.coordinators in "1" to "1000";
    "Raft groups that consumer groups are spread over; fixed when the first group is made. Too few: busy groups share a leader. Too many: idle CPU."
    "log.level": LogLevel = log.level;
    "How much is logged; can be changed while the broker runs. `debug` writes a line per request."
    "log.format": LogFormat = log.format;
    "How log lines are written."
}
