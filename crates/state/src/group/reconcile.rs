//! From what members hold to what they should hold, in steps that never take a partition from a member
//! that still works on it.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_types::{MemberId, Timestamp, TopicId};

use super::consumer_group::Revocation;
use super::{Group, Holding, Member, Partition, assign};

/// What one command changes in a group's holdings: all of it under one new epoch.
///
/// [`Step::finish`] gives the epoch to the group and to whoever it concerns.
pub(super) struct Step<'a> {
    pub(super) group: &'a mut Group,
    now: Timestamp,
    /// The epoch of what is granted in this step.
    epoch: u32,
    /// Whether anybody holds anything else than before.
    regrouped: bool,
    /// Members that hold something else than before.
    regranted: BTreeSet<MemberId>,
    /// Members that have to hear of something.
    told: BTreeSet<MemberId>,
    /// Partitions that were freed in this step, and who should rather have them.
    freed: BTreeMap<Partition, MemberId>,
}

impl<'a> Step<'a> {
    pub(super) fn begin(group: &'a mut Group, now: Timestamp) -> Self {
        let epoch = group.epoch.checked_add(1).expect("holdings change less often than 2^32 times");
        Self {
            group,
            now,
            epoch,
            regrouped: false,
            regranted: BTreeSet::new(),
            told: BTreeSet::new(),
            freed: BTreeMap::new(),
        }
    }

    /// The member has to hear of something.
    pub(super) fn tell(&mut self, member: &MemberId) {
        self.told.insert(member.clone());
    }

    /// Takes a member out. What it held is free; with an `heir` it goes there rather, except for what
    /// was on its way to somebody else.
    pub(super) fn remove(&mut self, id: &MemberId, heir: Option<&MemberId>) {
        let Some(member) = self.group.members.remove(id) else { return };
        if let Some(heir) = heir {
            let coming = self.group.revocations.values_mut().filter_map(|r| r.to.as_mut());
            coming.filter(|to| *to == id).for_each(|to| *to = heir.clone());
        }
        self.regrouped |= !member.holdings.is_empty();
        for partition in member.holdings.into_keys() {
            let next = self.group.revocations.remove(&partition).and_then(|r| r.to);
            if let Some(next) = next.as_ref().or(heir) {
                self.freed.insert(partition, next.clone());
            }
        }
    }

    /// Takes a partition from its holder. Tells who should have it next.
    pub(super) fn release(&mut self, holder: &MemberId, partition: Partition) -> Option<MemberId> {
        let member = self.group.members.get_mut(holder)?;
        member.holdings.remove(&partition)?;
        self.regranted.insert(holder.clone());
        self.regrouped = true;
        self.group.revocations.remove(&partition)?.to
    }

    /// Gives a partition to a member, or anew to its holder.
    pub(super) fn grant(&mut self, member: &MemberId, partition: Partition) {
        let granted = self.epoch;
        let Some(holder) = self.group.members.get_mut(member) else { return };
        let new = Holding { granted, revoking: false };
        holder.holdings.entry(partition).and_modify(|held| held.granted = granted).or_insert(new);
        self.regranted.insert(member.clone());
        self.regrouped = true;
        if let Some(revocation) = self.group.revocations.get_mut(&partition) {
            // Granted anew to a holder that does not see it any more.
            revocation.fenced = true;
        }
    }

    /// Finds out who should hold what, and does of it what can be done now.
    ///
    /// A partition on its way stays on it, as far as who gets it is there and still subscribes to it.
    pub(super) fn reconcile(&mut self) {
        let subscribed = self.group.subscribed_topics();
        let partitions = self.group.topics.known.values().copied().collect();
        let holders = self.group.holders();
        let mut sticky = holders.clone();
        let coming =
            self.group.revocations.iter().filter_map(|(key, r)| Some((*key, r.to.as_ref()?)));
        let coming = coming.chain(self.freed.iter().map(|(key, to)| (*key, to)));
        for (partition, to) in coming {
            if subscribed.get(to).is_some_and(|topics| topics.contains(&partition.0)) {
                sticky.insert(partition, to.clone());
            }
        }
        let target = assign(&subscribed, &partitions, &sticky);
        for (partition, holder) in &holders {
            match target.get(partition) {
                Some(to) if to == holder => self.keep(holder, *partition),
                to => self.ask_back(holder, *partition, to),
            }
        }
        for (partition, to) in target.iter().filter(|(key, _)| !holders.contains_key(key)) {
            self.grant(to, *partition);
        }
        self.group.forget_names();
    }

    /// Gives the new epoch to whom it concerns. Tells whether anything changed.
    pub(super) fn finish(self) -> bool {
        let group = self.group;
        if self.regrouped {
            group.epoch = self.epoch;
        }
        for id in &self.regranted {
            let Some(member) = group.members.get_mut(id) else { continue };
            member.epoch = self.epoch;
        }
        for id in self.told.union(&self.regranted) {
            let Some(member) = group.members.get_mut(id) else { continue };
            member.revision += 1;
            let since = |key| group.revocations.get(key).map(|revocation| revocation.since);
            member.revoking_since = member.holdings.keys().filter_map(since).min();
        }
        self.regrouped || !self.told.is_empty()
    }

    fn keep(&mut self, holder: &MemberId, partition: Partition) {
        if self.group.revocations.remove(&partition).is_some() {
            self.mark(holder, partition, false);
        }
    }

    fn ask_back(&mut self, holder: &MemberId, partition: Partition, to: Option<&MemberId>) {
        let to = to.cloned();
        if let Some(revocation) = self.group.revocations.get_mut(&partition) {
            revocation.to = to;
            return;
        }
        let revocation = Revocation { to, since: self.now, fenced: false };
        self.group.revocations.insert(partition, revocation);
        self.mark(holder, partition, true);
    }

    fn mark(&mut self, holder: &MemberId, partition: Partition, revoking: bool) {
        let member = self.group.members.get_mut(holder);
        let holding = member.and_then(|member: &mut Member| member.holdings.get_mut(&partition));
        holding.expect("whoever holds the partition is a member").revoking = revoking;
        self.told.insert(holder.clone());
    }
}

impl Group {
    /// Forgets the names of topics that are no longer known, held or committed.
    pub(super) fn forget_names(&mut self) {
        let used = self.used_topics();
        self.names.retain(|topic, _| used.contains(topic));
    }

    /// The topics that are known, held or committed.
    pub(super) fn used_topics(&self) -> BTreeSet<TopicId> {
        let known = self.topics.known.values().map(|(id, _)| *id);
        let held = self.members.values().flat_map(|member| member.holdings.keys());
        known.chain(held.chain(self.offsets.keys()).map(|(topic, _)| *topic)).collect()
    }
}
