//! What differs between a topic of the file and the cluster, and what can be done about it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::file::Declared;
use crate::topic::or_dash;
use crate::{Column, Failure};

/// A topic as the cluster has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// How many partitions.
    pub(super) partitions: u32,
    /// How many replicas of each.
    pub(super) replication_factor: u32,
    /// The configs that were set for this topic.
    pub(super) configs: BTreeMap<String, String>,
}

/// A topic of the file beside that of the cluster, if it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// What is wanted.
    pub(super) declared: Declared,
    /// What is there.
    pub(super) found: Option<Found>,
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    topic: String,
    /// `topic` when it is not there, `partitions`, `replication_factor`, or the name of a config.
    setting: String,
    /// What the cluster has; absent when nothing is set.
    cluster: Option<String>,
    /// What the file wants; absent when a config is to be taken away.
    file: Option<String>,
    /// Whether it was made so; not with `diff`.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<bool>,
}

pub(super) const COLUMNS: &[Column] = &[
    Column::text("TOPIC"),
    Column::text("SETTING"),
    Column::text("CLUSTER"),
    Column::text("FILE"),
];

impl Pair {
    /// Everything that differs.
    pub(super) fn differences(&self) -> Vec<Difference> {
        let mut all = self.creation();
        if self.found.is_some() {
            all.extend(self.more_partitions().map(|(from, to)| self.of_partitions(from, to)));
            all.extend(self.fewer_partitions().map(|(from, to)| self.of_partitions(from, to)));
            all.extend(
                self.other_replication_factor()
                    .map(|(from, to)| self.difference("replication_factor", Some(from), Some(to))),
            );
            all.extend(self.of_configs());
        }
        all
    }

    /// What the creation of the topic would make so; nothing when it is there.
    pub(super) fn creation(&self) -> Vec<Difference> {
        if self.found.is_some() {
            return Vec::new();
        }
        let mut all = vec![self.difference("topic", Some("absent"), Some("present"))];
        let Declared { partitions, replication_factor, .. } = &self.declared;
        for (setting, number) in
            [("partitions", partitions), ("replication_factor", replication_factor)]
        {
            all.extend(number.iter().map(|n| self.difference(setting, None::<u32>, Some(n))));
        }
        all.extend(self.of_configs());
        all
    }

    /// How many partitions there are and should be, when some are missing.
    pub(super) fn more_partitions(&self) -> Option<(u32, u32)> {
        self.partitions().filter(|(there, wanted)| wanted > there)
    }

    fn fewer_partitions(&self) -> Option<(u32, u32)> {
        self.partitions().filter(|(there, wanted)| wanted < there)
    }

    fn partitions(&self) -> Option<(u32, u32)> {
        Some((self.found.as_ref()?.partitions, self.declared.partitions?))
    }

    fn other_replication_factor(&self) -> Option<(u32, u32)> {
        let there = self.found.as_ref()?.replication_factor;
        self.declared.replication_factor.map(|wanted| (there, wanted)).filter(|(a, b)| a != b)
    }

    /// The configs to set, and with `None` those to take away.
    pub(super) fn config_changes(&self) -> Vec<(String, Option<String>)> {
        let there = self.found.as_ref().map(|found| found.configs.clone()).unwrap_or_default();
        let wanted = &self.declared.configs;
        let keys: BTreeSet<&String> = there.keys().chain(wanted.keys()).collect();
        let differs = |key: &&String| there.get(*key) != wanted.get(*key);
        keys.into_iter()
            .filter(differs)
            .map(|key| (key.clone(), wanted.get(key).cloned()))
            .collect()
    }

    /// The differences that the change of configs would remove.
    pub(super) fn of_configs(&self) -> Vec<Difference> {
        let there = |key: &str| self.found.as_ref().and_then(|found| found.configs.get(key));
        let one =
            |(key, wanted): (String, Option<String>)| self.difference(&key, there(&key), wanted);
        self.config_changes().into_iter().map(one).collect()
    }

    /// The difference that more partitions would remove.
    pub(super) fn of_partitions(&self, from: u32, to: u32) -> Difference {
        self.difference("partitions", Some(from), Some(to))
    }

    fn difference(
        &self,
        setting: &str,
        cluster: Option<impl ToString>,
        file: Option<impl ToString>,
    ) -> Difference {
        Difference {
            topic: self.declared.name.to_string(),
            setting: setting.to_owned(),
            cluster: cluster.map(|value| value.to_string()),
            file: file.map(|value| value.to_string()),
            applied: None,
        }
    }

