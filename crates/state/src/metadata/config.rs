//! Topic configs under Kafka's names: what is allowed, what holds, and where it comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tidelog_types::FeatureLevel;

use crate::partition::CompactionPolicy;

/// A config of topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigKey {
    /// `cleanup.policy`: what happens to old records: `delete`, `compact` (of each key the newest record
    /// stays) or `compact,delete`. Default `delete`.
    CleanupPolicy,
    /// `compression.type`: `producer`, so batches stay as they were sent.
    CompressionType,
    /// `delete.retention.ms`: how long a tombstone of a compacted topic stays once all replicas have
    /// taken out what it supersedes. Default 1 day. Too short, and who reads from the start slowly
    /// misses that a key was deleted.
    DeleteRetentionMs,
    /// `max.compaction.lag.ms`: after so long a record is compacted at the latest. Default: no limit.
    /// Too short, and whole logs are rewritten for few records.
    MaxCompactionLagMs,
    /// `max.message.bytes`: the largest batch. Default 1 MiB and 1 KiB. Too small refuses producers;
    /// too large lets one batch hold up a partition.
    MaxMessageBytes,
    /// `message.timestamp.type`: `CreateTime`, so records keep the producer's time.
    MessageTimestampType,
    /// `min.cleanable.dirty.ratio`: how much of a compacted log must be new before it is compacted
    /// again. Default 0.5. Too low, and logs are rewritten again and again; too high, and they hold
    /// more that is superseded.
    MinCleanableDirtyRatio,
    /// `min.compaction.lag.ms`: so long a record stays whatever supersedes it. Default 0.
    MinCompactionLagMs,
    /// `min.insync.replicas`: accepted for Kafka's tools. Default 1. An ack always means a majority.
    MinInsyncReplicas,
    /// `retention.bytes`: how much a partition keeps. Default -1, everything.
    RetentionBytes,
    /// `retention.ms`: how long a partition keeps records. Default 7 days; -1 is for ever.
    RetentionMs,
    /// `segment.bytes`: the size at which a segment is closed. Default 64 MiB. Too small makes many
    /// files; too large makes retention coarse.
    SegmentBytes,
    /// `segment.ms`: the age at which a segment is closed, though it is not full. Default 7 days. Only
    /// closed segments are deleted or compacted.
    SegmentMs,
}

/// All keys, by name.
pub const CONFIG_KEYS: [ConfigKey; 13] = [
    ConfigKey::CleanupPolicy,
    ConfigKey::CompressionType,
    ConfigKey::DeleteRetentionMs,
    ConfigKey::MaxCompactionLagMs,
    ConfigKey::MaxMessageBytes,
    ConfigKey::MessageTimestampType,
    ConfigKey::MinCleanableDirtyRatio,
    ConfigKey::MinCompactionLagMs,
    ConfigKey::MinInsyncReplicas,
    ConfigKey::RetentionBytes,
    ConfigKey::RetentionMs,
    ConfigKey::SegmentBytes,
    ConfigKey::SegmentMs,
];

const MIB: i64 = 1024 * 1024;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// What stands for no bound in `max.compaction.lag.ms`, as in Kafka.
const NO_LAG_MAX: Duration = Duration::from_millis(i64::MAX as u64);

/// What a key takes.
enum Rule {
    /// A number within bounds, or -1 where that has a meaning.
    Number { default: i64, min: i64, max: i64, unit: &'static str, minus_one: Option<&'static str> },
    /// A number from 0 to 1, of which three decimals count.
    Ratio { default_permille: u16 },
    /// One of these words; the first is the default.
    Word(&'static [&'static str]),
}

