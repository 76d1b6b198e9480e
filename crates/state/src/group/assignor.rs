//! Who should hold which partition: sticky, and balanced by the number of partitions.
//!
//! 1. Everybody keeps what he holds, as far as he subscribes to it.
//! 2. What nobody holds goes to the member with the fewest partitions; the topics with the fewest
//!    subscribers come first, for theirs have the least choice.
//! 3. As long as a partition can go from a member to one that has two fewer, it does: from the member
//!    that has most, to the one that has least.
//!
//! With equal subscriptions each step of 3 takes from a member above its quota and gives to one below,
//! so nobody gives up more than `max(0, held - quota)`. What is balanced stays as it is. Among
//! partitions that may move it is one of a topic that the giver has most of, compared with the taker, so
//! that each topic is spread as well.
//!
//! Members with equal subscriptions form a *class*; the work grows with the number of classes, not with
//! members times topics.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use tidelog_types::{MemberId, PartitionId, TopicId};

use super::Partition;

/// How many topics of a giver are compared, to choose the one to give from.
const TOPICS_COMPARED: usize = 32;

/// How many members with equally few partitions are compared, to choose the one to give to.
const MEMBERS_COMPARED: usize = 64;

/// Who should hold which partition.
///
/// `members` says which topics each member subscribes to, `partitions` how many partitions each topic
/// has, `held` who holds what now. Each partition that has a subscriber gets one. What is held by a
/// member that is not there or does not subscribe to it counts as held by nobody.
#[must_use]
pub fn assign(
    members: &BTreeMap<MemberId, BTreeSet<TopicId>>,
    partitions: &BTreeMap<TopicId, u32>,
    held: &BTreeMap<Partition, MemberId>,
) -> BTreeMap<Partition, MemberId> {
    let mut assignment = Assignment::new(members, partitions);
    let free = assignment.keep(members, partitions, held);
    assignment.give_out(free);
    assignment.balance();
    assignment.finish(members)
}

/// An assignment in the making. Topics, members and classes are numbered in the order of their ids.
struct Assignment {
    topics: Vec<Topic>,
    classes: Vec<Class>,
    members: Vec<Load>,
}

struct Topic {
    id: TopicId,
    /// Classes that subscribe to it.
    classes: Vec<usize>,
    subscribers: usize,
}

/// Members with equal subscriptions.
struct Class {
    topics: BTreeSet<usize>,
    /// Its members with the number of their partitions, the fewest first.
    by_load: BTreeSet<(usize, usize)>,
}

/// What a member has.
#[derive(Default)]
struct Load {
    class: usize,
    total: usize,
    partitions: BTreeMap<usize, Vec<u32>>,
    /// Its topics with the number of their partitions, the most last.
    by_count: BTreeSet<(usize, usize)>,
}

impl Load {
    fn count(&self, topic: usize) -> usize {
        self.partitions.get(&topic).map_or(0, Vec::len)
    }
}

impl Assignment {
    fn new(
        members: &BTreeMap<MemberId, BTreeSet<TopicId>>,
        partitions: &BTreeMap<TopicId, u32>,
    ) -> Self {
        let new_topic = |id: &TopicId| Topic { id: *id, classes: Vec::new(), subscribers: 0 };
        let mut topics: Vec<Topic> = partitions.keys().map(new_topic).collect();
        let mut classes: Vec<Class> = Vec::new();
        let mut numbers: BTreeMap<&BTreeSet<TopicId>, usize> = BTreeMap::new();
        let mut loads = Vec::with_capacity(members.len());
        for subscribed in members.values() {
            let class = *numbers.entry(subscribed).or_insert_with(|| {
                let number = |id| topics.binary_search_by_key(id, |topic| topic.id).ok();
                let subscribed: BTreeSet<usize> = subscribed.iter().filter_map(number).collect();
                subscribed.iter().for_each(|topic| topics[*topic].classes.push(classes.len()));
                classes.push(Class { topics: subscribed, by_load: BTreeSet::new() });
                classes.len() - 1
            });
            classes[class].by_load.insert((0, loads.len()));
            loads.push(Load { class, ..Load::default() });
        }
        for topic in &mut topics {
            topic.subscribers =
                topic.classes.iter().map(|class| classes[*class].by_load.len()).sum();
        }
        Self { topics, classes, members: loads }
    }

    /// Lets everybody keep what is his. Tells which partitions are free and wanted.
    fn keep(
        &mut self,
        members: &BTreeMap<MemberId, BTreeSet<TopicId>>,
        partitions: &BTreeMap<TopicId, u32>,
        held: &BTreeMap<Partition, MemberId>,
    ) -> Vec<(usize, u32)> {
        let numbers: BTreeMap<&MemberId, usize> = members.keys().zip(0..).collect();
        let mut free = Vec::new();
        for (topic, count) in partitions.values().enumerate() {
            if self.topics[topic].subscribers == 0 {
                continue;
            }
            for partition in 0..*count {
                let holder = held.get(&(self.topics[topic].id, PartitionId(partition)));
                match holder.and_then(|holder| numbers.get(holder)) {
                    Some(holder) if self.subscribes(*holder, topic) => {
                        self.give(*holder, topic, partition);
                    }
                    _ => free.push((topic, partition)),
                }
            }
        }
        free
    }

