//! One subscription: holds partitions, sends records as far as credit allows, commits what is done.
//!
//! Nothing here waits for the client or for a leader: a client that is slow, or a partition without a
//! leader, must not keep the next sign of life from being sent.

use std::collections::{BTreeMap, BTreeSet};
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
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Status, Streaming};
use tracing::debug;

use super::super::super::{Api, invalid};
use super::held::Held;
use super::membership::{Commit, Heartbeat, Kept, Membership, Name};
use super::puller::{Piece, Puller, Read};
use crate::limits;

/// Pause between two commits.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// Pause after a commit that did not let a partition begin.
const COMMIT_AGAIN: Duration = Duration::from_millis(50);

/// How long the last commits of a partition may take before it is given up, or of the stream.
const FAREWELL: Duration = Duration::from_secs(2);

/// Pieces that wait for the session; each puller has one at most.
const PIECES_MAX: usize = 16;

/// Records of one response.
const RESPONSE_RECORDS_MAX: usize = 500;

type Answer = Result<SubscribeResponse, Status>;

/// The task of a subscription.
pub(super) struct Session {
    api: Api,
    membership: Membership,
    start: Spec,
    held: BTreeMap<Name, Held>,
    /// Where the next partition to send from is looked for: none is starved by the others.
    turn: Option<Name>,
    credit: u32,
    outstanding: usize,
    /// The newest of what the client has to hear besides records; who it is goes first.
    news: Vec<News>,
    responses: mpsc::Sender<Answer>,
    pieces: mpsc::Receiver<Piece>,
    pieces_to: mpsc::Sender<Piece>,
    commit: Option<Commit>,
    commit_due: Instant,
    stopping: watch::Receiver<bool>,
    first: HeartbeatResponse,
}

/// Why the loop comes round.
enum Event {
    Heartbeat(Result<HeartbeatResponse, Error>),
    Asked(Option<Result<SubscribeRequest, Status>>),
    Piece(Piece),
    Committed(Result<Kept, Error>),
    CommitDue,
    Room,
    Gone,
    Stopping,
}

impl Session {
    /// Joins the group.
    pub(super) async fn open(
        api: Api,
        open: SubscribeOpen,
        start: Spec,
        responses: mpsc::Sender<Answer>,
    ) -> Result<Self, Error> {
        let member = TopicId(api.core.env.random_uuid()).to_string();
        let subscription = open.subscription.unwrap_or_default();
        let opened = News::Opened(SubscribeOpened { member_id: member.clone() });
        let membership = Membership::new(api.clone(), open.group_id, member, subscription);
        let first = membership.heartbeat(None).await?;
        let (pieces_to, pieces) = mpsc::channel(PIECES_MAX);
        Ok(Self {
            stopping: api.core.stopping.subscribe(),
            api,
            membership,
            start,
            held: BTreeMap::new(),
            turn: None,
            credit: open.credit_records.min(limits::SUBSCRIBE_CREDIT_MAX),
            outstanding: 0,
            news: vec![opened],
            responses,
            pieces,
            pieces_to,
            commit: None,
            commit_due: Instant::now() + COMMIT_EVERY,
            first,
        })
    }

    /// Runs until the client is gone, the broker stops or something fails; then commits and leaves.
    pub(super) async fn run(mut self, requests: Streaming<SubscribeRequest>) -> Result<(), Error> {
        let ended = self.serve(requests).await;
        let farewell = async {
            self.commit_now(|_| true).await;
            self.membership.leave().await
        };
        match timeout(FAREWELL, farewell).await {
            Ok(Ok(())) => {}
            // The session timeout does it.
            Ok(Err(err)) => debug!(%err, member = self.membership.member, "did not leave"),
            Err(_) => debug!(member = self.membership.member, "did not leave in time"),
        }
        ended
    }

    async fn serve(&mut self, mut requests: Streaming<SubscribeRequest>) -> Result<(), Error> {
        let first = std::mem::take(&mut self.first);
        let mut heartbeat = self.follow(first).await;
        loop {
            let full = self.send();
            match self.next(&mut heartbeat, &mut requests, full).await {
                Event::Gone | Event::Asked(None | Some(Err(_))) => return Ok(()),
                Event::Stopping => {
                    return Err(Error::new(
                        ErrorCode::BrokerNotAvailable,
                        "the broker is stopping",
                    ));
                }
                Event::Room => {}
                Event::Heartbeat(response) => heartbeat = self.follow(response?).await,
                Event::Asked(Some(Ok(request))) => self.take(request)?,
                Event::Piece(piece) => self.arrive(piece)?,
                Event::CommitDue => {
                    self.commit_due = Instant::now() + COMMIT_EVERY;
                    let due = self.due(|_| true);
                    self.commit = (!due.is_empty()).then(|| self.membership.commit(due));
                }
                Event::Committed(done) => {
                    self.commit = None;
                    self.note(done);
                }
            }
        }
    }

