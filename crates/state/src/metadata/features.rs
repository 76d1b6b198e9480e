//! The cluster's feature level: what it allows, and how it is raised (decision record 0014).

use tidelog_types::{BrokerId, ErrorCode, FeatureLevel, FeatureLevels};

use super::{Broker, Change, Command, ConfigKey, Machine, Outcome, Refusal, Reply};

impl Machine {
    /// The cluster's feature level.
    #[must_use]
    pub const fn feature_level(&self) -> FeatureLevel {
        self.feature_level
    }

    /// Whether the cluster has reached the level that `what` needs.
    ///
    /// # Errors
    /// `UNSUPPORTED` when it has not; the message says what to do.
    pub fn require(&self, needed: FeatureLevel, what: &str) -> Result<(), Refusal> {
        let level = self.feature_level;
        if level >= needed {
            return Ok(());
        }
        let message = format!(
            "{what} needs feature level {needed}, the cluster is at {level}: once all brokers run a \
             version that supports it, run `tidelog cluster finalize-upgrade`"
        );
        Err(Refusal::new(ErrorCode::Unsupported, message))
    }

    /// Whether the cluster has reached the level that a command came with. Below it, it must not even be
    /// proposed: a build from before cannot read on behind a command that it does not know, refused or not.
    /// As levels only rise, who asks first is right.
    ///
    /// # Errors
    /// As of [`Machine::require`].
    pub fn permits(&self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::JoinBroker { .. } => {
                self.require(FeatureLevel::IDS, "joining without a broker_id")
            }
            _ => Ok(()),
        }
    }

    /// Whether the cluster has reached the level that changes of configs, as (name, value), need.
    ///
    /// # Errors
    /// As of [`Machine::require`]. What no config is called, or may not have as its value, is left to
    /// others.
    pub(super) fn require_for_configs<'a>(
        &self,
        changes: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<(), Refusal> {
        for (name, text) in changes {
            let Ok(key) = ConfigKey::from_name(name) else { continue };
            let value = text.and_then(|text| key.parse(text).ok());
            let needed = value.map_or(key.since(), |value| key.since_with(value));
            match value {
                Some(value) => self.require(needed, &format!("{key}={value}"))?,
                None => self.require(needed, key.name())?,
            }
        }
        Ok(())
    }

    /// The newest level that all brokers support.
    #[must_use]
    pub fn newest_common_level(&self) -> FeatureLevel {
        let newest = self.brokers.values().map(|broker| broker.levels().max).min();
        newest.unwrap_or_default().max(self.feature_level)
    }

    /// Whether the feature level may be raised to `level`. One that the cluster has already may be.
    ///
    /// # Errors
    /// `FEATURE_UPDATE_FAILED` when it would be lowered, or some brokers do not support it: the message
    /// names them.
    pub fn check_finalize(&self, level: FeatureLevel) -> Result<(), Refusal> {
        let present = self.feature_level;
        if level < present {
            return Err(failed(format!(
                "the cluster is at feature level {present}, which never goes back to {level}"
            )));
        }
        let lacks = |broker: &&Broker| level > present && !broker.levels().contains(level);
        let lacking: Vec<String> = self.brokers.values().filter(lacks).map(show_levels).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        Err(failed(format!(
            "feature level {level} is not supported by {}: upgrade or remove what is named",
            lacking.join(", ")
        )))
    }

    /// Raises the feature level.
    pub(super) fn finalize(&mut self, level: FeatureLevel, changes: &mut Vec<Change>) -> Reply {
        self.check_finalize(level)?;
        if level > self.feature_level {
            self.feature_level = level;
            changes.push(Change::FeatureLevel);
        }
        Ok(Outcome::FeatureLevel { level })
    }
}

/// Whether a broker that supports `levels` can be part of a cluster at `level`.
///
/// # Errors
/// One line that says what to do.
pub fn check_levels(
    level: FeatureLevel,
    levels: FeatureLevels,
    broker: BrokerId,
) -> Result<(), String> {
    if levels.contains(level) {
        return Ok(());
    }
    let what = match level > levels.max {
        true => "start it with a newer version of tidelog",
        false => {
            "start it with the version before, and run `tidelog cluster finalize-upgrade` once all \
             brokers run that"
        }
    };
    Err(format!(
        "the cluster is at feature level {level}, but broker {broker} supports {levels}: {what}"
    ))
}

fn failed(message: String) -> Refusal {
    Refusal::new(ErrorCode::FeatureUpdateFailed, message)
}

fn show_levels(broker: &Broker) -> String {
    let (id, levels) = (broker.id, broker.levels());
    match &broker.software {
        Some(software) => format!("broker {id} ({software}: {levels})"),
        None => format!("broker {id} (does not say its version: {levels})"),
    }
}
