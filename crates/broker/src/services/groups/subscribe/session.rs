//! One subscription: holds partitions, sends records as far as credit allows, commits what is done.
//!
//! Nothing here waits for the client or for a leader: a client that is slow, or a partition without a
//! leader, must not keep the next sign of life from being sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tidelog_proto::v1::offset_spec::Spec;
use tidelog_proto::v1::subscribe_request::Request as Asked;
use tidelog_proto::v1::subscribe_response::Response as News;
use tidelog_proto::v1::{
    AssignedPartition, Error, HeartbeatResponse, SubscribeAck, SubscribeAssignment, SubscribeOpen,
    SubscribeOpened, SubscribeRecords, SubscribeRequest, SubscribeResponse, TopicPartition,
};
use tidelog_types::{ErrorCode, TopicId};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Status, Streaming};
use tracing::debug;

use super::super::super::{Api, invalid};
use super::Sent;
use super::held::Held;
use super::membership::{Commit, Due, Heartbeat, Kept, Membership, Name};
use super::puller::{Piece, Puller, Read, Source};
use crate::limits;

/// Pause between two commits.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// Pause after a commit that did not let a partition begin, or go; it doubles up to `COMMIT_EVERY`.
const COMMIT_AGAIN: Duration = Duration::from_millis(50);

/// How long the last commits of a partition may take before it is given up, or of the stream.
const FAREWELL: Duration = Duration::from_secs(2);

/// Pieces that wait for the session; each puller has one at most.
const PIECES_MAX: usize = 16;

/// Records of one response.
const RESPONSE_RECORDS_MAX: usize = 500;

/// A partition that is no longer assigned, while what is done of it is committed. Until then it counts
/// as held, so that nobody else begins before that.
#[derive(Debug)]
struct Leaving {
    held: Held,
    until: Instant,
}

/// The task of a subscription.
pub(super) struct Session {
    api: Api,
    membership: Membership,
    start: Spec,
    held: BTreeMap<Name, Held>,
    leaving: BTreeMap<Name, Leaving>,
    /// Where the next partition to send from is looked for: none is starved by the others.
    turn: Option<Name>,
    credit: u32,
    outstanding: usize,
    /// The newest of what the client has to hear besides records; who it is goes first.
    news: Vec<News>,
    responses: mpsc::Sender<Sent>,
    pieces: mpsc::Receiver<Piece>,
    pieces_to: mpsc::Sender<Piece>,
    /// Places of pieces that are read and not sent.
    places: Arc<Semaphore>,
    commit: Option<Commit>,
    commit_due: Instant,
    commit_again: Duration,
    heartbeat: Heartbeat,
    stopping: watch::Receiver<bool>,
}

/// Why the loop comes round.
enum Event {
    Heartbeat(Result<HeartbeatResponse, Error>),
    Asked(Option<Result<SubscribeRequest, Status>>),
    Piece(Piece),
    Committed(Result<Kept, Error>),
    CommitDue,
    /// A partition took too long to commit what was done of it.
    Overdue,
    Room,
    Gone,
    Stopping,
}

impl Session {
    /// A subscription that has not joined yet.
    pub(super) fn new(
        api: Api,
        open: SubscribeOpen,
        start: Spec,
        responses: mpsc::Sender<Sent>,
    ) -> Self {
        let member = TopicId(api.core.env.random_uuid()).to_string();
        let subscription = open.subscription.unwrap_or_default();
        let opened = News::Opened(SubscribeOpened { member_id: member.clone() });
        let membership = Membership::new(api.clone(), open.group_id, member, subscription);
        let (pieces_to, pieces) = mpsc::channel(PIECES_MAX);
        Self {
            stopping: api.core.stopping.subscribe(),
            api,
            heartbeat: membership.heartbeat(None),
            membership,
            start,
            held: BTreeMap::new(),
            leaving: BTreeMap::new(),
            turn: None,
            credit: open.credit_records.min(limits::SUBSCRIBE_CREDIT_MAX),
            outstanding: 0,
            news: vec![opened],
            responses,
            pieces,
            pieces_to,
            places: Arc::new(Semaphore::new(limits::SUBSCRIPTION_PIECES_MAX)),
            commit: None,
            commit_due: Instant::now() + COMMIT_EVERY,
            commit_again: COMMIT_AGAIN,
        }
    }