    fn give_out(&mut self, mut free: Vec<(usize, u32)>) {
        free.sort_by_key(|(topic, partition)| {
            (self.topics[*topic].subscribers, *topic, *partition)
        });
        for (topic, partition) in free {
            let classes = self.topics[topic].classes.iter().map(|class| &self.classes[*class]);
            let least = classes.clone().filter_map(Class::load_min).min();
            let with_least = classes.flat_map(|class| {
                let ascending = class.by_load.iter();
                ascending.take_while(|(load, _)| Some(*load) == least).map(|(_, member)| *member)
            });
            let taker = with_least
                .take(MEMBERS_COMPARED)
                .min_by_key(|member| (self.members[*member].count(topic), *member));
            self.give(taker.expect("free partitions have a subscriber"), topic, partition);
        }
    }

    /// Ends when no partition can go to a member that has two fewer. Each move lowers the sum of the
    /// squares of the loads, so that it does end.
    fn balance(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            let mut givers: BTreeSet<(usize, usize)> =
                self.members.iter().enumerate().map(|(n, member)| (member.total, n)).collect();
            while let Some((load, giver)) = givers.pop_last() {
                if givers.first().is_none_or(|(least, _)| *least + 2 > load) {
                    break;
                }
                let Some((taker, topic)) = self.find_move(giver) else { continue };
                let partition = self.take(giver, topic);
                givers.remove(&(self.members[taker].total, taker));
                self.give(taker, topic, partition);
                givers.insert((self.members[taker].total, taker));
                givers.insert((self.members[giver].total, giver));
                moved = true;
            }
        }
    }

    /// The member with the fewest partitions that can take one of the giver's and has two fewer, and
    /// the topic to take it from.
    fn find_move(&self, giver: usize) -> Option<(usize, usize)> {
        let limit = self.members[giver].total.checked_sub(2)?;
        let takers = self.classes.iter().enumerate().filter_map(|(number, class)| {
            let (load, member) = *class.by_load.first()?;
            (load <= limit).then_some((load, member, number))
        });
        // Nearly always the first one fits, so that sorting all would be a waste.
        let mut takers: BinaryHeap<_> = takers.map(Reverse).collect();
        while let Some(Reverse((_, taker, class))) = takers.pop() {
            if let Some(topic) = self.find_topic(giver, taker, class) {
                return Some((taker, topic));
            }
        }
        None
    }

    /// The topic of which the giver has most, compared with the taker.
    fn find_topic(&self, giver: usize, taker: usize, class: usize) -> Option<usize> {
        let descending = self.members[giver].by_count.iter().rev();
        let fitting = descending.filter(|(_, topic)| self.classes[class].topics.contains(topic));
        let surplus = |topic| {
            let count = |member: usize| self.members[member].count(topic) as isize;
            count(giver) - count(taker)
        };
        fitting
            .take(TOPICS_COMPARED)
            .map(|(_, topic)| *topic)
            .max_by_key(|topic| (surplus(*topic), Reverse(*topic)))
    }

    fn subscribes(&self, member: usize, topic: usize) -> bool {
        self.classes[self.members[member].class].topics.contains(&topic)
    }

    fn give(&mut self, member: usize, topic: usize, partition: u32) {
        let load = &mut self.members[member];
        let by_load = &mut self.classes[load.class].by_load;
        by_load.remove(&(load.total, member));
        load.total += 1;
        by_load.insert((load.total, member));

        let partitions = load.partitions.entry(topic).or_default();
        load.by_count.remove(&(partitions.len(), topic));
        partitions.push(partition);
        load.by_count.insert((partitions.len(), topic));
    }

    fn take(&mut self, member: usize, topic: usize) -> u32 {
        let load = &mut self.members[member];
        let by_load = &mut self.classes[load.class].by_load;
        by_load.remove(&(load.total, member));
        load.total -= 1;
        by_load.insert((load.total, member));

        let partitions = load.partitions.get_mut(&topic).expect("the giver has some of the topic");
        load.by_count.remove(&(partitions.len(), topic));
        let partition = partitions.pop().expect("the giver has some of the topic");
        if !partitions.is_empty() {
            load.by_count.insert((partitions.len(), topic));
        }
        partition
    }

    fn finish(
        self,
        members: &BTreeMap<MemberId, BTreeSet<TopicId>>,
    ) -> BTreeMap<Partition, MemberId> {
        let mut pairs = Vec::new();
        for (id, load) in members.keys().zip(&self.members) {
            for (topic, partitions) in &load.partitions {
                let topic = self.topics[*topic].id;
                let partitions = partitions.iter();
                pairs.extend(partitions.map(|number| ((topic, PartitionId(*number)), id.clone())));
            }
        }
        pairs.into_iter().collect()
    }
}

impl Class {
    fn load_min(&self) -> Option<usize> {
        self.by_load.first().map(|(load, _)| *load)
    }
}
