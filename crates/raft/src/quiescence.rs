//! Whether a group sleeps: nothing goes back and forth in it as long as nothing happens.
//!
//! An awake group costs heartbeats and timers, whether anybody writes to it or not. Once a leader has had
//! nothing to say for a while, and every member has what it has, it stops its timers and offers sleep to the
//! others; if all agree the group sleeps. From then on one message between two nodes, the beat, names all
//! sleeping groups that the one leads and the other follows in. It stands for their heartbeats: the leader
//! counts as confirmed while a quorum answers, and a follower that hears nothing of it wakes and stands for
//! election as ever. Whatever happens in a group wakes it, on each node by itself: a proposal, a message
//! from another member, a death. Who does not sleep says so in its answer to the beat, and the leader wakes.
//!
//! None of this decides anything: votes, logs and commits are the engine's, awake or not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tidelog_types::{LogIndex, NodeId, Term};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

/// Age of a quorum's answers at which a sleeping leader wakes, to find out who leads. Less than the silence
/// after which a leader does not serve any more.
const CONFIRMED_MAX: Duration = Duration::from_millis(1_500);

/// Silence of its leader at which a sleeping follower wakes.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// How long the others may take to agree to sleep: less than the pause between two beats, for nobody sends
/// heartbeats meanwhile.
const OFFER_PATIENCE: Duration = Duration::from_millis(400);

/// When each other node answered a beat last, by when that was sent.
#[derive(Debug, Default)]
pub(crate) struct Answered(RwLock<BTreeMap<NodeId, Instant>>);

impl Answered {
    /// `node` answered the beat that was sent at `sent`.
    pub(crate) fn note(&self, node: NodeId, sent: Instant) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(node, sent);
    }

    /// When the newest beat was sent that `node` has answered.
    pub(crate) fn last(&self, node: NodeId) -> Option<Instant> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&node).copied()
    }
}

/// What a leader knows of its group when it has nothing more to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Led {
    /// Its term.
    pub(crate) term: Term,
    /// Its last entry, which all members have.
    pub(crate) last: LogIndex,
    /// All other members.
    pub(crate) others: Arc<[NodeId]>,
    /// Those of them that vote.
    pub(crate) voters: Arc<[NodeId]>,
}

impl Led {
    /// The time up to which a quorum is known to have followed: `None` while too few have answered.
    fn confirmed(&self, answered: &Answered, now: Instant) -> Option<Instant> {
        // The leader itself is the one that is missing to a majority.
        let needed = self.voters.len().div_ceil(2);
        let mut times: Vec<_> =
            self.voters.iter().filter_map(|voter| answered.last(*voter)).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        if needed == 0 { Some(now) } else { times.get(needed - 1).copied() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Timers run.
    Awake {
        /// Whether a leader's lease has been renewed since it woke.
        settled: bool,
        /// When a quorum was known to follow as it woke.
        confirmed: Option<Instant>,
    },
    /// Leads, and waits for the others to agree.
    Offering { led: Led, since: Instant, open: BTreeSet<NodeId> },
    /// Leads, and all agreed.
    Leading { led: Led },
    /// Follows.
    Following { leader: NodeId, term: Term, heard: Instant },
}

/// Switches the engine's timers.
type Ticks = Box<dyn Fn(bool) + Send + Sync>;

/// Whether one replica sleeps.
pub(crate) struct Quiescence {
    phase: watch::Sender<Phase>,
    busy: std::sync::Mutex<Instant>,
    answered: Arc<Answered>,
    ticks: Ticks,
    /// Held by who renews the lease of a leader that woke.
    pub(crate) settling: Mutex<()>,
}

impl fmt::Debug for Quiescence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quiescence").field("phase", &*self.phase.borrow()).finish_non_exhaustive()
    }
}

impl Quiescence {
    /// A replica that is awake. `ticks` switches its timers.
    pub(crate) fn new(answered: Arc<Answered>, ticks: Ticks) -> Self {
        Self {
            phase: watch::Sender::new(Phase::Awake { settled: true, confirmed: None }),
            busy: std::sync::Mutex::new(Instant::now()),
            answered,
            ticks,
            settling: Mutex::new(()),
        }
    }