    /// Joins the group, tells `joined`, and runs until the client is gone, the broker stops or something
    /// fails; then commits and leaves.
    pub(super) async fn run(
        mut self,
        requests: Streaming<SubscribeRequest>,
        joined: oneshot::Sender<Result<(), Error>>,
    ) -> Result<(), Error> {
        // Where nobody waits for the outcome any more, nobody takes responses either: `serve` sees that.
        let ended = match (&mut self.heartbeat).await {
            Ok(first) => {
                self.follow(&first);
                let _ = joined.send(Ok(()));
                self.serve(requests).await
            }
            Err(error) => {
                let refused = !error.retriable;
                let _ = joined.send(Err(error));
                if refused {
                    return Ok(());
                }
                // It may have joined all the same, so it leaves.
                Ok(())
            }
        };
        let due = self.due();
        if !due.is_empty()
            && let Ok(done) = timeout(FAREWELL, self.membership.commit(due)).await
        {
            self.note(done);
        }
        // A time of its own: commits that hang must not keep the others waiting for the partitions.
        match timeout(FAREWELL, self.membership.leave()).await {
            Ok(Ok(())) => {}
            // The session timeout does it.
            Ok(Err(err)) => debug!(%err, member = self.membership.member, "did not leave"),
            Err(_) => debug!(member = self.membership.member, "did not leave in time"),
        }
        ended
    }

    async fn serve(&mut self, mut requests: Streaming<SubscribeRequest>) -> Result<(), Error> {
        loop {
            self.release();
            let full = self.send();
            self.read_ahead();
            match self.next(&mut requests, full).await {
                Event::Gone | Event::Asked(None | Some(Err(_))) => return Ok(()),
                Event::Stopping => {
                    return Err(Error::new(
                        ErrorCode::BrokerNotAvailable,
                        "the broker is stopping",
                    ));
                }
                Event::Room | Event::Overdue => {}
                Event::Heartbeat(response) => self.follow(&response?),
                Event::Asked(Some(Ok(request))) => self.take(request)?,
                Event::Piece(piece) => self.arrive(piece)?,
                Event::CommitDue => {
                    self.commit_due = Instant::now() + COMMIT_EVERY;
                    let due = self.due();
                    self.commit = (!due.is_empty()).then(|| self.membership.commit(due));
                }
                Event::Committed(done) => {
                    self.commit = None;
                    self.note(done);
                }
            }
        }
    }

