//! Committed offsets.

use std::collections::BTreeSet;

use tidelog_types::{ErrorCode, Offset, Timestamp, canary};

use super::consumer_group::LastSeek;
use super::reconcile::Step;
use super::{Committer, Group, OffsetChange, Partition, Refusal};

/// The most bytes of metadata beside an offset, as in Kafka.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4_096;
/// The most partitions that a group has offsets of, those of deleted topics included.
pub const OFFSETS_MAX: usize = 200_000;

/// How far a partition is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The first offset that is not done.
    pub offset: Offset,
    /// Leader epoch of the record before it, if known.
    pub leader_epoch: Option<i32>,
    /// Whatever the committer wanted to keep.
    pub metadata: String,
    /// When it was committed, by the log's time.
    pub time: Timestamp,
}

impl Group {
    /// Commits each offset that may be committed. Tells what holds now, and whether anything changed.
    pub(super) fn commit(
        &mut self,
        committer: Option<&Committer>,
        offsets: &[OffsetChange],
        now: Timestamp,
    ) -> (Vec<Result<Committed, Refusal>>, bool) {
        let mut changed = false;
        let commit = |change: &OffsetChange| {
            self.check_committer(committer, change.key())?;
            change.check()?;
            self.check_room(&[change.key()])?;
            if let Some(higher) = self.higher(change) {
                return Ok(higher.clone());
            }
            let before = self.offsets.get(&change.key()).cloned();
            let holds = self.store(change, now);
            changed |= before.as_ref() != Some(&holds);
            Ok(holds)
        };
        let results = offsets.iter().map(commit).collect();
        (results, changed)
    }

    /// Sets offsets, forward or back, all or none, once per token. Tells what held before, and whether
    /// anything changed.
    pub(super) fn seek(
        &mut self,
        token: u128,
        offsets: &[OffsetChange],
        now: Timestamp,
    ) -> Result<(Vec<Option<Committed>>, bool), Refusal> {
        if let Some(last) = self.seek.as_ref().filter(|last| last.token == token) {
            return Ok((last.before.clone(), false));
        }
        if offsets.is_empty() {
            return Ok((Vec::new(), false));
        }
        offsets.iter().try_for_each(OffsetChange::check)?;
        self.check_room(&offsets.iter().map(OffsetChange::key).collect::<Vec<_>>())?;
        let holders = self.holders();
        let mut before = Vec::with_capacity(offsets.len());
        let mut step = Step::begin(self, now);
        for change in offsets {
            before.push(step.group.offsets.get(&change.key()).cloned());
            step.group.store(change, now);
            if let Some(holder) = holders.get(&change.key()) {
                step.grant(holder, change.key());
            }
        }
        step.finish();
        self.seek = Some(LastSeek { token, before: before.clone() });
        Ok((before, true))
    }

    /// Forgets offsets, all or none. Tells whether there were any.
    pub(super) fn delete_offsets(
        &mut self,
        partitions: &BTreeSet<Partition>,
    ) -> Result<bool, Refusal> {
        let subscribed: BTreeSet<_> = self.subscribed_topics().into_values().flatten().collect();
        let holders = self.holders();
        for key in partitions {
            if subscribed.contains(&key.0) || holders.contains_key(key) {
                let topic = self.names.get(&key.0).map_or("the topic", |name| name.as_str());
                let message = format!("a member of the group subscribes to {topic}");
                return Err(Refusal::new(ErrorCode::GroupSubscribedToTopic, message));
            }
        }
        let before = self.offsets.len();
        self.offsets.retain(|key, _| !partitions.contains(key));
        self.forget_names();
        Ok(self.offsets.len() < before)
    }

    fn check_committer(
        &self,
        committer: Option<&Committer>,
        partition: Partition,
    ) -> Result<(), Refusal> {
        let Some(Committer { member: id, epoch }) = committer else {
            if self.members.is_empty() {
                return Ok(());
            }
            let message = "the group has members, so only they commit";
            return Err(Refusal::new(ErrorCode::UnknownMemberId, message));
        };
        let Some(member) = self.members.get(id) else {
            let message = format!("the group has no member {id}");
            return Err(Refusal::new(ErrorCode::UnknownMemberId, message));
        };
        if *epoch != member.epoch && !canary!(MemberEpochIgnored) {
            let message = format!("member epoch {epoch} is not {}, which holds", member.epoch);
            return Err(Refusal::new(ErrorCode::StaleMemberEpoch, message));
        }
        let held = member.holdings.contains_key(&partition);
        if !held || self.is_fenced(partition.0, partition.1) {
            let message = format!("member {id} does not hold the partition");
            return Err(Refusal::new(ErrorCode::FencedMemberEpoch, message));
        }
        Ok(())
    }

    fn check_room(&self, partitions: &[Partition]) -> Result<(), Refusal> {
        let new: BTreeSet<_> =
            partitions.iter().filter(|key| !self.offsets.contains_key(key)).collect();
        if self.offsets.len() + new.len() <= OFFSETS_MAX {
            return Ok(());
        }
        let message =
            format!("the group has offsets of {OFFSETS_MAX} partitions, the most allowed");
        Err(Refusal::new(ErrorCode::ResourceExhausted, message))
    }

    /// What holds for the partition, when it is above the change.
    fn higher(&self, change: &OffsetChange) -> Option<&Committed> {
        self.offsets.get(&change.key()).filter(|holds| holds.offset > change.offset)
    }

    fn store(&mut self, change: &OffsetChange, time: Timestamp) -> Committed {
        let committed = Committed {
            offset: change.offset,
            leader_epoch: change.leader_epoch,
            metadata: change.metadata.clone(),
            time,
        };
        self.names.entry(change.topic).or_insert_with(|| change.name.clone());
        self.offsets.insert(change.key(), committed.clone());
        committed
    }
}

impl OffsetChange {
    fn key(&self) -> Partition {
        (self.topic, self.partition)
    }

    fn check(&self) -> Result<(), Refusal> {
        if self.offset.to_wire() < 0 {
            // Ours never pass what the wire can carry, so this one was negative there.
            let message = format!("offset {} is negative", self.offset.to_wire());
            return Err(Refusal::new(ErrorCode::OffsetOutOfRange, message));
        }
        let bytes = self.metadata.len();
        if bytes > OFFSET_METADATA_BYTES_MAX {
            let message = format!(
                "metadata has {bytes} bytes, at most {OFFSET_METADATA_BYTES_MAX} are allowed"
            );
            return Err(Refusal::new(ErrorCode::InvalidCommitOffsetSize, message));
        }
        Ok(())
    }
}
