//! What administrative calls take and give.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_proto::v1;
use tidelog_types::{
    BrokerId, FeatureLevel, FeatureLevels, LogIndex, Offset, PartitionId, Term, Timestamp, TopicId,
    TopicName, TopicPartition,
};

use crate::Error;

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewTopic {
    /// Its name.
    pub name: TopicName,
    /// How many partitions; the cluster's default when `None`.
    pub partitions: Option<u32>,
    /// How many replicas of each; the cluster's default when `None`.
    pub replication_factor: Option<u32>,
    /// Configs that differ from the cluster's, by name.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the cluster's defaults.
    #[must_use]
    pub fn new(name: TopicName) -> Self {
        Self { name, partitions: None, replication_factor: None, configs: BTreeMap::new() }
    }

    /// Sets the number of partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Sets the number of replicas.
    #[must_use]
    pub fn replication_factor(mut self, replicas: u32) -> Self {
        self.replication_factor = Some(replicas);
        self
    }

    /// Sets a config.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }
}

/// A topic that was created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedTopic {
    /// Its id; `None` when it was only checked whether it could be created.
    pub id: Option<TopicId>,
    /// How many partitions it has.
    pub partitions: u32,
    /// How many replicas each has.
    pub replication_factor: u32,
}

/// A topic in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSummary {
    /// Its name.
    pub name: TopicName,
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
    /// How many replicas each has.
    pub replication_factor: u32,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicFacts {
    /// Its name.
    pub name: TopicName,
    /// Its id.
    pub id: TopicId,
    /// When it was created.
    pub created: Timestamp,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionFacts>,
    /// Its configs, by name.
    pub configs: Vec<ConfigFacts>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionFacts {
    /// Its number.
    pub partition: PartitionId,
    /// Its leader, while one is known.
    pub leader: Option<LeaderFacts>,
    /// The brokers that hold a replica, or should; the first should lead.
    pub replicas: Vec<BrokerId>,
    /// Those replicas whose brokers are heard from.
    pub alive_replicas: Vec<BrokerId>,
    /// The brokers that still hold a replica and are to give it up: the partition moves.
    pub leaving_replicas: Vec<BrokerId>,
    /// The brokers that are to hold a replica and do not vote yet.
    pub joining_replicas: Vec<BrokerId>,
}

impl PartitionFacts {
    /// Whether all replicas are where they should be, and nowhere else.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.leaving_replicas.is_empty() && self.joining_replicas.is_empty()
    }
}

/// The leader of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaderFacts {
    /// The broker.
    pub broker: BrokerId,
    /// Its address; `None` when it is not known.
    pub address: Option<String>,
    /// Its epoch.
    pub epoch: i32,
}

/// A config as it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigFacts {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where the value comes from.
    pub source: ConfigSource,
}

/// Where the value of a config comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigSource {
    /// From somewhere that this version does not know.
    Unknown,
    /// The built-in default.
    Default,
    /// Set for the cluster.
    Cluster,
    /// Set for the topic.
    Topic,
}

/// The cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterFacts {
    /// Its id.
    pub id: String,
    /// The broker that answered.
    pub answered_by: BrokerId,
    /// The version of the broker that answered.
    pub version: String,
    /// Its feature level.
    pub feature_level: FeatureLevel,
    /// The newest feature level that all brokers support, which [`Admin::finalize_upgrade`] may raise it
    /// to.
    ///
    /// [`Admin::finalize_upgrade`]: super::Admin::finalize_upgrade
    pub feature_level_common: FeatureLevel,
    /// The leader of the metadata group, while there is one.
    pub controller: Option<BrokerId>,
    /// The brokers, by id.
    pub brokers: Vec<BrokerFacts>,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerFacts {
    /// Its id.
    pub id: BrokerId,
    /// Raised when it comes back with an empty disk.
    pub incarnation: u32,
    /// Its rack.
    pub rack: Option<String>,
    /// Whether the broker that answered hears from it.
    pub alive: bool,
    /// Whether it is being drained: its replicas go elsewhere, and it is given no new ones.
    pub draining: bool,
    /// Partitions that have a replica there, or whose group may still need one, the cluster's own
    /// included.
    pub replicas: u32,
    /// What it ran when it registered last; `None` when that version does not say.
    pub software: Option<SoftwareFacts>,
    /// Where clients reach it.
    pub address: String,
    /// All of its listeners.
    pub listeners: Vec<Listener>,
}