    async fn next(
        &mut self,
        heartbeat: &mut Heartbeat,
        requests: &mut Streaming<SubscribeRequest>,
        full: bool,
    ) -> Event {
        let Self { responses, stopping, commit, commit_due, pieces, .. } = self;
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
            // The permit is given back: what is sent is decided anew.
            _ = responses.reserve(), if full => Event::Room,
            Some(piece) = pieces.recv(), if !full => Event::Piece(piece),
        }
    }

    /// Follows the assignment: gives up, takes up, and gives the next heartbeat.
    async fn follow(&mut self, response: HeartbeatResponse) -> Heartbeat {
        self.membership.heard(&response);
        let name = |assigned: &AssignedPartition| (assigned.topic.clone(), assigned.partition);
        let wanted: BTreeMap<Name, &AssignedPartition> =
            response.assignment.iter().map(|assigned| (name(assigned), assigned)).collect();
        let lost: BTreeSet<Name> =
            self.held.keys().filter(|held| !wanted.contains_key(*held)).cloned().collect();
        if !lost.is_empty() {
            self.commit_now(|name| lost.contains(name)).await;
        }
        let before: Vec<Name> = self.held.keys().cloned().collect();
        let granted = |name: &Name| wanted.get(name).map(|assigned| assigned.granted_epoch);
        self.held.retain(|name, held| granted(name) == Some(held.granted));
        for (name, assigned) in wanted {
            if !self.held.contains_key(&name) {
                self.take_up(name, assigned);
            }
        }
        self.outstanding = self.held.values().map(Held::outstanding).sum();
        if !before.iter().eq(self.held.keys()) {
            let named = self.held.keys().cloned();
            let partitions =
                named.map(|(topic, partition)| TopicPartition { topic, partition }).collect();
            self.news.retain(|news| !matches!(news, News::Assignment(_)));
            self.news.push(News::Assignment(SubscribeAssignment { partitions }));
        }
        self.membership.heartbeat(Some(&self.held.keys().cloned().collect()))
    }

    fn take_up(&mut self, name: Name, assigned: &AssignedPartition) {
        let committed = assigned.committed.as_ref().map(|committed| committed.offset);
        let granted = assigned.granted_epoch;
        let start = committed.map_or(self.start, Spec::Offset);
        let pieces = self.pieces_to.clone();
        let puller = Puller::start(self.api.clone(), name.clone(), granted, start, pieces);
        self.held.insert(name, Held::new(granted, committed, puller));
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
            let news = if self.news.is_empty() {
                let Some((name, most)) = self.next_to_send() else { return false };
                let held = self.held.get_mut(&name).expect("it was just found");
                let records = held.send(most);
                self.credit -= records.len() as u32;
                self.outstanding += records.len();
                let (topic, partition) = name.clone();
                self.turn = Some(name);
                News::Records(SubscribeRecords { topic, partition, records })
            } else {
                self.news.remove(0)
            };
            permit.send(Ok(SubscribeResponse { response: Some(news) }));
        }
    }

    /// The next partition that has something to send, and how many records it may send.
    fn next_to_send(&self) -> Option<(Name, usize)> {
        let room = (limits::SUBSCRIBE_CREDIT_MAX as usize).saturating_sub(self.outstanding);
        let most = (self.credit as usize).min(room).min(RESPONSE_RECORDS_MAX);
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

    fn arrive(&mut self, piece: Piece) -> Result<(), Error> {
        let held = self.held.get_mut(&piece.partition);
        // What was read under an earlier grant is nobody's any more.
        let Some(held) = held.filter(|held| held.granted == piece.granted) else { return Ok(()) };
        match piece.read? {
            Read::Begins(offset) => {
                held.begin(offset);
                self.commit_due = Instant::now();
            }
            Read::Records(records) => held.arrive(records),
        }
        Ok(())
    }

    // Commits.

    fn due(&self, which: impl Fn(&Name) -> bool) -> Vec<(Name, i64)> {
        let held = self.held.iter().filter(|(name, _)| which(name));
        held.filter_map(|(name, held)| Some((name.clone(), held.due()?))).collect()
    }

    async fn commit_now(&mut self, which: impl Fn(&Name) -> bool) {
        let due = self.due(which);
        if due.is_empty() {
            return;
        }
        // What is not committed comes again, to whoever holds the partition next.
        if let Ok(done) = timeout(FAREWELL, self.membership.commit(due)).await {
            self.note(done);
        }
    }

    fn note(&mut self, done: Result<Kept, Error>) {
        match done {
            Ok(kept) => {
                for (name, offset) in kept {
                    if let (Some(held), Some(offset)) = (self.held.get_mut(&name), offset) {
                        held.commit(offset);
                    }
                }
            }
            // The next one says it again.
            Err(err) => debug!(%err, member = self.membership.member, "commit failed"),
        }
        if self.held.values().any(Held::waits_for_commit) {
            self.commit_due = self.commit_due.min(Instant::now() + COMMIT_AGAIN);
        }
    }
}
