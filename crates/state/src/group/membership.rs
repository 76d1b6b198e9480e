//! Members come, give up, and go; topics come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog_types::{ErrorCode, MemberId, Timestamp};

use super::reconcile::Step;
use super::{Group, Join, Member, Partition, Refusal, Subscription, Topics};

/// The most members of a group.
pub const MEMBERS_MAX: usize = 1_000;
/// The most topics that a member may name.
pub const SUBSCRIBED_TOPICS_MAX: usize = 1_000;
/// The longest pattern in bytes.
pub const PATTERN_BYTES_MAX: usize = 1_024;
/// The most different patterns of a group: each stands for a list of topics in every change of them.
pub const PATTERNS_MAX: usize = 32;
/// The longest name of a client in bytes.
pub const CLIENT_ID_BYTES_MAX: usize = 255;
/// The shortest session and rebalance timeout.
pub const TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// The longest session and rebalance timeout.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(30 * 60);

impl Group {
    /// A member joins, or says something else of itself. Tells whether that changed anything.
    pub(super) fn join(
        &mut self,
        join: &Join,
        topics: &Topics,
        now: Timestamp,
    ) -> Result<bool, Refusal> {
        check(join)?;
        topics.check()?;
        let rival = self.rival(join);
        let known = self.members.contains_key(&join.member);
        if !known {
            self.check_new_member(join, rival.is_some())?;
        }
        self.check_patterns(join)?;
        let mut merged = self.topics.clone();
        merged.merge(topics.clone());
        merged.check()?;

        let mut step = Step::begin(self, now);
        if step.group.note_member(join) {
            step.tell(&join.member);
        }
        if let Some(rival) = &rival {
            // One that was a member before has partitions of its own, and would have to give them up
            // in exchange.
            step.remove(rival, (!known).then_some(&join.member));
        }
        let resolved = step.replace_topics(merged);
        if let (Some(member), Some(_)) = (step.group.members.get_mut(&join.member), &rival) {
            member.replaced = rival;
        }
        step.reconcile();
        let moved = step.finish();
        Ok(resolved || moved)
    }

    /// A member gives up what it was asked for and does not list. Tells whether that was anything.
    pub(super) fn acknowledge(
        &mut self,
        id: &MemberId,
        holdings: &BTreeSet<Partition>,
        now: Timestamp,
    ) -> Result<bool, Refusal> {
        let Some(member) = self.members.get(id) else { return Err(self.unknown_member(id)) };
        let revoking = member.holdings.iter().filter(|(_, holding)| holding.revoking);
        let given_up = revoking.map(|(partition, _)| *partition);
        let given_up: Vec<_> = given_up.filter(|key| !holdings.contains(key)).collect();
        // Who should hold what does not depend on who holds what when nothing else has changed: so
        // whoever was to get it gets it, and nothing is decided anew.
        let mut step = Step::begin(self, now);
        for partition in given_up {
            if let Some(next) = step.release(id, partition) {
                step.grant(&next, partition);
            }
        }
        step.group.forget_names();
        Ok(step.finish())
    }

    /// A member is there no more. Tells whether it had been.
    pub(super) fn remove(&mut self, id: &MemberId, now: Timestamp) -> bool {
        if !self.members.contains_key(id) {
            return false;
        }
        let mut step = Step::begin(self, now);
        step.remove(id, None);
        step.forget_topics();
        step.reconcile();
        step.finish();
        true
    }

    /// The topics of the cluster have changed. Tells whether that concerns the group.
    pub(super) fn resolve(&mut self, topics: &Topics, now: Timestamp) -> Result<bool, Refusal> {
        topics.check()?;
        let mut resolved = topics.clone();
        resolved.keep_partitions(&self.topics);
        let mut step = Step::begin(self, now);
        let resolved = step.replace_topics(resolved);
        step.reconcile();
        let moved = step.finish();
        Ok(resolved || moved)
    }

    /// What a member or a stranger is told that is none.
    pub(super) fn unknown_member(&self, id: &MemberId) -> Refusal {
        match self.successor(id.as_str()) {
            Some(_) => fenced_instance(id),
            None => {
                Refusal::new(ErrorCode::UnknownMemberId, format!("the group has no member {id}"))
            }
        }
    }

    /// Another member with the same instance.
    fn rival(&self, join: &Join) -> Option<MemberId> {
        let instance = join.instance.as_ref()?;
        let mut others = self.members.iter().filter(|(id, _)| **id != join.member);
        others
            .find(|(_, member)| member.instance.as_ref() == Some(instance))
            .map(|(id, _)| id.clone())
    }