impl ConfigKey {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CleanupPolicy => "cleanup.policy",
            Self::CompressionType => "compression.type",
            Self::DeleteRetentionMs => "delete.retention.ms",
            Self::MaxCompactionLagMs => "max.compaction.lag.ms",
            Self::MaxMessageBytes => "max.message.bytes",
            Self::MessageTimestampType => "message.timestamp.type",
            Self::MinCleanableDirtyRatio => "min.cleanable.dirty.ratio",
            Self::MinCompactionLagMs => "min.compaction.lag.ms",
            Self::MinInsyncReplicas => "min.insync.replicas",
            Self::RetentionBytes => "retention.bytes",
            Self::RetentionMs => "retention.ms",
            Self::SegmentBytes => "segment.bytes",
            Self::SegmentMs => "segment.ms",
        }
    }

    /// The key of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_name(name: &str) -> Result<Self, InvalidConfig> {
        let found = CONFIG_KEYS.into_iter().find(|key| key.name() == name);
        found.ok_or_else(|| InvalidConfig::UnknownKey { key: quotable(name) })
    }

    /// The feature level that a cluster must have for the key to be set: a broker of before does not know
    /// it, and would refuse what the others take.
    #[must_use]
    pub const fn since(self) -> FeatureLevel {
        match self {
            Self::DeleteRetentionMs
            | Self::MaxCompactionLagMs
            | Self::MinCleanableDirtyRatio
            | Self::MinCompactionLagMs
            | Self::SegmentMs => FeatureLevel::COMPACTION,
            _ => FeatureLevel::FIRST,
        }
    }

    /// The feature level that a cluster must have for the key to be set to `value`.
    #[must_use]
    pub fn since_with(self, value: ConfigValue) -> FeatureLevel {
        match (self, value) {
            (Self::CleanupPolicy, ConfigValue::Word(word)) if word != "delete" => {
                FeatureLevel::COMPACTION
            }
            _ => self.since(),
        }
    }

    /// What holds when nothing is set.
    #[must_use]
    pub const fn default_value(self) -> ConfigValue {
        match self.rule() {
            Rule::Number { default, .. } => ConfigValue::Number(default),
            Rule::Ratio { default_permille } => ConfigValue::Permille(default_permille),
            Rule::Word(words) => ConfigValue::Word(words[0]),
        }
    }

    /// Checks a value.
    ///
    /// # Errors
    /// When it is not allowed; the error says what is.
    pub fn parse(self, text: &str) -> Result<ConfigValue, InvalidConfig> {
        let value = match self.rule() {
            Rule::Number { min, max, minus_one, .. } => text
                .parse()
                .ok()
                .filter(|n| (min..=max).contains(n) || (*n == -1 && minus_one.is_some()))
                .map(ConfigValue::Number),
            Rule::Ratio { .. } => permille(text).map(ConfigValue::Permille),
            // In Kafka a list, in any order.
            Rule::Word(words) if text == "delete,compact" => {
                words.iter().find(|word| **word == "compact,delete").map(|w| ConfigValue::Word(w))
            }
            Rule::Word(words) => {
                words.iter().find(|word| **word == text).map(|word| ConfigValue::Word(word))
            }
        };
        value.ok_or_else(|| InvalidConfig::Value { key: self, value: quotable(text) })
    }

    /// What is allowed, for a person.
    #[must_use]
    pub fn allowed(self) -> String {
        match self.rule() {
            Rule::Number { min, max, unit, minus_one, .. } => {
                let minus_one = minus_one.map(|meaning| format!("-1 ({meaning}) or "));
                let minus_one = minus_one.unwrap_or_default();
                match max {
                    i64::MAX => format!("{minus_one}at least {min} {unit}"),
                    max => format!("{minus_one}{min} to {max} {unit}"),
                }
            }
            Rule::Ratio { .. } => "0 to 1, with up to three decimals".to_owned(),
            Rule::Word([word]) => format!("only {word:?} in this version"),
            Rule::Word(words) => format!(
                "one of {}",
                words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
            ),
        }
    }

    const fn rule(self) -> Rule {
        match self {
            Self::CleanupPolicy => Rule::Word(&["delete", "compact", "compact,delete"]),
            Self::CompressionType => Rule::Word(&["producer"]),
            Self::DeleteRetentionMs => {
                Rule::Number { default: DAY_MS, min: 0, max: i64::MAX, unit: "ms", minus_one: None }
            }
            Self::MaxCompactionLagMs => Rule::Number {
                default: i64::MAX,
                min: 1,
                max: i64::MAX,
                unit: "ms",
                minus_one: None,
            },
            Self::MaxMessageBytes => Rule::Number {
                default: MIB + 1024,
                min: 1024,
                max: 16 * MIB,
                unit: "bytes",
                minus_one: None,
            },
            Self::MessageTimestampType => Rule::Word(&["CreateTime"]),
            Self::MinCleanableDirtyRatio => Rule::Ratio { default_permille: 500 },
            Self::MinCompactionLagMs => {
                Rule::Number { default: 0, min: 0, max: i64::MAX, unit: "ms", minus_one: None }
            }
            Self::MinInsyncReplicas => {
                Rule::Number { default: 1, min: 1, max: 15, unit: "replicas", minus_one: None }
            }
            Self::RetentionBytes => Rule::Number {
                default: -1,
                min: 1,
                max: i64::MAX,
                unit: "bytes",
                minus_one: Some("no limit"),
            },
            Self::RetentionMs => Rule::Number {
                default: 7 * DAY_MS,
                min: 1,
                max: i64::MAX,
                unit: "ms",
                minus_one: Some("for ever"),
            },
            Self::SegmentBytes => Rule::Number {
                default: 64 * MIB,
                min: 4096,
                max: 1024 * MIB,
                unit: "bytes",
                minus_one: None,
            },
            Self::SegmentMs => Rule::Number {
                default: 7 * DAY_MS,
                min: 1,
                max: i64::MAX,
                unit: "ms",
                minus_one: None,
            },
        }
    }
}