/// What a broker runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SoftwareFacts {
    /// Its version.
    pub version: String,
    /// The commit that it was built from, or `unknown`.
    pub commit: String,
    /// The feature levels that it supports.
    pub levels: FeatureLevels,
}

/// A listener of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listener {
    /// Its name: `client`, `internal` or `http`.
    pub name: String,
    /// Its advertised host.
    pub host: String,
    /// Its advertised port.
    pub port: u16,
}

/// The health of the cluster in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HealthStatus {
    /// All brokers, leaders and replicas are there.
    Healthy,
    /// Everything can be written and read, but a broker or replica is missing.
    Degraded,
    /// Something cannot be written.
    Unavailable,
}

/// The health of the cluster, as one broker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The whole, in one word.
    pub status: HealthStatus,
    /// The whole, in one sentence.
    pub summary: String,
    /// The broker that answered.
    pub answered_by: BrokerId,
    /// The leader of the metadata group, while there is one.
    pub controller: Option<BrokerId>,
    /// Brokers that are not heard from.
    pub dead_brokers: Vec<BrokerId>,
    /// What becomes of the replicas of each of them; empty when a broker of an older version answered.
    pub outages: Vec<OutageFacts>,
    /// How long a broker may be gone until its replicas are made anew elsewhere; zero: for ever. `None`
    /// when nobody is dead, or the leader of the metadata was not reached.
    pub rebuild_after: Option<Duration>,
    /// Brokers whose disk is nearly full: they take no records.
    pub low_on_space: Vec<BrokerId>,
    /// How many partitions there are.
    pub partitions: u32,
    /// Partitions without a leader; the first 1,000.
    pub leaderless: Vec<TopicPartition>,
    /// How many partitions are without a leader.
    pub leaderless_count: u32,
    /// Partitions with a replica missing or far behind; the first 1,000.
    pub under_replicated: Vec<TopicPartition>,
    /// How many partitions have a replica missing or far behind.
    pub under_replicated_count: u32,
}

/// A broker that is gone, and what becomes of its replicas. Beyond its id nothing is known while the
/// leader of the metadata is not reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutageFacts {
    /// The broker.
    pub broker: BrokerId,
    /// For how long the leader of the metadata has missed it; it may be gone for longer.
    pub gone: Option<Duration>,
    /// In what time its replicas are made anew elsewhere, zero for now; `None`: they are not.
    pub rebuild_in: Option<Duration>,
    /// Whether it is being drained.
    pub draining: bool,
    /// Partitions that should have a replica on it.
    pub replicas: u32,
    /// Partitions that should have none on it any more, and still count it as a member.
    pub moving: u32,
    /// Which brokers would be given how many of the replicas.
    pub rebuilt_on: Vec<(BrokerId, u32)>,
    /// Replicas that no broker that is alive can take.
    pub without_place: u32,
    /// Replicas of partitions that cannot move, for most of their voters are gone.
    pub without_quorum: u32,
}

/// What to look up in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetAt {
    /// The first record that is still there.
    Earliest,
    /// Behind the last committed record.
    Latest,
    /// The first record of this time or later, or else the end.
    Timestamp(Timestamp),
    /// This offset: when its record was appended.
    Offset(Offset),
}

/// An offset that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedOffset {
    /// The offset.
    pub offset: Offset,
    /// For a timestamp: the time of the record at the offset, if there is one. For an offset: when the
    /// leader appended its record, if there is one.
    pub timestamp: Option<Timestamp>,
}

/// The Raft group of a partition, as one of its replicas sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RaftFacts {
    /// The broker of the replica that answered.
    pub answered_by: BrokerId,
    /// Whether that replica leads.
    pub leads: bool,
    /// The leader, while there is one.
    pub leader: Option<BrokerId>,
    /// The term, which is the leader epoch.
    pub term: Term,
    /// The last entry of the log.
    pub last_log: Option<LogIndex>,
    /// The last committed entry.
    pub committed: Option<LogIndex>,
    /// The last applied entry.
    pub applied: Option<LogIndex>,
    /// The last entry below the log start.
    pub purged: Option<LogIndex>,
    /// The log start.
    pub log_start: Offset,
    /// The high watermark.
    pub high_watermark: Offset,
    /// The members of the group.
    pub replicas: Vec<ReplicaFacts>,
    /// Why the replica stepped out, if it did.
    pub quarantined: Option<String>,
}

