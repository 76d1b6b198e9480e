//! What a broker runs, as the registry keeps it.
//!
//! ```text
//! an address, the last one of its broker:
//!   listener "software" | host "version commit level_min level_max" | port 1
//! ```
//! Why among the addresses: a build from before feature levels takes this for one address more, keeps it, hands it on in its snapshots, and
//! drops it when it registers itself. So whatever mix of builds leads the metadata, the registry tells of
//! each broker what it runs, and a broker that goes back to an old build is known to have done so.

use std::fmt;

use tidelog_types::{FeatureLevel, FeatureLevels};

use super::Address;

/// No listener has this name.
const LISTENER: &str = "software";

/// The port of such an address, which has to have one.
const PORT: u16 = 1;

/// The longest version or commit in bytes, so that all of it fits into a host.
const WORD_BYTES_MAX: usize = 64;

/// What a broker runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Software {
    version: String,
    commit: String,
    /// The feature levels that it supports.
    pub levels: FeatureLevels,
}

impl Software {
    /// Of version and commit it takes what can stand in one word of 64 bytes; `unknown` where that is
    /// nothing.
    #[must_use]
    pub fn new(version: &str, commit: &str, levels: FeatureLevels) -> Self {
        Self { version: word(version), commit: word(commit), levels }
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The commit that it was built from.
    #[must_use]
    pub fn commit(&self) -> &str {
        &self.commit
    }

    pub(super) fn to_address(&self) -> Address {
        let Self { version, commit, levels: FeatureLevels { min, max } } = self;
        let host = format!("{version} {commit} {min} {max}");
        Address { listener: LISTENER.to_owned(), host, port: PORT }
    }

    pub(super) fn from_address(address: &Address) -> Option<Self> {
        if address.listener != LISTENER || address.port != PORT {
            return None;
        }
        let mut words = address.host.split(' ');
        let (version, commit) = (words.next()?, words.next()?);
        let mut level = || words.next()?.parse().ok().map(FeatureLevel);
        let levels = FeatureLevels { min: level()?, max: level()? };
        let software = Self::new(version, commit, levels);
        // Only what is written the same way again: equal machines have equal bytes.
        let is_same = software.to_address() == *address;
        is_same.then_some(software)
    }
}

/// Displayed as `tidelog 0.1.0 (4f2a)`.
impl fmt::Display for Software {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tidelog {} ({})", self.version, self.commit)
    }
}

fn word(text: &str) -> String {
    let shown = text.chars().filter(char::is_ascii_graphic).take(WORD_BYTES_MAX);
    let word: String = shown.collect();
    if word.is_empty() { "unknown".to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_back_to_the_software_and_nothing_else_does() {
        let levels = FeatureLevels { min: FeatureLevel(1), max: FeatureLevel(2) };
        let software = Software::new("0.1.0", "4f2a\n b", levels);
        let address = software.to_address();
        assert_eq!(address.host, "0.1.0 4f2ab 1 2");
        assert_eq!(Software::from_address(&address), Some(software));
        let other = |listener: &str, host: &str, port| {
            let (listener, host) = (listener.to_owned(), host.to_owned());
            Software::from_address(&Address { listener, host, port })
        };
        assert_eq!(other("client", "0.1.0 4f2a 1 2", 1), None);
        assert_eq!(other("software", "0.1.0 4f2a 1 2", 2), None);
        for host in ["", "0.1.0", "0.1.0 4f2a 1", "0.1.0 4f2a 1 x", "0.1.0  1 2", "0.1.0 a 01 2"] {
            assert_eq!(other("software", host, 1), None, "{host}");
        }
    }

    #[test]
    fn a_version_that_cannot_stand_in_a_word_is_cut_or_unknown() {
        let software = Software::new(" ", &"c".repeat(100), FeatureLevels::UNSAID);
        assert_eq!((software.version(), software.commit().len()), ("unknown", 64));
    }
}