/// The thousandths of a number from 0 to 1 that is written with up to three decimals.
fn permille(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 1 || decimals.len() > 3 || !is_digits(whole) || !is_digits(decimals) {
        return None;
    }
    let thousandths: u16 = format!("{whole}{decimals:0<3}").parse().ok()?;
    (thousandths <= 1000).then_some(thousandths)
}

impl fmt::Display for ConfigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A checked value; displayed as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigValue {
    /// A number, in the unit of its key; -1 has the key's own meaning.
    Number(i64),
    /// Thousandths of one.
    Permille(u16),
    /// A word.
    Word(&'static str),
}

impl fmt::Display for ConfigValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Permille(1000) => f.write_str("1"),
            Self::Permille(permille) => {
                let text = format!("0.{permille:03}");
                f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
            }
            Self::Word(word) => f.write_str(word),
        }
    }
}

/// Where a value comes from, the narrowest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigSource {
    /// Nobody set it.
    Default,
    /// It was set for the cluster.
    Cluster,
    /// It was set for the topic.
    Topic,
}

/// A value that holds, and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub key: ConfigKey,
    /// Its value.
    pub value: ConfigValue,
    /// Where the value was set.
    pub source: ConfigSource,
}

/// What was set in one scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigOverrides {
    values: BTreeMap<ConfigKey, ConfigValue>,
}

impl ConfigOverrides {
    /// The value set here.
    #[must_use]
    pub fn find(&self, key: ConfigKey) -> Option<ConfigValue> {
        self.values.get(&key).copied()
    }

    /// What was set here, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ConfigKey, ConfigValue)> {
        self.values.iter().map(|(key, value)| (*key, *value))
    }

    /// Applies changes of (name, value), all or none; tells whether anything is different.
    pub(super) fn change<'a>(
        &mut self,
        changes: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<bool, InvalidConfig> {
        let mut checked = BTreeMap::new();
        for (name, text) in changes {
            let key = ConfigKey::from_name(name)?;
            let value = text.map(|text| key.parse(text)).transpose()?;
            if checked.insert(key, value).is_some() {
                return Err(InvalidConfig::Twice { key });
            }
        }
        let before = self.values.clone();
        for (key, value) in checked {
            match value {
                Some(value) => self.values.insert(key, value),
                None => self.values.remove(&key),
            };
        }
        Ok(self.values != before)
    }
}

