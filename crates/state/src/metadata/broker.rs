//! Brokers as the cluster knows them.

use std::fmt;

use tidelog_types::{BrokerId, FeatureLevels, Incarnation, NodeId};

use super::Software;

/// The most brokers of a cluster.
pub const BROKERS_MAX: usize = 1_000;

/// The largest number of a broker: what fits into Kafka's 32 bits with a sign.
pub const BROKER_ID_MAX: u32 = 2_147_483_647;

/// The most listeners of a broker.
pub const LISTENERS_MAX: usize = 16;

/// The longest host name in bytes, as in DNS; also bounds a listener's name.
pub const ADDRESS_BYTES_MAX: usize = 255;

/// The longest rack name in bytes.
pub const RACK_BYTES_MAX: usize = 255;

/// The cluster's id, made once when it forms; written as a UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The same notation as a topic's id, and one place that writes it.
        tidelog_types::TopicId(self.0).fmt(f)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where one listener of a broker is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The listener's name: `client`, `internal`, `http`.
    pub listener: String,
    /// A host name or IP address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A broker as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerSpec {
    /// Its number.
    pub id: BrokerId,
    /// The incarnation in its data directory.
    pub incarnation: Incarnation,
    /// Where it stands; replicas of a partition are spread over racks.
    pub rack: Option<String>,
    /// Its advertised addresses, one per listener.
    pub addresses: Vec<Address>,
    /// What it runs; `None` from a build that does not say, and of a broker that has not registered.
    pub software: Option<Software>,
}

impl BrokerSpec {
    /// The feature levels that it supports.
    #[must_use]
    pub fn levels(&self) -> FeatureLevels {
        levels(self.software.as_ref())
    }

    /// What is wrong with the description, if anything.
    pub(super) fn problem(&self) -> Option<String> {
        let id = self.id;
        if self.addresses.len() > LISTENERS_MAX {
            let listeners = self.addresses.len();
            return Some(format!(
                "broker {id} has {listeners} listeners, at most {LISTENERS_MAX} are allowed"
            ));
        }
        let rack_bytes = self.rack.as_ref().map_or(0, String::len);
        if rack_bytes > RACK_BYTES_MAX {
            return Some(format!(
                "rack of broker {id} has {rack_bytes} bytes, at most {RACK_BYTES_MAX} are allowed"
            ));
        }
        self.addresses.iter().enumerate().find_map(|(n, address)| {
            let Address { listener, host, port } = address;
            let fits = |text: &str| (1..=ADDRESS_BYTES_MAX).contains(&text.len());
            if !fits(listener) || !fits(host) || *port == 0 {
                return Some(format!(
                    "listener {listener:?} of broker {id} has address {:?}, expected a host of 1 \
                     to {ADDRESS_BYTES_MAX} bytes and a port above 0",
                    format!("{host}:{port}")
                ));
            }
            let twice = self.addresses[..n].iter().any(|other| other.listener == *listener);
            twice.then(|| format!("broker {id} names listener {listener:?} twice"))
        })
    }
}

/// A registered broker. Whether it is alive is not replicated: liveness is each broker's own view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its number.
    pub id: BrokerId,
    /// Its newest incarnation.
    pub incarnation: Incarnation,
    /// Where it stands.
    pub rack: Option<String>,
    /// Its advertised addresses, by listener name; empty until it registers.
    pub addresses: Vec<Address>,
    /// What it ran when it registered last; `None` until it has, or when that build does not say.
    pub software: Option<Software>,
    /// Whether its replicas are to go elsewhere: it is given no new ones.
    pub is_draining: bool,
    /// The token with which its newest incarnation was asked for, so that a repeated request
    /// does not raise it twice.
    pub(super) incarnation_token: u128,
}

impl Broker {
    pub(super) fn new(spec: BrokerSpec) -> Self {
        let mut broker = Self {
            id: spec.id,
            incarnation: spec.incarnation,
            rack: None,
            addresses: Vec::new(),
            software: None,
            is_draining: false,
            incarnation_token: 0,
        };
        broker.describe(spec);
        broker
    }

    /// Whether it has joined and was not heard of since: it may have died before it wrote down who it is,
    /// and if the cluster gave it its id, nobody comes under that again.
    pub(super) fn is_on_its_way(&self) -> bool {
        self.incarnation_token != 0 && self.addresses.is_empty()
    }

    /// Takes over rack, addresses and software; tells whether anything changed.
    pub(super) fn describe(&mut self, spec: BrokerSpec) -> bool {
        let BrokerSpec { rack, mut addresses, software, .. } = spec;
        addresses.sort();
        let changed = self.rack != rack || self.addresses != addresses || self.software != software;
        (self.rack, self.addresses, self.software) = (rack, addresses, software);
        changed
    }

    /// The feature levels that it supports.
    #[must_use]
    pub fn levels(&self) -> FeatureLevels {
        levels(self.software.as_ref())
    }

    /// The Raft node that it is now.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        NodeId { broker: self.id, incarnation: self.incarnation }
    }

    /// Where the listener of this name is reached.
    #[must_use]
    pub fn address(&self, listener: &str) -> Option<&Address> {
        self.addresses.iter().find(|address| address.listener == listener)
    }
}

fn levels(software: Option<&Software>) -> FeatureLevels {
    software.map_or(FeatureLevels::UNSAID, |software| software.levels)
}
