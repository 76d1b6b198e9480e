//! What the leader of a coordinator does by itself, on a clock: it expires members that are silent or
//! give up too slowly, and tells the groups when their topics change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tidelog_raft::{CommandError, Coordinator};
use tidelog_state::group::{Command, Group, Member};
use tidelog_state::metadata::{Machine, TopicState};
use tidelog_types::{GroupId, GroupName, MemberId, TopicId};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use super::{Led, resolve};
use crate::cluster::Cluster;
use crate::core::Core;

/// How often everything is looked at. Smaller: work. Larger: silent members stay longer, and new topics
/// are taken up later.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A sleep so much longer than it should be: this process was stopped or starved, and has not read what
/// members sent it.
const STOOD_STILL: Duration = Duration::from_millis(900);

/// How long a proposal may take before the next look proposes it again.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the metadata may take to catch up before a new leader looks at the topics.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// Commands that are under way at a time, of one coordinator.
const AT_A_TIME: usize = 64;

/// Keeps the groups of all coordinators that this broker leads, until the node stops.
pub(crate) async fn keep(core: Arc<Core>, cluster: Arc<Cluster>) {
    let mut resolved: BTreeMap<GroupId, Seen> = BTreeMap::new();
    loop {
        let slept = Instant::now();
        sleep(LOOK_EVERY).await;
        if slept.elapsed() > STOOD_STILL {
            core.sessions.begin_anew();
        }
        let led = cluster.led_coordinators();
        let is_led = |id: &GroupId| led.iter().any(|led| led.coordinator.id() == *id);
        core.sessions.keep(is_led);
        resolved.retain(|id, _| is_led(id));
        let looks = led.iter().map(|led| {
            let seen = resolved.get(&led.coordinator.id()).cloned();
            async { (led.coordinator.id(), look(&core, led, seen).await) }
        });
        for (id, seen) in join_all(looks).await {
            match seen {
                Some(seen) => drop(resolved.insert(id, seen)),
                None => drop(resolved.remove(&id)),
            }
        }
    }
}

/// What a coordinator's groups were last compared with.
#[derive(Clone)]
struct Seen {
    machine: Arc<Machine>,
    /// Of the coordinator's changes: a member that joined may have brought topics.
    changes: u64,
}

/// Looks at one coordinator; gives what its groups are known to follow.
async fn look(core: &Core, led: &Led, seen: Option<Seen>) -> Option<Seen> {
    let (id, term) = (led.coordinator.id(), led.leadership.term);
    let new = core.sessions.lead(id, term);
    let changes = *led.coordinator.changes().borrow();
    let groups = led.coordinator.groups();
    let mut commands = overdue(core, id, &groups);

    // A broker that was away may know less of the topics than the groups do: what it does not know must
    // not look deleted.
    if new || seen.is_none() || !core.sessions.has_caught_up(id, term) {
        if led.cluster.catch_up(Instant::now() + CATCH_UP_TIMEOUT).await.is_err() {
            return None;
        }
        core.sessions.catch_up(id, term);
    }
    let machine = led.cluster.machine();
    let same = |seen: Seen| Arc::ptr_eq(&seen.machine, &machine) && seen.changes == changes;
    let follow = !seen.is_some_and(same);
    if follow {
        commands
            .extend(groups.iter().flat_map(|(name, group)| topics_changed(&machine, name, group)));
    }
    core.sessions.retain(id, |group, member| {
        let known = led.coordinator.group(group.as_str());
        known.is_some_and(|known| known.member(member.as_str()).is_some())
    });
    let mut all = true;
    for commands in commands.chunks(AT_A_TIME) {
        let proposed = commands.iter().map(|command| propose(&led.coordinator, command));
        all &= join_all(proposed).await.into_iter().all(|done| done);
    }
    (all || !follow).then_some(Seen { machine, changes })
}

/// Members whose time is over.
fn overdue(core: &Core, id: GroupId, groups: &[(GroupName, Arc<Group>)]) -> Vec<Command> {
    let now = core.env.node.clock.now();
    let slow = |member: &Member| {
        let since = member.revoking_since.map(|since| now.0.saturating_sub(since.0));
        since.is_some_and(|ms| ms > member.rebalance_timeout.as_millis() as i64)
    };
    let silent = |group: &GroupName, name: &MemberId, member: &Member| {
        core.sessions.silence(id, group, name) > member.session_timeout
    };
    let mut commands = Vec::new();
    for (name, group) in groups {
        for (member_id, member) in group.members() {
            let (silent, slow) = (silent(name, member_id, member), slow(member));
            if silent || slow {
                info!(group = %name, member = %member_id, silent, slow, "expiring a member");
                let (group, member_id) = (name.clone(), member_id.clone());
                let revision = member.revision;
                commands.push(Command::Expire { group, member: member_id, revision });
            }
        }
    }
    commands
}

/// What a group has to hear of the topics.
fn topics_changed(machine: &Machine, name: &GroupName, group: &Group) -> Vec<Command> {
    let mut commands = Vec::new();
    let topics = resolve(machine, group.named_topics().into_iter(), group.patterns().into_iter());
    if topics != *group.topics() {
        commands.push(Command::Resolve { group: name.clone(), topics });
    }
    // The metadata is newer than the group, see `look`, and ids are never used again: a topic that it does
    // not know was deleted.
    let deleted =
        |id: &TopicId| machine.topic(*id).is_none_or(|topic| topic.state == TopicState::Deleting);
    let gone = group.offsets().map(|(at, _)| *at).filter(|(topic, _)| deleted(topic));
    let partitions: std::collections::BTreeSet<_> = gone.collect();
    if !partitions.is_empty() {
        commands.push(Command::DeleteOffsets { group: name.clone(), partitions });
    }
    commands
}

/// Whether the command needs no other try.
async fn propose(coordinator: &Coordinator, command: &Command) -> bool {
    match timeout(PROPOSE_TIMEOUT, coordinator.propose(command)).await {
        Ok(Ok(_)) => true,
        // The group changed meanwhile; the next look sees how.
        Ok(Err(CommandError::Refused(refusal))) => {
            debug!(coordinator = %coordinator.id(), err = refusal.message, "a group was not kept");
            true
        }
        Ok(Err(_)) | Err(_) => false,
    }
}