/// The config of a topic as it holds, typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// How long records are kept; `None` is for ever, as if the topic is only compacted.
    pub retention: Option<Duration>,
    /// How much a partition keeps; `None` is everything, as if the topic is only compacted.
    pub retention_bytes: Option<u64>,
    /// How the topic is compacted, if it is.
    pub compaction: Option<CompactionPolicy>,
    /// The age at which a segment is closed.
    pub segment_age: Duration,
    /// The size at which a segment is closed.
    pub segment_bytes: u64,
    /// The largest batch.
    pub batch_bytes_max: u32,
}

/// Why a config is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidConfig {
    /// No key has this name.
    UnknownKey {
        /// The name, cut to a readable length.
        key: String,
    },
    /// The value is not allowed.
    Value {
        /// The key.
        key: ConfigKey,
        /// The value, cut to a readable length.
        value: String,
    },
    /// The key is given twice.
    Twice {
        /// The key.
        key: ConfigKey,
    },
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key } => {
                let known = CONFIG_KEYS.map(ConfigKey::name).join(", ");
                write!(f, "unknown config {key:?}, known are {known}")
            }
            Self::Value { key, value } => {
                write!(f, "{key}={value:?} is not allowed: {}", key.allowed())
            }
            Self::Twice { key } => write!(f, "{key} is given twice"),
        }
    }
}

impl std::error::Error for InvalidConfig {}

/// The entries that hold, from the widest scope to the narrowest.
pub(super) fn resolve(
    cluster: &ConfigOverrides,
    topic: &ConfigOverrides,
) -> [ConfigEntry; CONFIG_KEYS.len()] {
    CONFIG_KEYS.map(|key| {
        let by_topic = topic.find(key).map(|value| (value, ConfigSource::Topic));
        let by_cluster = cluster.find(key).map(|value| (value, ConfigSource::Cluster));
        let by_default = (key.default_value(), ConfigSource::Default);
        let (value, source) = by_topic.or(by_cluster).unwrap_or(by_default);
        ConfigEntry { key, value, source }
    })
}

impl TopicConfig {
    pub(super) fn resolve(cluster: &ConfigOverrides, topic: &ConfigOverrides) -> Self {
        let entries = resolve(cluster, topic);
        let number = |key: ConfigKey| -> Option<u64> {
            let entry = entries.iter().find(|entry| entry.key == key)?;
            match entry.value {
                // -1 does not convert: no limit.
                ConfigValue::Number(number) => u64::try_from(number).ok(),
                ConfigValue::Permille(permille) => Some(u64::from(permille)),
                ConfigValue::Word(_) => None,
            }
        };
        let millis = |key: ConfigKey| number(key).map(Duration::from_millis);
        let policy = entries.iter().find(|entry| entry.key == ConfigKey::CleanupPolicy);
        let (compacts, deletes) = match policy.map(|entry| entry.value) {
            Some(ConfigValue::Word("compact")) => (true, false),
            Some(ConfigValue::Word("compact,delete")) => (true, true),
            _ => (false, true),
        };
        let bounded = "its rule has bounds and no -1";
        let batch_bytes_max = number(ConfigKey::MaxMessageBytes).expect(bounded);
        let compaction = CompactionPolicy {
            dirty_permille_min: number(ConfigKey::MinCleanableDirtyRatio)
                .and_then(|permille| u16::try_from(permille).ok())
                .expect("at most 1000"),
            lag_min: millis(ConfigKey::MinCompactionLagMs).expect(bounded),
            lag_max: millis(ConfigKey::MaxCompactionLagMs).filter(|lag| *lag < NO_LAG_MAX),
            delete_retention: millis(ConfigKey::DeleteRetentionMs).expect(bounded),
        };
        Self {
            retention: millis(ConfigKey::RetentionMs).filter(|_| deletes),
            retention_bytes: number(ConfigKey::RetentionBytes).filter(|_| deletes),
            compaction: compacts.then_some(compaction),
            segment_age: millis(ConfigKey::SegmentMs).expect(bounded),
            segment_bytes: number(ConfigKey::SegmentBytes).expect(bounded),
            batch_bytes_max: u32::try_from(batch_bytes_max).expect("at most 16 MiB"),
        }
    }
}