    async fn next(&mut self, requests: &mut Streaming<SubscribeRequest>, full: bool) -> Event {
        let overdue = self.leaving.values().map(|leaving| leaving.until).min();
        let Self { responses, stopping, commit, commit_due, pieces, heartbeat, .. } = self;
        let committing = commit.is_some();
        let committed = async {
            match commit {
                Some(commit) => commit.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = responses.closed() => Event::Gone,
            // An error says that the broker is gone.
            _ = stopping.wait_for(|stopping| *stopping) => Event::Stopping,
            response = heartbeat => Event::Heartbeat(response),
            asked = requests.next() => Event::Asked(asked),
            done = committed => Event::Committed(done),
            () = sleep_until(*commit_due), if !committing => Event::CommitDue,
            () = sleep_until(overdue.unwrap_or_else(Instant::now)), if overdue.is_some() => {
                Event::Overdue
            }
            // The permit is given back: what is sent is decided anew.
            _ = responses.reserve(), if full => Event::Room,
            Some(piece) = pieces.recv(), if !full => Event::Piece(piece),
        }
    }

    /// Follows the assignment: gives up, takes up, and sends the next heartbeat.
    fn follow(&mut self, response: &HeartbeatResponse) {
        self.membership.heard(response);
        let name = |assigned: &AssignedPartition| (assigned.topic.clone(), assigned.partition);
        let wanted: BTreeMap<Name, &AssignedPartition> =
            response.assignment.iter().map(|assigned| (name(assigned), assigned)).collect();
        let before: Vec<Name> = self.held.keys().cloned().collect();
        let until = Instant::now() + FAREWELL;
        let known = std::mem::take(&mut self.held);
        let known = known.into_iter().map(|(name, held)| (name, Leaving { held, until }));
        // What was leaving may come back before it has gone.
        for (name, was) in known.chain(std::mem::take(&mut self.leaving)).collect::<Vec<_>>() {
            match wanted.get(&name) {
                Some(assigned) if was.held.is(assigned) => {
                    self.held.insert(name, was.held);
                }
                // Under another grant; what was done under this one cannot be committed any more.
                Some(_) => {}
                None => {
                    self.leaving.insert(name, was);
                }
            }
        }
        for (name, assigned) in wanted {
            if !self.held.contains_key(&name) {
                self.take_up(name, assigned);
            }
        }
        if !self.leaving.is_empty() {
            self.commit_due = Instant::now();
        }
        self.outstanding = self.held.values().map(Held::outstanding).sum();
        if !before.iter().eq(self.held.keys()) {
            let named = self.held.keys().cloned();
            let partitions =
                named.map(|(topic, partition)| TopicPartition { topic, partition }).collect();
            self.news.retain(|news| !matches!(news, News::Assignment(_)));
            self.news.push(News::Assignment(SubscribeAssignment { partitions }));
        }
        self.beat();
    }

    /// Sends a sign of life; what is leaving is still held.
    fn beat(&mut self) {
        let held: BTreeSet<Name> = self.held.keys().chain(self.leaving.keys()).cloned().collect();
        self.heartbeat = self.membership.heartbeat(Some(&held));
    }

    /// Lets partitions go of which all that is done is committed, or whose time is over: what is not
    /// committed comes again, to whoever holds the partition next. The coordinator hears at once.
    fn release(&mut self) {
        let (before, now) = (self.leaving.len(), Instant::now());
        self.leaving.retain(|_, leaving| leaving.held.due().is_some() && now < leaving.until);
        if self.leaving.len() < before {
            self.beat();
        }
    }

    fn take_up(&mut self, name: Name, assigned: &AssignedPartition) {
        let committed = assigned.committed.as_ref().map(|committed| committed.offset);
        let source = Source {
            api: self.api.clone(),
            partition: name.clone(),
            topic_id: assigned.topic_id.clone(),
            granted: assigned.granted_epoch,
            start: committed.map_or(self.start, Spec::Offset),
            places: Arc::clone(&self.places),
        };
        let puller = Puller::start(source, self.pieces_to.clone());
        self.held.insert(name, Held::new(assigned, puller));
    }

    /// A partition that is held or leaving.
    fn find(&mut self, name: &Name) -> Option<&mut Held> {
        let leaving = self.leaving.get_mut(name).map(|leaving| &mut leaving.held);
        self.held.get_mut(name).or(leaving)
    }

    // The client.

    fn take(&mut self, request: SubscribeRequest) -> Result<(), Error> {
        match request.request {
            Some(Asked::Credit(credit)) => {
                let credit = self.credit.saturating_add(credit.records);
                self.credit = credit.min(limits::SUBSCRIBE_CREDIT_MAX);
                Ok(())
            }
            Some(Asked::Ack(SubscribeAck { topic, partition, offsets })) => {
                if let Some(held) = self.held.get_mut(&(topic, partition)) {
                    self.outstanding -= held.acknowledge(&offsets);
                }
                Ok(())
            }
            Some(Asked::Open(_)) => Err(invalid("a subscription is opened once")),
            None => Err(invalid("a request of a subscription grants credit or acknowledges")),
        }
    }

    /// Sends what credit and HTTP/2 allow, one response of each partition in turn. Tells whether more
    /// could be sent if HTTP/2 had room.
    fn send(&mut self) -> bool {
        loop {
            let Ok(permit) = self.responses.try_reserve() else {
                return !self.news.is_empty() || self.next_to_send().is_some();
            };
            let (news, loan) = if self.news.is_empty() {
                let Some((name, most)) = self.next_to_send() else { return false };
                let held = self.held.get_mut(&name).expect("it was just found");
                let (records, bytes) = held.send(most, limits::SUBSCRIBE_PIECE_BYTES_MAX);
                let budget = &self.api.core.counters.subscribe_bytes.0;
                let loan = budget.take_some(bytes, bytes);
                self.credit -= records.len() as u32;
                self.outstanding += records.len();
                let (topic, partition) = name.clone();
                self.turn = Some(name);
                (News::Records(SubscribeRecords { topic, partition, records }), Some(loan))
            } else {
                (self.news.remove(0), None)
            };
            permit.send((Ok(SubscribeResponse { response: Some(news) }), loan));
        }
    }

    /// The next partition that has something to send, and how many records it may send.
    fn next_to_send(&self) -> Option<(Name, usize)> {
        let most = self.may_send();
        if most == 0 {
            return None;
        }
        let has = |(_, held): &(&Name, &Held)| held.can_send();
        let after = self.turn.as_ref().and_then(|turn| {
            let behind = (std::ops::Bound::Excluded(turn), std::ops::Bound::Unbounded);
            self.held.range::<Name, _>(behind).find(has)
        });
        after.or_else(|| self.held.iter().find(has)).map(|(name, _)| (name.clone(), most))
    }

    /// How many records the next response may have.
    fn may_send(&self) -> usize {
        let room = (limits::SUBSCRIBE_CREDIT_MAX as usize).saturating_sub(self.outstanding);
        (self.credit as usize).min(room).min(RESPONSE_RECORDS_MAX)
    }

    /// Has more read while that can be sent and less than a piece waits: one is read while another is
    /// sent.
    fn read_ahead(&mut self) {
        let pending: usize = self.held.values().map(Held::pending_bytes).sum();
        if self.may_send() > 0 && pending < limits::SUBSCRIBE_PIECE_BYTES_MAX {
            self.held.values_mut().for_each(Held::read_ahead);
        }
    }

    fn arrive(&mut self, piece: Piece) -> Result<(), Error> {
        if piece.read.is_err() && self.leaving.remove(&piece.partition).is_some() {
            // No reason to end: it is about to go anyway.
            self.beat();
            return Ok(());
        }
        let held = self.find(&piece.partition);
        // What was read under an earlier grant is nobody's any more.
        let Some(held) = held.filter(|held| held.granted == piece.granted) else { return Ok(()) };
        match piece.read? {
            Read::Begins(offset) => {
                held.begin(offset);
                self.commit_due = Instant::now();
            }
            Read::Records(records, room) => held.arrive(records, room),
        }
        Ok(())
    }

    // Commits.

    fn due(&self) -> Vec<Due> {
        let leaving = self.leaving.iter().map(|(name, leaving)| (name, &leaving.held));
        let due = |(name, held): (&Name, &Held)| {
            Some(Due {
                name: name.clone(),
                topic_id: held.topic_id.clone(),
                granted: held.granted,
                offset: held.due()?,
            })
        };
        self.held.iter().chain(leaving).filter_map(due).collect()
    }

    fn note(&mut self, done: Result<Kept, Error>) {
        match done {
            Ok(kept) => {
                for (due, offset) in kept {
                    if let (Some(held), Some(offset)) = (self.find(&due.name), offset) {
                        held.commit(due.granted, offset);
                    }
                }
            }
            // The next one says it again.
            Err(err) => debug!(%err, member = self.membership.member, "commit failed"),
        }
        let leaves = |leaving: &Leaving| leaving.held.due().is_some();
        if self.held.values().any(Held::waits_for_commit) || self.leaving.values().any(leaves) {
            self.commit_due = self.commit_due.min(Instant::now() + self.commit_again);
            self.commit_again = (self.commit_again * 2).min(COMMIT_EVERY);
        } else {
            self.commit_again = COMMIT_AGAIN;
        }
    }
}
