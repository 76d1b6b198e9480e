//! What the names and patterns of a group stand for in the metadata.

use std::collections::BTreeSet;

use regex_lite::{Regex, RegexBuilder};
use tidelog_proto::v1::Error;
use tidelog_state::group::Topics;
use tidelog_state::metadata::{Machine, Topic};
use tidelog_types::{ErrorCode, TopicName};

use crate::limits;

/// The memory that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 256 << 10;

/// Looks up names and patterns. A pattern that does not parse, which [`check_pattern`] has kept out,
/// matches nothing.
pub(crate) fn resolve<'a>(
    machine: &Machine,
    names: impl Iterator<Item = &'a TopicName>,
    patterns: impl Iterator<Item = &'a str>,
) -> Topics {
    let mut topics = Topics::default();
    let known = |topic: &Topic| (topic.id, topic.partitions.len() as u32);
    for name in names {
        let topic = machine.topic_by_name(name.as_str()).filter(|topic| !topic.id.is_internal());
        if let Some(topic) = topic {
            topics.known.insert(topic.name.clone(), known(topic));
        }
    }
    for pattern in patterns {
        let compiled = compile(pattern).ok();
        let matches = |topic: &&Topic| {
            let matches =
                compiled.as_ref().is_some_and(|regex| regex.is_match(topic.name.as_str()));
            matches && !topic.id.is_internal()
        };
        let mut matched = BTreeSet::new();
        for topic in machine.live_topics().filter(matches) {
            topics.known.insert(topic.name.clone(), known(topic));
            matched.insert(topic.name.clone());
        }
        topics.matched.insert(pattern.to_owned(), matched);
    }
    topics
}

/// Refuses a pattern that does not parse.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), Error> {
    let refused = |message| Err(Error::new(ErrorCode::InvalidRegularExpression, message));
    if pattern.len() > limits::TOPIC_PATTERN_BYTES_MAX {
        let most = limits::TOPIC_PATTERN_BYTES_MAX;
        return refused(format!(
            "topic pattern has {} bytes, at most {most} are allowed",
            pattern.len()
        ));
    }
    match compile(pattern) {
        Ok(_) => Ok(()),
        Err(err) => refused(format!("topic pattern does not parse: {err}")),
    }
}

fn compile(pattern: &str) -> Result<Regex, regex_lite::Error> {
    // Alone first: "a)|(b" would parse once it stands in a group.
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build()?;
    RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(PATTERN_BYTES_MAX).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_for_whole_names() {
        let matches = |pattern: &str, name: &str| compile(pattern).unwrap().is_match(name);
        assert!(matches("orders|stock", "orders"));
        assert!(!matches("orders|stock", "orders-2"));
        assert!(matches("orders.*", "orders-2"));
        assert!(!matches("rders", "orders"));
    }

    #[test]
    fn what_does_not_parse_or_is_too_large_is_refused() {
        for pattern in ["(", "a)|(b", "[z-a]", &"x".repeat(limits::TOPIC_PATTERN_BYTES_MAX + 1)] {
            let refused = check_pattern(pattern).unwrap_err();
            assert_eq!(
                refused.error_code(),
                Ok(ErrorCode::InvalidRegularExpression),
                "{pattern:.9}"
            );
        }
        assert_eq!(check_pattern("orders-.*"), Ok(()));
    }
}