/// The text, cut so that a message stays one readable line.
fn quotable(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_default_is_allowed_and_reads_back() {
        for key in CONFIG_KEYS {
            let default = key.default_value();
            assert_eq!(key.parse(&default.to_string()), Ok(default), "{key}");
            assert_eq!(ConfigKey::from_name(key.name()), Ok(key));
        }
    }

    #[test]
    fn keys_are_listed_by_name() {
        assert!(CONFIG_KEYS.is_sorted_by_key(|key| key.name()) && CONFIG_KEYS.is_sorted());
    }

    #[test]
    fn a_config_resolves_to_types() {
        let mut topic = ConfigOverrides::default();
        let none = ConfigOverrides::default();
        let config = TopicConfig::resolve(&none, &topic);
        assert_eq!(config.retention, Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(config.retention_bytes, None);
        assert_eq!(config.segment_bytes, 64 << 20);
        let changes = [("retention.ms", Some("-1")), ("retention.bytes", Some("5"))];
        assert_eq!(topic.change(changes.into_iter()), Ok(true));
        let config = TopicConfig::resolve(&none, &topic);
        assert_eq!((config.retention, config.retention_bytes), (None, Some(5)));
        assert_eq!((config.compaction, config.segment_age.as_secs()), (None, 7 * 86_400));
    }

    #[test]
    fn a_compacted_topic_has_its_policy_and_keeps_all_that_is_not_superseded() {
        let mut topic = ConfigOverrides::default();
        let none = ConfigOverrides::default();
        let changes = [
            ("cleanup.policy", Some("compact")),
            ("min.cleanable.dirty.ratio", Some("0.25")),
            ("delete.retention.ms", Some("0")),
        ];
        assert_eq!(topic.change(changes.into_iter()), Ok(true));
        let config = TopicConfig::resolve(&none, &topic);
        assert_eq!((config.retention, config.retention_bytes), (None, None));
        let policy = config.compaction.expect("it is compacted");
        assert_eq!((policy.dirty_permille_min, policy.lag_max), (250, None));
        assert_eq!(policy.delete_retention, Duration::ZERO);
        let both = [("cleanup.policy", Some("delete,compact")), ("retention.ms", Some("9"))];
        assert_eq!(topic.change(both.into_iter()), Ok(true));
        let config = TopicConfig::resolve(&none, &topic);
        assert_eq!(config.retention, Some(Duration::from_millis(9)));
        assert!(config.compaction.is_some());
    }

    #[test]
    fn a_ratio_has_up_to_three_decimals() {
        for (text, permille) in [("0", 0), ("1", 1000), ("0.5", 500), ("0.125", 125), ("1.0", 1000)]
        {
            let value = ConfigKey::MinCleanableDirtyRatio.parse(text);
            assert_eq!(value, Ok(ConfigValue::Permille(permille)), "{text}");
        }
        for text in ["", ".5", "1.1", "0.1234", "-1", "1e0", "0,5", "00.5", "2"] {
            assert!(ConfigKey::MinCleanableDirtyRatio.parse(text).is_err(), "{text}");
        }
        let shown = [0, 5, 500, 999, 1000].map(|n| ConfigValue::Permille(n).to_string());
        assert_eq!(shown, ["0", "0.005", "0.5", "0.999", "1"]);
    }
}
