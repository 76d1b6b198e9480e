//! A group as it is shown.

use std::time::Duration;

use serde::Serialize;
use tidelog_client::admin::{GroupFacts, GroupState, HoldingFacts, MemberFacts};

use crate::topic::or_dash;
use crate::{Column, Page};

/// A group with its members.
#[derive(Debug, Serialize)]
pub(crate) struct GroupView {
    group: String,
    state: &'static str,
    epoch: u32,
    /// The broker that leads the group's coordinator.
    coordinator: Option<u32>,
    members: Vec<MemberView>,
}

/// A member and what it holds.
#[derive(Debug, Serialize)]
struct MemberView {
    member: String,
    instance_id: Option<String>,
    client_id: String,
    epoch: u32,
    session_timeout_ms: u64,
    topics: Vec<String>,
    topic_pattern: Option<String>,
    holdings: Vec<HoldingView>,
}

/// A partition that a member holds.
#[derive(Debug, Serialize)]
struct HoldingView {
    topic: String,
    partition: u32,
    granted_epoch: u32,
    /// It is on its way to another member.
    revoking: bool,
}

const COLUMNS: &[Column] = &[
    Column::text("MEMBER"),
    Column::text("CLIENT"),
    Column::text("INSTANCE"),
    Column::number("PARTITIONS"),
    Column::text("HOLDS"),
    Column::number("EPOCH").only_wide(),
    Column::number("SESSION-TIMEOUT").only_wide(),
    Column::text("SUBSCRIBED").only_wide(),
];

impl GroupView {
    /// The page that describes the group.
    pub(super) fn page(&self) -> Page {
        Page::new()
            .heading(format!("Group {}", self.group))
            .facts([
                ("state", self.state.to_owned()),
                ("epoch", self.epoch.to_string()),
                ("coordinator", or_dash(self.coordinator)),
                ("members", self.members.len().to_string()),
            ])
            .table(COLUMNS, self.members.iter().map(MemberView::cells))
    }
}

impl MemberView {
    fn cells(&self) -> Vec<String> {
        vec![
            self.member.clone(),
            self.client_id.clone(),
            or_dash(self.instance_id.as_ref()),
            self.holdings.len().to_string(),
            held(&self.holdings),
            self.epoch.to_string(),
            format!("{}s", seconds(Duration::from_millis(self.session_timeout_ms))),
            self.subscribed(),
        ]
    }

    fn subscribed(&self) -> String {
        let pattern = self.topic_pattern.iter().map(|pattern| format!("/{pattern}/"));
        self.topics.iter().cloned().chain(pattern).collect::<Vec<_>>().join(",")
    }
}

/// Partitions by topic, as `orders/0,2-4 payments/1`; with a `!` those that are to be given up.
fn held(holdings: &[HoldingView]) -> String {
    let mut text = String::new();
    let mut rest = holdings;
    while let Some(first) = rest.first() {
        let follows = |(at, holding): &(usize, &HoldingView)| {
            holding.topic == first.topic
                && holding.revoking == first.revoking
                && u64::from(holding.partition) == u64::from(first.partition) + *at as u64
        };
        let count = rest.iter().enumerate().take_while(follows).count();
        let before = holdings.len() - rest.len();
        let same_topic = before > 0 && holdings[before - 1].topic == first.topic;
        match (before, same_topic) {
            (0, _) => text.push_str(&format!("{}/", first.topic)),
            (_, true) => text.push(','),
            (_, false) => text.push_str(&format!(" {}/", first.topic)),
        }
        text.push_str(&first.partition.to_string());
        if count > 1 {
            text.push_str(&format!("-{}", rest[count - 1].partition));
        }
        if first.revoking {
            text.push('!');
        }
        rest = &rest[count..];
    }
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Seconds with at most three decimals.
pub(super) fn seconds(duration: Duration) -> f64 {
    // Exact: a float holds the milliseconds of 285,000 years.
    duration.as_millis() as f64 / 1_000.0
}

/// The name of a state.
pub(super) fn state(state: GroupState) -> &'static str {
    match state {
        GroupState::Empty => "empty",
        GroupState::Reconciling => "reconciling",
        GroupState::Stable => "stable",
        _ => "unknown",
    }
}

impl From<&GroupFacts> for GroupView {
    fn from(group: &GroupFacts) -> Self {
        Self {
            group: group.group.to_string(),
            state: state(group.state),
            epoch: group.epoch,
            coordinator: group.coordinator.as_ref().map(|leader| leader.broker.0),
            members: group.members.iter().cloned().map(MemberView::from).collect(),
        }
    }
}

impl From<MemberFacts> for MemberView {
    fn from(member: MemberFacts) -> Self {
        let mut holdings: Vec<_> = member.holdings.into_iter().map(HoldingView::from).collect();
        holdings.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Self {
            member: member.id,
            instance_id: member.instance_id,
            client_id: member.client_id,
            epoch: member.epoch,
            session_timeout_ms: u64::try_from(member.session_timeout.as_millis())
                .unwrap_or(u64::MAX),
            topics: member.topics,
            topic_pattern: member.topic_pattern,
            holdings,
        }
    }
}

impl From<HoldingFacts> for HoldingView {
    fn from(holding: HoldingFacts) -> Self {
        Self {
            topic: holding.partition.topic.to_string(),
            partition: holding.partition.partition.0,
            granted_epoch: holding.granted_epoch,
            revoking: holding.revoking,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(topic: &str, partition: u32, revoking: bool) -> HoldingView {
        HoldingView { topic: topic.to_owned(), partition, granted_epoch: 1, revoking }
    }

    #[test]
    fn holdings_are_ranges_by_topic() {
        let some = [("a", 0), ("a", 2), ("a", 3), ("a", 4), ("b", 5)];
        let some = some.map(|(topic, partition)| holding(topic, partition, false));
        assert_eq!(held(&some), "a/0,2-4 b/5");
        let moving = [holding("a", 0, false), holding("a", 1, true), holding("a", 2, false)];
        assert_eq!(held(&moving), "a/0,1!,2");
        assert_eq!(held(&[]), "-");
    }

    #[test]
    fn seconds_have_three_decimals() {
        assert_eq!(seconds(Duration::from_micros(3_214_999)), 3.214);
        assert_eq!(seconds(Duration::ZERO), 0.0);
    }
}