    fn check_new_member(&self, join: &Join, replaces: bool) -> Result<(), Refusal> {
        if self.successor(join.member.as_str()).is_some() {
            return Err(fenced_instance(&join.member));
        }
        if self.members.len() >= MEMBERS_MAX && !replaces {
            let message = format!("the group has {MEMBERS_MAX} members, the most allowed");
            return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message));
        }
        Ok(())
    }

    fn check_patterns(&self, join: &Join) -> Result<(), Refusal> {
        let mut patterns = self.patterns();
        patterns.extend(join.subscription.pattern.as_deref());
        if patterns.len() <= PATTERNS_MAX {
            return Ok(());
        }
        let message = format!("the group has {PATTERNS_MAX} topic patterns, the most allowed");
        Err(Refusal::new(ErrorCode::InvalidRequest, message))
    }

    /// Takes down what a member says of itself. Tells whether anything of it is new.
    fn note_member(&mut self, join: &Join) -> bool {
        let before = self.members.get(&join.member).cloned();
        let epoch = self.epoch;
        let member = self.members.entry(join.member.clone()).or_insert_with(|| Member {
            instance: None,
            client_id: String::new(),
            subscription: Subscription::default(),
            session_timeout: Duration::ZERO,
            rebalance_timeout: Duration::ZERO,
            epoch,
            revision: 0,
            holdings: BTreeMap::new(),
            revoking_since: None,
            replaced: None,
        });
        member.instance.clone_from(&join.instance);
        member.client_id.clone_from(&join.client_id);
        member.subscription.clone_from(&join.subscription);
        member.session_timeout = whole_ms(join.session_timeout);
        member.rebalance_timeout = whole_ms(join.rebalance_timeout);
        before.as_ref() != Some(member)
    }
}

impl Step<'_> {
    /// Puts new topics in the place of the old ones. What was held of those that are gone is free at
    /// once: nobody can read them, so there is nothing to finish. Tells whether they are others.
    fn replace_topics(&mut self, topics: Topics) -> bool {
        let old = std::mem::replace(&mut self.group.topics, topics);
        let known: BTreeSet<_> = self.group.topics.known.values().map(|(id, _)| *id).collect();
        let gone: BTreeSet<_> = old.known.values().map(|(id, _)| *id).collect();
        let gone: BTreeSet<_> = gone.difference(&known).collect();
        for (partition, holder) in self.group.holders() {
            if gone.contains(&partition.0) {
                self.release(&holder, partition);
            }
        }
        let names = self.group.topics.known.iter().map(|(name, (id, _))| (*id, name.clone()));
        self.group.names.extend(names);
        self.forget_topics();
        self.group.topics != old
    }

    /// Forgets topics and patterns that nobody subscribes to any more.
    fn forget_topics(&mut self) {
        let subscriptions = self.group.members.values().map(|member| &member.subscription);
        self.group.topics.retain_subscribed(subscriptions);
    }
}

fn check(join: &Join) -> Result<(), Refusal> {
    let allowed = TIMEOUT_MIN..=TIMEOUT_MAX;
    let timeouts = [
        ("session", join.session_timeout, ErrorCode::InvalidSessionTimeout),
        ("rebalance", join.rebalance_timeout, ErrorCode::InvalidRequest),
    ];
    for (what, timeout, code) in timeouts {
        if !allowed.contains(&timeout) {
            let (given, min, max) =
                (timeout.as_millis(), TIMEOUT_MIN.as_millis(), TIMEOUT_MAX.as_millis());
            let message = format!("{what} timeout of {given} ms: {min} to {max} are allowed");
            return Err(Refusal::new(code, message));
        }
    }
    let pattern = join.subscription.pattern.as_ref();
    let lengths = [
        ("client id", "bytes", join.client_id.len(), CLIENT_ID_BYTES_MAX),
        ("subscription", "topics", join.subscription.topics.len(), SUBSCRIBED_TOPICS_MAX),
        ("topic pattern", "bytes", pattern.map_or(0, String::len), PATTERN_BYTES_MAX),
    ];
    match lengths.into_iter().find(|(_, _, length, most)| length > most) {
        None => Ok(()),
        Some((what, unit, length, most)) => {
            let message = format!("{what} has {length} {unit}, at most {most} are allowed");
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        }
    }
}

fn fenced_instance(id: &MemberId) -> Refusal {
    let message = format!("another member has taken the instance of member {id} over");
    Refusal::new(ErrorCode::FencedInstanceId, message)
}

/// Timeouts are stored, and sent, in whole milliseconds.
fn whole_ms(timeout: Duration) -> Duration {
    Duration::from_millis(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
}