/// A member of a Raft group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaFacts {
    /// Its broker.
    pub broker: BrokerId,
    /// Its incarnation.
    pub incarnation: u32,
    /// Whether it votes.
    pub voter: bool,
    /// Whether the broker that answered hears from it.
    pub alive: bool,
    /// The last entry that it is known to have on disk; only a leader knows.
    pub matched: Option<LogIndex>,
    /// How many entries of the leader it lacks; only a leader knows.
    pub lag_entries: Option<u64>,
}

/// What reading a replica again has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubFacts {
    /// Bytes that were read.
    pub bytes: u64,
    /// Damage that was mended at once, in a line each.
    pub mended: Vec<String>,
    /// Damage for which the replica leaves its group until it is whole again, in a line each.
    pub stepped_out: Vec<String>,
    /// Damage that no other replica could help with yet, in a line each.
    pub left: Vec<String>,
}

impl From<v1::ScrubPartitionResponse> for ScrubFacts {
    fn from(told: v1::ScrubPartitionResponse) -> Self {
        let v1::ScrubPartitionResponse { bytes, mended, stepped_out, left } = told;
        Self { bytes, mended, stepped_out, left }
    }
}

impl From<TopicFacts> for CreatedTopic {
    fn from(topic: TopicFacts) -> Self {
        let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
        Self {
            id: Some(topic.id),
            partitions: topic.partitions.len() as u32,
            replication_factor: replicas as u32,
        }
    }
}

impl TopicFacts {
    /// How many replicas a partition has, or should; the most, where they differ.
    #[must_use]
    pub fn replication_factor(&self) -> u32 {
        let replicas = self.partitions.iter().map(|partition| partition.replicas.len());
        // Fits: a partition has 15 at most.
        replicas.max().unwrap_or_default() as u32
    }

    pub(super) fn read(address: &str, topic: v1::TopicDescription) -> Result<Self, Error> {
        Ok(Self {
            name: topic_name(address, &topic.name)?,
            id: topic_id(address, &topic.id)?,
            created: Timestamp(topic.create_time_ms),
            partitions: topic.partitions.into_iter().map(PartitionFacts::from).collect(),
            configs: topic.configs.into_iter().map(ConfigFacts::from).collect(),
        })
    }
}

impl From<v1::PartitionDescription> for PartitionFacts {
    fn from(partition: v1::PartitionDescription) -> Self {
        Self {
            partition: PartitionId(partition.partition),
            leader: partition.leader.map(LeaderFacts::from),
            replicas: brokers(partition.replicas),
            alive_replicas: brokers(partition.alive_replicas),
            leaving_replicas: brokers(partition.leaving_replicas),
            joining_replicas: brokers(partition.joining_replicas),
        }
    }
}

impl From<v1::LeaderHint> for LeaderFacts {
    fn from(hint: v1::LeaderHint) -> Self {
        Self {
            broker: hint.broker(),
            address: hint.known_address().map(str::to_owned),
            epoch: hint.leader_epoch,
        }
    }
}

impl From<v1::ConfigEntry> for ConfigFacts {
    fn from(config: v1::ConfigEntry) -> Self {
        let source = match config.source() {
            v1::ConfigSource::Unspecified => ConfigSource::Unknown,
            v1::ConfigSource::Default => ConfigSource::Default,
            v1::ConfigSource::Cluster => ConfigSource::Cluster,
            v1::ConfigSource::Topic => ConfigSource::Topic,
        };
        Self { name: config.name, value: config.value, source }
    }
}

impl From<v1::DescribeClusterResponse> for ClusterFacts {
    fn from(cluster: v1::DescribeClusterResponse) -> Self {
        Self {
            id: cluster.cluster_id,
            answered_by: BrokerId(cluster.broker_id),
            version: cluster.version,
            feature_level: level(cluster.feature_level),
            feature_level_common: level(cluster.feature_level_common),
            controller: cluster.controller_id.map(BrokerId),
            brokers: cluster.brokers.into_iter().map(BrokerFacts::from).collect(),
        }
    }
}

impl From<v1::Broker> for BrokerFacts {
    fn from(broker: v1::Broker) -> Self {
        let listeners = broker.addresses.into_iter().map(|address| Listener {
            name: address.listener,
            host: address.host,
            port: u16::try_from(address.port).unwrap_or_default(),
        });
        Self {
            id: BrokerId(broker.id),
            incarnation: broker.incarnation,
            rack: Some(broker.rack).filter(|rack| !rack.is_empty()),
            alive: broker.alive,
            draining: broker.draining,
            replicas: broker.replicas,
            software: broker.software.map(SoftwareFacts::from),
            address: broker.address,
            listeners: listeners.collect(),
        }
    }
}

