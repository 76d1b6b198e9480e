//! Feature levels: what a cluster does and writes, and which of it a build understands.
//!
//! A cluster has one level. A build supports a range of them, so that brokers can be replaced one by one
//! by those of another version: nothing that the older one does not understand happens before the level is
//! raised, and it is never lowered (decision record 0014).

use std::fmt;

/// A feature level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeatureLevel(pub u32);

impl FeatureLevel {
    /// The level of clusters that know of no levels.
    pub const FIRST: Self = Self(1);

    /// Topics may be compacted.
    pub const COMPACTION: Self = Self(2);

    /// Brokers are given their ids.
    pub const IDS: Self = Self(3);

    /// What the level is about; `None` when it is newer than this build.
    #[must_use]
    pub fn feature(self) -> Option<&'static Feature> {
        FEATURES.iter().find(|feature| feature.level == self)
    }
}

impl Default for FeatureLevel {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What becomes possible at a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The level, from which on it is.
    pub level: FeatureLevel,
    /// Its name, in one word.
    pub name: &'static str,
    /// What it allows, in one line.
    pub allows: &'static str,
}

/// All levels that this build knows, without a gap. A new one is added here, and what it allows asks the
/// metadata whether it holds.
pub const FEATURES: [Feature; 3] = [
    Feature {
        level: FeatureLevel::FIRST,
        name: "base",
        allows: "everything that tidelog did before it had feature levels",
    },
    Feature {
        level: FeatureLevel::COMPACTION,
        name: "compaction",
        allows: "topics whose cleanup.policy is compact: they keep the newest record of each key",
    },
    Feature {
        level: FeatureLevel::IDS,
        name: "ids",
        allows: "brokers that join without a broker_id: the cluster gives them one",
    },
];

/// The levels that a build supports, both ends included. Displayed as `1 to 3`, or `1` alone.
///
/// Invariant: `min <= max`, unless somebody else's bytes say otherwise; then it holds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureLevels {
    /// The lowest.
    pub min: FeatureLevel,
    /// The highest.
    pub max: FeatureLevel,
}

impl FeatureLevels {
    /// Those of this build.
    pub const SUPPORTED: Self =
        Self { min: FEATURES[0].level, max: FEATURES[FEATURES.len() - 1].level };

    /// Those of a build that does not say: it knows of no levels.
    pub const UNSAID: Self = Self { min: FeatureLevel::FIRST, max: FeatureLevel::FIRST };

    /// Whether a cluster of this level can have a broker of this build.
    #[must_use]
    pub fn contains(self, level: FeatureLevel) -> bool {
        (self.min..=self.max).contains(&level)
    }
}

impl fmt::Display for FeatureLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.min == self.max {
            true => write!(f, "{}", self.max),
            false => write!(f, "{} to {}", self.min, self.max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_supported_level_once_and_in_order() {
        let levels: Vec<u32> = FEATURES.iter().map(|feature| feature.level.0).collect();
        let FeatureLevels { min, max } = FeatureLevels::SUPPORTED;
        assert_eq!(levels, (min.0..=max.0).collect::<Vec<_>>());
        assert_eq!(
            FeatureLevel::COMPACTION.feature().map(|feature| feature.name),
            Some("compaction")
        );
        assert_eq!(FeatureLevel(max.0 + 1).feature(), None);
    }

    #[test]
    fn a_range_holds_both_of_its_ends_and_reads_as_one() {
        let levels = FeatureLevels { min: FeatureLevel(2), max: FeatureLevel(4) };
        let held: Vec<u32> = (0..7).filter(|n| levels.contains(FeatureLevel(*n))).collect();
        assert_eq!(held, [2, 3, 4]);
        assert_eq!(levels.to_string(), "2 to 4");
        assert_eq!(FeatureLevels::UNSAID.to_string(), "1");
    }
}