    /// Why the cluster can never be made so; a line for each reason.
    pub(super) fn refusal(&self) -> Option<Failure> {
        let at = |reason: String| {
            Failure::new(format!("{}: topic {} {reason}", self.declared.place, self.declared.name))
        };
        let fewer = self.fewer_partitions().map(|(there, wanted)| {
            at(format!(
                "has {there} partitions, none is ever taken away, and the file wants {wanted}"
            ))
            .next_step(format!("nothing was changed: write partitions = {there}, or leave it out"))
        });
        let other = self.other_replication_factor().map(|(there, wanted)| {
            at(format!(
                "has {there} replicas of each partition for good, and the file wants {wanted}"
            ))
            .next_step(format!(
                "nothing was changed: write replication_factor = {there}, or leave it out"
            ))
        });
        fewer.into_iter().chain(other).reduce(Failure::and)
    }
}

impl Difference {
    /// The same, made so or not.
    pub(super) fn applied(mut self, applied: bool) -> Self {
        self.applied = Some(applied);
        self
    }

    /// The cells of its line.
    pub(super) fn cells(&self) -> Vec<String> {
        let Self { topic, setting, cluster, file, .. } = self;
        vec![topic.clone(), setting.clone(), or_dash(cluster.as_ref()), or_dash(file.as_ref())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::file::parse;

    type There<'a> = (u32, u32, &'a [(&'a str, &'a str)]);

    fn pair(file: &str, found: Option<There>) -> Pair {
        let text = format!("[[topic]]\nname = \"a\"\n{file}");
        let declared = parse("f", &text).unwrap().remove(0);
        let found = found.map(|(partitions, replication_factor, configs)| Found {
            partitions,
            replication_factor,
            configs: configs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        });
        Pair { declared, found }
    }

    /// `setting cluster file`, with dashes for what is absent.
    fn rows(pair: &Pair) -> Vec<String> {
        pair.differences().iter().map(|difference| difference.cells()[1..].join(" ")).collect()
    }

    #[test]
    fn what_is_equal_or_not_named_does_not_differ() {
        let there = Some((3, 3, &[("x", "1")][..]));
        assert!(rows(&pair("partitions = 3\nconfigs = { x = 1 }", there)).is_empty());
        assert!(rows(&pair("configs = { x = \"1\" }", there)).is_empty());
        assert!(rows(&pair("", Some((9, 1, &[])))).is_empty());
    }

    #[test]
    fn a_missing_topic_differs_in_all_that_the_file_says() {
        let new = pair("partitions = 2\nconfigs = { x = 1 }", None);
        assert_eq!(rows(&new), ["topic absent present", "partitions - 2", "x - 1"]);
        assert_eq!(new.refusal().map(|failure| failure.to_string()), None);
        assert_eq!(new.more_partitions(), None, "they come with the topic");
    }

    #[test]
    fn configs_are_set_changed_and_taken_away() {
        let there = Some((1, 1, &[("a", "1"), ("b", "2"), ("c", "3")][..]));
        let pair = pair("configs = { b = 5, c = 3, d = 4 }", there);
        assert_eq!(rows(&pair), ["a 1 -", "b 2 5", "d - 4"]);
        let set = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        let expected = [set("a", None), set("b", Some("5")), set("d", Some("4"))];
        assert_eq!(pair.config_changes(), expected);
    }

    #[test]
    fn partitions_grow_and_never_shrink() {
        let grown = pair("partitions = 5", Some((3, 3, &[])));
        assert_eq!(
            (rows(&grown), grown.more_partitions()),
            (vec!["partitions 3 5".into()], Some((3, 5)))
        );
        assert!(grown.refusal().is_none());
        let shrunk = pair("partitions = 2\nreplication_factor = 1", Some((3, 3, &[])));
        assert_eq!(rows(&shrunk), ["partitions 3 2", "replication_factor 3 1"]);
        assert_eq!(shrunk.more_partitions(), None);
        let lines = shrunk.refusal().unwrap().lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("f line 2: topic a has 3 partitions"), "{lines:?}");
        assert!(lines[1].contains("has 3 replicas") && lines[1].contains("nothing was changed"));
    }
}