impl From<v1::BrokerSoftware> for SoftwareFacts {
    fn from(software: v1::BrokerSoftware) -> Self {
        let (min, max) = (software.feature_level_min, software.feature_level_max);
        Self {
            version: software.version,
            commit: software.commit,
            levels: FeatureLevels { min: level(min), max: level(max) },
        }
    }
}

/// A broker that knows of no levels leaves them out.
fn level(said: u32) -> FeatureLevel {
    if said == 0 { FeatureLevel::FIRST } else { FeatureLevel(said) }
}

impl Health {
    pub(super) fn read(address: &str, health: v1::ClusterHealthResponse) -> Result<Self, Error> {
        let status = match health.status() {
            v1::HealthStatus::Healthy => HealthStatus::Healthy,
            v1::HealthStatus::Degraded => HealthStatus::Degraded,
            v1::HealthStatus::Unavailable => HealthStatus::Unavailable,
            v1::HealthStatus::Unspecified => {
                return Err(Error::protocol(address, "health without a status"));
            }
        };
        let partitions = |named: &[v1::TopicPartition]| {
            let named = named.iter().map(TopicPartition::try_from);
            named.collect::<Result<Vec<_>, _>>().map_err(Error::from)
        };
        Ok(Self {
            status,
            answered_by: BrokerId(health.broker_id),
            controller: health.controller_id.map(BrokerId),
            dead_brokers: brokers(health.dead_broker_ids),
            outages: health.dead_brokers.into_iter().map(OutageFacts::from).collect(),
            rebuild_after: health.rebuild_after_ms.map(Duration::from_millis),
            low_on_space: brokers(health.low_on_space_broker_ids),
            partitions: health.partitions,
            leaderless: partitions(&health.leaderless)?,
            leaderless_count: health.leaderless_count,
            under_replicated: partitions(&health.under_replicated)?,
            under_replicated_count: health.under_replicated_count,
            summary: health.summary,
        })
    }
}

impl From<v1::DeadBroker> for OutageFacts {
    fn from(dead: v1::DeadBroker) -> Self {
        let onto = dead.rebuilt_on.into_iter().map(|on| (BrokerId(on.broker_id), on.replicas));
        Self {
            broker: BrokerId(dead.broker_id),
            gone: dead.gone_ms.map(Duration::from_millis),
            rebuild_in: dead.rebuild_in_ms.map(Duration::from_millis),
            draining: dead.draining,
            replicas: dead.replicas,
            moving: dead.moving,
            rebuilt_on: onto.collect(),
            without_place: dead.without_place,
            without_quorum: dead.without_quorum,
        }
    }
}

impl RaftFacts {
    pub(super) fn read(address: &str, raft: v1::PartitionRaft) -> Result<Self, Error> {
        Ok(Self {
            answered_by: BrokerId(raft.broker_id),
            leads: raft.leads,
            leader: raft.leader_id.map(BrokerId),
            term: Term(raft.term),
            last_log: raft.last_log_index.map(LogIndex),
            committed: raft.committed_index.map(LogIndex),
            applied: raft.applied_index.map(LogIndex),
            purged: raft.purged_index.map(LogIndex),
            log_start: offset(address, raft.log_start)?,
            high_watermark: offset(address, raft.high_watermark)?,
            replicas: raft.replicas.into_iter().map(ReplicaFacts::from).collect(),
            quarantined: Some(raft.quarantined).filter(|reason| !reason.is_empty()),
        })
    }
}

impl From<v1::ReplicaRaft> for ReplicaFacts {
    fn from(replica: v1::ReplicaRaft) -> Self {
        Self {
            broker: BrokerId(replica.broker_id),
            incarnation: replica.incarnation,
            voter: replica.voter,
            alive: replica.alive,
            matched: replica.matched_index.map(LogIndex),
            lag_entries: replica.lag_entries,
        }
    }
}

pub(super) fn offset(address: &str, wire: i64) -> Result<Offset, Error> {
    Offset::from_wire(wire).ok_or_else(|| Error::protocol(address, format!("offset {wire}")))
}

pub(super) fn topic_name(address: &str, name: &str) -> Result<TopicName, Error> {
    TopicName::new(name).map_err(|error| Error::protocol(address, error.to_string()))
}

pub(super) fn topic_id(address: &str, id: &str) -> Result<TopicId, Error> {
    id.parse().map_err(|_| Error::protocol(address, format!("topic id {id:?}")))
}

fn brokers(ids: Vec<u32>) -> Vec<BrokerId> {
    ids.into_iter().map(BrokerId).collect()
}