    /// Whether the replica's timers run.
    pub(crate) fn is_awake(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Awake { .. })
    }

    /// Whether it is awake, and a leader has its lease.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Awake { settled: true, .. })
    }

    /// Tells when it falls asleep or wakes.
    pub(crate) fn changes(&self) -> Changes {
        Changes(self.phase.subscribe())
    }

    /// Something happened: it does not fall asleep for a while.
    pub(crate) fn touch(&self) {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// For how long nothing has happened.
    pub(crate) fn idle(&self) -> Duration {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Something happens: wakes it. Says whether it slept.
    pub(crate) fn wake(&self) -> bool {
        if self.is_awake() {
            return false;
        }
        self.touch();
        self.phase.send_if_modified(|phase| {
            let confirmed = match phase {
                Phase::Awake { .. } => return false,
                Phase::Leading { led } => led.confirmed(&self.answered, Instant::now()),
                Phase::Offering { .. } | Phase::Following { .. } => None,
            };
            *phase = Phase::Awake { settled: false, confirmed };
            // Under the lock, so that the timers do as the phase says.
            (self.ticks)(true);
            true
        })
    }

    /// A leader that woke has its lease again.
    pub(crate) fn settle(&self) {
        self.phase.send_if_modified(|phase| {
            if let Phase::Awake { settled, .. } = phase {
                *settled = true;
            }
            false
        });
    }

    /// A leader with nothing more to say stops its timers and asks the others.
    pub(crate) fn offer(&self, led: Led) {
        self.phase.send_if_modified(|phase| {
            if !matches!(phase, Phase::Awake { settled: true, .. }) {
                return false;
            }
            let open: BTreeSet<NodeId> = led.others.iter().copied().collect();
            *phase = match open.is_empty() {
                true => Phase::Leading { led },
                false => Phase::Offering { led, since: Instant::now(), open },
            };
            (self.ticks)(false);
            true
        });
    }

    /// `node` agrees to sleep under this leader of `term`, as it was asked at `sent`: an answer to an earlier
    /// offer says nothing.
    pub(crate) fn agreed(&self, term: Term, node: NodeId, sent: Instant) {
        self.phase.send_if_modified(|phase| {
            let Phase::Offering { led, since, open } = phase else { return false };
            if led.term != term || sent < *since {
                return false;
            }
            open.remove(&node);
            if !open.is_empty() {
                return false;
            }
            *phase = Phase::Leading { led: led.clone() };
            true
        });
    }

    /// What a leader has to tell in the next beat, if it sleeps or wants to. Wakes who has waited in vain.
    pub(crate) fn told(&self) -> Option<Led> {
        let now = Instant::now();
        let (led, in_vain) = match &*self.phase.borrow() {
            Phase::Awake { .. } => return None,
            Phase::Offering { led, since, .. } => {
                (Some(led.clone()), now.duration_since(*since) > OFFER_PATIENCE)
            }
            Phase::Leading { led } => {
                let confirmed = led.confirmed(&self.answered, now);
                let is_recent = confirmed.is_some_and(|at| now.duration_since(at) <= CONFIRMED_MAX);
                (Some(led.clone()), !is_recent)
            }
            Phase::Following { heard, .. } => (None, now.duration_since(*heard) > SILENCE_MAX),
        };
        if in_vain {
            self.wake();
            return None;
        }
        led
    }

    /// Sleeps under `leader`, or sleeps on, and says whether it does. `may` looks whether a replica that is
    /// awake has all that its leader has.
    pub(crate) fn follow(&self, leader: NodeId, term: Term, may: impl FnOnce() -> bool) -> bool {
        let mut sleeps = false;
        self.phase.send_if_modified(|phase| match phase {
            Phase::Following { leader: known, term: since, heard } => {
                sleeps = *known == leader && *since == term;
                if sleeps {
                    *heard = Instant::now();
                }
                false
            }
            Phase::Awake { .. } if may() => {
                sleeps = true;
                *phase = Phase::Following { leader, term, heard: Instant::now() };
                (self.ticks)(false);
                true
            }
            Phase::Awake { .. } | Phase::Offering { .. } | Phase::Leading { .. } => false,
        });
        sleeps
    }

    /// Until when a quorum was known to follow this leader by answering beats; `None` if it is not by these.
    pub(crate) fn confirmed(&self) -> Option<Instant> {
        match &*self.phase.borrow() {
            Phase::Awake { confirmed, .. } => *confirmed,
            Phase::Leading { led } => led.confirmed(&self.answered, Instant::now()),
            Phase::Offering { .. } | Phase::Following { .. } => None,
        }
    }

    /// When each other member of a sleeping group answered last; `None` when the engine's heartbeats tell.
    pub(crate) fn silent(&self) -> Option<BTreeMap<NodeId, Duration>> {
        let others = match &*self.phase.borrow() {
            Phase::Leading { led } => Arc::clone(&led.others),
            _ => return None,
        };
        let silent = |node: &NodeId| self.answered.last(*node).map(|at| (*node, at.elapsed()));
        Some(others.iter().filter_map(silent).collect())
    }

    /// Whether it sleeps under a leader that was heard of just now, so that nobody else is to be elected.
    pub(crate) fn is_led(&self) -> bool {
        match &*self.phase.borrow() {
            Phase::Awake { .. } => false,
            Phase::Offering { .. } | Phase::Leading { .. } => true,
            Phase::Following { heard, .. } => heard.elapsed() < CONFIRMED_MAX,
        }
    }
}

/// Tells when a replica falls asleep or wakes.
#[derive(Debug)]
pub(crate) struct Changes(watch::Receiver<Phase>);

impl Changes {
    /// Completes with the next change; pending for ever once the replica is gone. Cancel safe.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::time::advance;

    use super::*;

    struct Replica {
        quiescence: Quiescence,
        answered: Arc<Answered>,
        ticks: Arc<AtomicBool>,
    }

    impl Replica {
        fn new() -> Self {
            let answered = Arc::<Answered>::default();
            let ticks = Arc::new(AtomicBool::new(true));
            let switch = Arc::clone(&ticks);
            let switch = Box::new(move |on| switch.store(on, Ordering::Relaxed));
            let quiescence = Quiescence::new(Arc::clone(&answered), switch);
            Self { quiescence, answered, ticks }
        }

        /// Timers run exactly while it is awake.
        fn is_awake(&self) -> bool {
            let awake = self.quiescence.is_awake();
            assert_eq!(self.ticks.load(Ordering::Relaxed), awake);
            awake
        }

        fn agree(&self, brokers: &[u32]) {
            for broker in brokers {
                self.answered.note(node(*broker), Instant::now());
                self.quiescence.agreed(TERM, node(*broker), Instant::now());
            }
        }
    }

    const TERM: Term = Term(3);
    const MOMENT: Duration = Duration::from_millis(100);

    fn node(broker: u32) -> NodeId {
        NodeId::new(broker, 1)
    }

    /// Led with two voters and a learner beside this node.
    fn led() -> Led {
        let nodes = |brokers: &[u32]| brokers.iter().map(|broker| node(*broker)).collect();
        Led { term: TERM, last: LogIndex(9), others: nodes(&[2, 3, 4]), voters: nodes(&[2, 3]) }
    }

    fn asleep() -> Replica {
        let replica = Replica::new();
        replica.quiescence.offer(led());
        replica.agree(&[2, 3, 4]);
        assert!(!replica.is_awake());
        replica
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_sleeps_only_once_every_member_agrees() {
        let replica = Replica::new();
        replica.quiescence.offer(led());
        replica.agree(&[2, 3]);
        assert_eq!(replica.quiescence.told(), Some(led()));
        advance(OFFER_PATIENCE + MOMENT).await;
        assert_eq!(replica.quiescence.told(), None);
        assert!(replica.is_awake());
        // Who has woken offers again once its lease is renewed.
        replica.quiescence.offer(led());
        assert!(replica.is_awake());
        replica.quiescence.settle();
        replica.quiescence.offer(led());
        assert!(!replica.is_awake());
    }

    #[tokio::test(start_paused = true)]
    async fn agreement_with_an_earlier_offer_counts_for_nothing() {
        let (replica, before) = (Replica::new(), Instant::now());
        advance(MOMENT).await;
        replica.quiescence.offer(led());
        for broker in 2..=4 {
            replica.quiescence.agreed(Term(2), node(broker), Instant::now());
            replica.quiescence.agreed(TERM, node(broker), before);
        }
        advance(OFFER_PATIENCE + MOMENT).await;
        assert_eq!(replica.quiescence.told(), None);
        assert!(replica.is_awake());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_sleeps_on_while_a_quorum_answers() {
        let replica = asleep();
        for _ in 0..5 {
            advance(CONFIRMED_MAX - MOMENT).await;
            replica.answered.note(node(3), Instant::now());
            assert_eq!(replica.quiescence.told(), Some(led()));
            assert_eq!(replica.quiescence.confirmed(), Some(Instant::now()));
        }
        // A learner is no part of it.
        advance(CONFIRMED_MAX + MOMENT).await;
        replica.answered.note(node(4), Instant::now());
        let confirmed = replica.quiescence.confirmed().unwrap();
        assert_eq!(replica.quiescence.told(), None);
        assert!(replica.is_awake());
        assert!(!replica.quiescence.is_settled());
        assert_eq!(replica.quiescence.confirmed(), Some(confirmed), "as it was when it woke");
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_sleeps_under_one_leader_and_wakes_when_that_is_silent() {
        let replica = Replica::new();
        assert!(!replica.quiescence.follow(node(2), TERM, || false), "it lacks something");
        assert!(replica.quiescence.follow(node(2), TERM, || true));
        assert!(!replica.is_awake() && replica.quiescence.is_led());
        assert!(!replica.quiescence.follow(node(3), TERM, || true), "another one leads");
        assert!(!replica.quiescence.follow(node(2), Term(4), || true), "in another term");
        advance(SILENCE_MAX).await;
        assert_eq!(replica.quiescence.told(), None);
        assert!(!replica.is_awake() && !replica.quiescence.is_led());
        assert!(replica.quiescence.follow(node(2), TERM, || unreachable!("it sleeps on")));
        advance(SILENCE_MAX + MOMENT).await;
        assert_eq!(replica.quiescence.told(), None);
        assert!(replica.is_awake());
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_of_one_needs_nobody() {
        let replica = Replica::new();
        let none: Arc<[NodeId]> = Arc::from([]);
        let led = Led { others: Arc::clone(&none), voters: none, ..led() };
        replica.quiescence.offer(led.clone());
        advance(SILENCE_MAX).await;
        assert_eq!(replica.quiescence.told(), Some(led));
        assert!(!replica.is_awake());
        assert!(replica.quiescence.wake());
        assert!(replica.is_awake() && !replica.quiescence.wake());
    }
}
