//! The beats of a node: one message to each other node for all groups that sleep under this one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidelog_proto::v1;
use tidelog_proto::v1::raft_request::Body as Ask;
use tidelog_proto::v1::raft_response::Body as Answer;
use tidelog_types::{NodeId, Term};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::Shared;
use crate::replica::Member;

/// Pause between two beats.
const BEAT_EVERY: Duration = Duration::from_millis(500);

/// How long an answer is waited for before the next beat goes out to the same node.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// One beat on its way.
struct Sent {
    node: NodeId,
    at: Instant,
    /// What it names, in its order.
    groups: Vec<(Arc<dyn Member>, Term)>,
    /// Places of the groups that do not sleep there; `None` when nothing was answered in time.
    awake: Option<Vec<u32>>,
}

/// Sends beats for as long as the node runs.
pub(super) async fn beat(shared: Arc<Shared>) {
    let mut ticks = interval(BEAT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent: JoinSet<Sent> = JoinSet::new();
    let mut waiting = BTreeSet::new();
    loop {
        tokio::select! {
            biased;
            Some(answered) = sent.join_next() => {
                let answered = answered.expect("nothing in it panics");
                waiting.remove(&answered.node);
                take(&shared, answered);
            }
            _ = ticks.tick() => {
                for (node, groups) in due(&shared) {
                    if waiting.insert(node) {
                        sent.spawn(send(Arc::clone(&shared), node, groups));
                    }
                }
            }
        }
    }
}

type Due = Vec<(Arc<dyn Member>, v1::SleepingGroup)>;

/// What each other node is to be told.
fn due(shared: &Shared) -> BTreeMap<NodeId, Due> {
    let after = shared.config.sleep_after;
    let said = shared.peers.taking_beats();
    let who = |takes| said.iter().filter(move |(_, says)| **says == takes).map(|(node, _)| *node);
    let (able, unable): (BTreeSet<_>, BTreeSet<_>) = (who(true).collect(), who(false).collect());
    let mut beats: BTreeMap<NodeId, Due> = BTreeMap::new();
    for (group, hosted) in shared.groups().iter() {
        let Some(led) = hosted.member.rest(after, &able) else { continue };
        if led.others.iter().any(|node| unable.contains(node)) {
            // It came back as a version that does not know beats, and is to hear of its leader.
            hosted.member.wake();
            continue;
        }
        let group = bytes::Bytes::from(group.to_bytes().to_vec());
        for node in led.others.iter().filter(|node| able.contains(node)) {
            let (group, term, last) = (group.clone(), led.term.0, led.last.0);
            let told = (Arc::clone(&hosted.member), v1::SleepingGroup { group, term, last });
            beats.entry(*node).or_default().push(told);
        }
    }
    beats
}

async fn send(shared: Arc<Shared>, node: NodeId, due: Due) -> Sent {
    let at = Instant::now();
    let (mut groups, mut told) = (Vec::new(), Vec::new());
    for (member, group) in due {
        groups.push((member, Term(group.term)));
        told.push(group);
    }
    let answer = async {
        let control = shared.peers.get(node).connection()?.control;
        let beat = control.call(Vec::new(), Ask::Beat(v1::Beat { groups: told }));
        let answer = timeout(ANSWER_PATIENCE, beat).await.ok()?.ok()?;
        let Some(Answer::Beat(reply)) = answer.body else { return None };
        Some(reply.awake)
    };
    Sent { node, at, groups, awake: answer.await }
}

fn take(shared: &Shared, sent: Sent) {
    let Some(awake) = sent.awake else { return };
    // Before the answer counts: of these groups it confirms nothing.
    for place in &awake {
        if let Some((member, _)) = sent.groups.get(*place as usize) {
            member.wake();
        }
    }
    shared.answered.note(sent.node, sent.at);
    let awake: BTreeSet<u32> = awake.into_iter().collect();
    let agreed = (0..).zip(sent.groups).filter(|(place, _)| !awake.contains(place));
    agreed.for_each(|(_, (member, term))| member.agreed(term, sent.node, sent.at));
}
