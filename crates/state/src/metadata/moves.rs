//! Where the replicas of partitions should be, and who says that they are there.
//!
//! A move is only a new target. The leader of the partition's group brings the group there, one change
//! of its membership at a time, and reports each one. Who is in no target any more is *leaving*: the
//! group may still need it, so it keeps its replica until a report shows that the group stands where
//! it should. Then it is *released*: it deletes its replica, says so, and only then may the partition
//! come back to it.
//!
//! A node that deletes must never be made a voter meanwhile, whichever news it or a leader has missed.
//! So a report releases only for the revision of the target that its leader knew *before* a majority
//! confirmed it, and a leader takes no step towards a target that it has not asked for since it was
//! elected: whoever would make the node a voter again has heard of the release, or is deposed.

use std::collections::BTreeSet;

use tidelog_types::{BrokerId, ErrorCode, GroupId, NodeId};

use super::machine::unknown_topic;
use super::{
    Broker, Change, Leaving, Machine, MembersReport, Outcome, Partition, PartitionMove,
    REPLICATION_FACTOR_MAX, Refusal, Reply, TopicState,
};

impl Machine {
    /// Sets where partitions should be, all or none.
    pub(super) fn move_partitions(
        &mut self,
        moves: &[PartitionMove],
        changes: &mut Vec<Change>,
    ) -> Reply {
        let mut seen = BTreeSet::new();
        for one in moves {
            self.check_move(one)?;
            if !seen.insert(one.group) {
                let message = format!("partition {} is named twice", self.shown(one.group));
                return Err(Refusal::new(ErrorCode::InvalidRequest, message));
            }
        }
        let before = changes.len();
        for PartitionMove { group, replicas } in moves {
            let known = self.partition(*group).expect("it was checked above");
            if known.replicas == *replicas {
                continue;
            }
            let mut holders: BTreeSet<NodeId> = self.target_nodes(known).into_iter().collect();
            holders.extend(&known.voters);
            let target = self.nodes_of(replicas);
            let partition = self.live_partition_mut(*group).expect("it was checked above");
            partition.replicas.clone_from(replicas);
            partition.revision = partition.revision.wrapping_add(1);
            partition.leave(holders, &target);
            changes.push(Change::Partition(*group));
        }
        let changed = u32::try_from(changes.len() - before).unwrap_or(u32::MAX);
        Ok(Outcome::PartitionsMove { changed })
    }

    /// Takes over who votes in groups, and releases whoever a group has done without.
    pub(super) fn report_members(
        &mut self,
        reports: &[MembersReport],
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let before = changes.len();
        for MembersReport { group, at, voters, revision } in reports {
            let Some(known) = self.partition(*group) else { continue };
            let target: BTreeSet<NodeId> = self.target_nodes(known).into_iter().collect();
            let Some(partition) = self.live_partition_mut(*group) else { continue };
            let is_news = partition.voters_at.is_none_or(|known| known < *at);
            // The same membership once more is news where the target has come to meet it.
            let is_same = partition.voters_at == Some(*at);
            let is_there = partition.revision == *revision
                && voters.iter().copied().collect::<BTreeSet<_>>() == target;
            let frees = is_there && partition.leaving.iter().any(|leaving| !leaving.released);
            if !(is_news || is_same && frees) {
                continue;
            }
            partition.voters.clone_from(voters);
            partition.voters_at = Some(*at);
            if is_there {
                partition.leaving.iter_mut().for_each(|leaving| leaving.released = true);
            }
            changes.push(Change::Partition(*group));
        }
        let accepted = u32::try_from(changes.len() - before).unwrap_or(u32::MAX);
        Outcome::Reported { accepted }
    }

    /// Forgets a node that partitions have released and that has deleted its replicas.
    pub(super) fn report_left(
        &mut self,
        node: NodeId,
        groups: &[GroupId],
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let before = changes.len();
        for group in groups {
            let Some(partition) = self.live_partition_mut(*group) else { continue };
            if partition.has_released(node) {
                partition.leaving.retain(|leaving| leaving.node != node);
                changes.push(Change::Partition(*group));
            }
        }
        let accepted = u32::try_from(changes.len() - before).unwrap_or(u32::MAX);
        Outcome::Reported { accepted }
    }

    /// Forgets nodes whose disk is gone.
    pub(super) fn forget_left(&mut self, is_gone: impl Fn(NodeId) -> bool) {
        let partitions = self.topics.values_mut().flat_map(|topic| &mut topic.partitions);
        for partition in partitions {
            partition.leaving.retain(|leaving| !is_gone(leaving.node));
        }
    }

    fn check_move(&self, PartitionMove { group, replicas }: &PartitionMove) -> Result<(), Refusal> {
        let live = self.topics.get(&group.topic).filter(|topic| topic.state == TopicState::Live);
        let topic = live.ok_or_else(|| unknown_topic(group.topic))?;
        let name = self.shown(*group);
        let Some(partition) = topic.partitions.get(group.partition.0 as usize) else {
            let (topic, count) = (&topic.name, topic.partitions.len());
            let message = format!("topic {topic} has {count} partitions, there is no {name}");
            return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
        };
        let refused =
            |message: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        if replicas.is_empty() || replicas.len() > REPLICATION_FACTOR_MAX as usize {
            let count = replicas.len();
            return refused(format!(
                "{name} on {count} brokers: 1 to {REPLICATION_FACTOR_MAX} are allowed"
            ));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = replicas.iter().find(|id| !seen.insert(**id)) {
            return refused(format!("{name}: broker {twice} is named twice"));
        }
        if let Some(unknown) = replicas.iter().find(|id| !self.brokers.contains_key(id)) {
            return refused(format!("{name}: the cluster has no broker {unknown}"));
        }
        let drains =
            |id: &&BrokerId| self.brokers[*id].is_draining && !partition.replicas.contains(*id);
        if let Some(draining) = replicas.iter().find(drains) {
            return refused(format!("{name}: broker {draining} is being drained"));
        }
        if partition.is_creating() {
            let message = format!("{name} has had no leader yet: move it once it has one");
            return Err(Refusal::new(ErrorCode::LeaderNotAvailable, message));
        }
        if let Some(busy) =
            self.nodes_of(replicas).into_iter().find(|node| partition.has_released(*node))
        {
            let message = format!(
                "{name}: broker {} still deletes the replica that it had: try again",
                busy.broker
            );
            return Err(Refusal::new(ErrorCode::ReassignmentInProgress, message));
        }
        Ok(())
    }

    fn nodes_of(&self, brokers: &[BrokerId]) -> Vec<NodeId> {
        brokers.iter().filter_map(|id| self.brokers.get(id)).map(Broker::node).collect()
    }

    pub(super) fn shown(&self, group: GroupId) -> String {
        match self.topics.get(&group.topic) {
            Some(topic) => format!("{}/{}", topic.name, group.partition),
            None => group.to_string(),
        }
    }
}

impl Partition {
    /// Notes who has to go: whoever may hold a replica and is not in the target.
    fn leave(&mut self, holders: BTreeSet<NodeId>, target: &[NodeId]) {
        self.leaving.retain(|leaving| !target.contains(&leaving.node));
        for node in holders.into_iter().filter(|node| !target.contains(node)) {
            if self.leaving.iter().all(|leaving| leaving.node != node) {
                self.leaving.push(Leaving { node, released: false });
            }
        }
        self.leaving.sort_unstable_by_key(|leaving| leaving.node);
    }
}
