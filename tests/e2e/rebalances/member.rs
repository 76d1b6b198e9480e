//! A member of the group, made of nothing but stubs: everything that it is told and does is on record.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_checker::{
    Assigned, Commit, Delivered, Event, GivenUp, Grant, Membership, Outcome, Released,
};
use tidelog_proto::v1::commit_offsets_result::Result as Kept;
use tidelog_proto::v1::group_service_client::GroupServiceClient;
use tidelog_proto::v1::log_service_client::LogServiceClient;
use tidelog_proto::v1::offset_spec::Spec;
use tidelog_proto::v1::{
    CommitOffsetsRequest, Error, FetchRecordsRequest, FetchRecordsResponse, HeartbeatRequest,
    HeartbeatResponse, Holdings, LeaveGroupRequest, OffsetCommit, OffsetSpec, Subscription,
    TopicPartition,
};
use tidelog_types::ErrorCode;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

use super::recorder::{Clock, Recorder};
use super::{GROUP, TOPIC};

/// Long enough that a member which a busy machine holds up is not taken for dead.
const SESSION: Duration = Duration::from_secs(8);

/// A member here does one thing at a time: a commit that waits for a leader must not keep it from the next
/// sign of life. Whether it took effect is then unknown.
const COMMIT_PATIENCE: Duration = Duration::from_secs(1);

/// One that sends no more signs of life waits for as long as a coordinator may be without a leader.
const LAST_PATIENCE: Duration = Duration::from_secs(12);

/// How long a zombie is silent: until it has been expired, with a broker's kill on the way too.
const SILENCE: Duration = Duration::from_secs(14);

const COMMIT_EVERY: Duration = Duration::from_millis(100);
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// How a member ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It gives everything up and says so.
    Leave,
    /// It is gone.
    Crash,
    /// It sends no sign of life for longer than its session, then commits as if nothing had happened.
    Zombie,
}

/// A member at work.
pub(super) struct Seat {
    id: String,
    end: watch::Sender<Option<End>>,
    task: JoinHandle<Recorder>,
}

impl Seat {
    /// Joins by one of the brokers.
    pub(super) fn start(bootstrap: &[String], clock: Clock, number: usize) -> Self {
        let (end, ended) = watch::channel(None);
        let id = format!("member-{number}");
        let member = Member::new(bootstrap, clock, &id, number);
        Self { id, end, task: tokio::spawn(member.run(ended)) }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Ends the member; gives what it has recorded.
    pub(super) async fn end(self, end: End) -> Recorder {
        self.end.send_replace(Some(end));
        self.task.await.unwrap()
    }
}

pub(super) fn channel(address: &str) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

pub(super) fn groups(address: &str) -> GroupServiceClient<Channel> {
    GroupServiceClient::new(channel(address))
}

/// A partition that the member holds.
struct Held {
    granted: u32,
    next: i64,
    committed: Option<i64>,
    fetcher: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.fetcher.abort();
    }
}

/// What was read: under which grant, from when on, and what.
type Piece = (u32, u32, u64, FetchRecordsResponse);

struct Member {
    /// One to each broker.
    channels: Vec<Channel>,
    turn: usize,
    clock: Clock,
    id: String,
    revision: u64,
    epoch: u32,
    held: BTreeMap<u32, Held>,
    pieces: mpsc::Receiver<Piece>,
    pieces_to: mpsc::Sender<Piece>,
    recorder: Recorder,
}

impl Member {
    fn new(bootstrap: &[String], clock: Clock, id: &str, turn: usize) -> Self {
        let (pieces_to, pieces) = mpsc::channel(64);
        Self {
            channels: bootstrap.iter().map(|address| channel(address)).collect(),
            turn,
            clock,
            id: id.to_owned(),
            revision: 0,
            epoch: 0,
            held: BTreeMap::new(),
            pieces,
            pieces_to,
            recorder: Recorder::new(id),
        }
    }

    async fn run(mut self, mut ended: watch::Receiver<Option<End>>) -> Recorder {
        let mut commits = interval(COMMIT_EVERY);
        commits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heartbeat = Box::pin(self.heartbeat());
        let end = loop {
            tokio::select! {
                biased;
                _ = ended.changed() => break ended.borrow().expect("it is told how to end"),
                (invoke, answer) = &mut heartbeat => {
                    if let Ok(answer) = answer {
                        self.follow(invoke, answer).await;
                    } else {
                        assert!(!self.is_over(&answer.unwrap_err()), "{} was expired", self.id);
                    }
                    heartbeat = Box::pin(self.heartbeat());
                }
                Some(piece) = self.pieces.recv() => self.deliver(piece),
                _ = commits.tick() => drop(self.commit(COMMIT_PATIENCE, |_| true).await),
            }
        };
        drop(heartbeat);
        match end {
            End::Crash => {}
            End::Leave => {
                self.commit(LAST_PATIENCE, |_| true).await;
                self.held.clear();
                self.leave().await;
            }
            End::Zombie => self.haunt().await,
        }
        self.recorder
    }

    /// The next broker: whoever could not be reached is not asked again at once.
    fn next_broker(&mut self) -> Channel {
        self.turn += 1;
        self.channel()
    }

    fn channel(&self) -> Channel {
        self.channels[self.turn % self.channels.len()].clone()
    }

    /// Whether the error says that the membership is over; otherwise the next broker is tried.
    fn is_over(&mut self, status: &Status) -> bool {
        let error = Error::from_status(status);
        if error.is_none() {
            self.next_broker();
        }
        error.is_some_and(|error| error.error_code() == Ok(ErrorCode::UnknownMemberId))
    }

    /// A sign of life that says all that is held.
    fn heartbeat(
        &self,
    ) -> impl Future<Output = (u64, Result<HeartbeatResponse, Status>)> + Send + 'static {
        let subscription = Subscription {
            topics: vec![TOPIC.to_owned()],
            session_timeout_ms: SESSION.as_millis() as u32,
            ..Subscription::default()
        };
        let partition =
            |partition: &u32| TopicPartition { topic: TOPIC.to_owned(), partition: *partition };
        let partitions = self.held.keys().map(partition).collect();
        let request = HeartbeatRequest {
            group_id: GROUP.to_owned(),
            member_id: self.id.clone(),
            subscription: (self.revision == 0).then_some(subscription),
            revision: self.revision,
            holdings: Some(Holdings { partitions }),
            max_wait_ms: 300,
        };
        let (clock, mut client) = (self.clock, GroupServiceClient::new(self.channel()));
        async move {
            let invoke = clock.now();
            let answer = client.heartbeat(request).await;
            if answer.is_err() {
                sleep(AGAIN_AFTER).await;
            }
            (invoke, answer.map(tonic::Response::into_inner))
        }
    }

    /// Gives up and takes up.
    async fn follow(&mut self, invoke: u64, answer: HeartbeatResponse) {
        if answer.revision == self.revision {
            return;
        }
        let at = self.clock.since(invoke);
        let (group, member) = (GROUP, self.id.clone());
        if self.revision == 0 {
            let joined = Membership { at, group: group.into(), member: member.as_str().into() };
            self.recorder.record(&Event::Joined(joined));
        }
        (self.revision, self.epoch) = (answer.revision, answer.member_epoch);
        let grant = |told: &tidelog_proto::v1::AssignedPartition| Grant {
            topic: TOPIC.into(),
            partition: told.partition,
            granted: told.granted_epoch,
            committed: told.committed.as_ref().map(|committed| committed.offset as u64),
        };
        self.recorder.record(&Event::Assigned(Assigned {
            at,
            group: group.into(),
            member: member.as_str().into(),
            epoch: self.epoch,
            partitions: answer.assignment.iter().map(grant).collect(),
        }));
        let told: BTreeMap<_, _> = answer.assignment.iter().map(|t| (t.partition, t)).collect();
        let lost: Vec<u32> =
            self.held.keys().filter(|held| !told.contains_key(held)).copied().collect();
        if !lost.is_empty() {
            self.commit(COMMIT_PATIENCE, |partition| lost.contains(&partition)).await;
            let now = self.clock.now();
            let gone = |partition: &u32| {
                let granted = self.held.remove(partition)?.granted;
                Some(GivenUp { topic: TOPIC.into(), partition: *partition, granted })
            };
            let partitions = lost.iter().filter_map(gone).collect();
            // The next heartbeat says so; from here on the member counts it as gone.
            self.recorder.record(&Event::Released(Released {
                at: self.clock.since(now),
                group: group.into(),
                member: member.as_str().into(),
                partitions,
            }));
        }
        for (partition, told) in told {
            let held = self.held.get(&partition);
            if held.is_none_or(|held| held.granted != told.granted_epoch) {
                let committed = told.committed.as_ref().map(|committed| committed.offset);
                self.take_up(partition, told.granted_epoch, committed);
            }
        }
    }

    fn take_up(&mut self, partition: u32, granted: u32, committed: Option<i64>) {
        let next = committed.unwrap_or(0);
        let fetcher = fetch(self.channels.clone(), self.clock, partition, granted, next);
        let fetcher = tokio::spawn(fetcher(self.pieces_to.clone(), self.turn));
        self.held.insert(partition, Held { granted, next, committed, fetcher });
    }

    fn deliver(&mut self, (partition, granted, invoke, read): Piece) {
        let held = self.held.get_mut(&partition);
        let Some(held) = held.filter(|held| held.granted == granted) else { return };
        let at = self.clock.since(invoke);
        for record in read.records {
            let value = record.record.unwrap().value.unwrap();
            let id = std::str::from_utf8(&value).unwrap().parse().unwrap();
            self.recorder.delivered.push(id);
            self.recorder.record(&Event::Delivered(Delivered {
                at,
                group: GROUP.into(),
                member: self.id.as_str().into(),
                topic: TOPIC.into(),
                partition,
                offset: record.offset as u64,
                id,
                granted: Some(granted),
            }));
        }
        held.next = read.next_offset;
    }

    /// Commits what was delivered; tells whether the member is known. Once: what fails comes again.
    async fn commit(&mut self, patience: Duration, which: impl Fn(u32) -> bool) -> bool {
        let due = self.held.iter().filter(|(partition, _)| which(**partition));
        let due = due.filter(|(_, held)| held.committed != Some(held.next));
        let offset = |(partition, held): (&u32, &Held)| OffsetCommit {
            topic: TOPIC.to_owned(),
            partition: *partition,
            offset: held.next,
            ..OffsetCommit::default()
        };
        let offsets: Vec<_> = due.map(offset).collect();
        if offsets.is_empty() {
            return true;
        }
        let request = CommitOffsetsRequest {
            group_id: GROUP.to_owned(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            offsets: offsets.clone(),
        };
        let invoke = self.clock.now();
        let mut client = GroupServiceClient::new(self.channel());
        let answer = timeout(patience, client.commit_offsets(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer yet")));
        // What was not answered may take effect later still: its end is open.
        let at = self.clock.since(invoke);
        let results = match answer {
            Ok(answer) => answer.into_inner().results.into_iter().map(|r| r.result).collect(),
            Err(status) => {
                self.is_over(&status);
                vec![None; offsets.len()]
            }
        };
        let mut known = true;
        for (commit, result) in offsets.into_iter().zip(results) {
            let outcome = match result {
                Some(Kept::Committed(kept)) => {
                    if let Some(held) = self.held.get_mut(&commit.partition) {
                        held.committed = Some(kept.offset);
                    }
                    Outcome::Accepted(kept.offset as u64)
                }
                Some(Kept::Error(error)) => {
                    known &= error.error_code() != Ok(ErrorCode::UnknownMemberId);
                    // A refusal may follow a try that took effect, and then says so.
                    if error.maybe_written { Outcome::Unknown } else { Outcome::Refused }
                }
                None => Outcome::Unknown,
            };
            self.recorder.record(&Event::Commit(Commit {
                at,
                group: GROUP.into(),
                member: self.id.as_str().into(),
                epoch: self.epoch,
                topic: TOPIC.into(),
                partition: commit.partition,
                offset: commit.offset as u64,
                outcome,
            }));
        }
        known
    }

    async fn leave(&mut self) {
        loop {
            let (group_id, member_id) = (GROUP.to_owned(), self.id.clone());
            let invoke = self.clock.now();
            let mut client = GroupServiceClient::new(self.channel());
            match client.leave_group(LeaveGroupRequest { group_id, member_id }).await {
                Ok(_) => return self.over(invoke),
                Err(status) => drop(self.is_over(&status)),
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    fn over(&mut self, invoke: u64) {
        let (group, member) = (GROUP.into(), self.id.as_str().into());
        let at = self.clock.since(invoke);
        self.recorder.record(&Event::Ended(Membership { at, group, member }));
    }

    /// Sends no sign of life, goes on reading, and then commits, until it is told that it is nobody.
    async fn haunt(&mut self) {
        let silence = tokio::time::Instant::now() + SILENCE;
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(silence) => break,
                Some(piece) = self.pieces.recv() => self.deliver(piece),
            }
        }
        // One that has read nothing new has nothing to commit, and is a zombie all the same.
        self.held.values_mut().for_each(|held| held.committed = None);
        loop {
            let invoke = self.clock.now();
            if self.held.is_empty() || !self.commit(LAST_PATIENCE, |_| true).await {
                return self.over(invoke);
            }
            sleep(AGAIN_AFTER).await;
        }
    }
}

/// Reads a partition from `next` on, by any broker, one piece after the other.
fn fetch(
    channels: Vec<Channel>,
    clock: Clock,
    partition: u32,
    granted: u32,
    mut next: i64,
) -> impl FnOnce(mpsc::Sender<Piece>, usize) -> futures_util::future::BoxFuture<'static, ()> {
    move |pieces, mut turn| {
        Box::pin(async move {
            let mut client = LogServiceClient::new(channels[turn % channels.len()].clone());
            loop {
                let request = FetchRecordsRequest {
                    topic: TOPIC.to_owned(),
                    partition,
                    start: Some(OffsetSpec { spec: Some(Spec::Offset(next)) }),
                    max_records: 1_000,
                    max_bytes: 0,
                    max_wait_ms: 1_000,
                };
                let invoke = clock.now();
                match client.fetch_records(request).await {
                    Ok(read) => {
                        let read = read.into_inner();
                        next = read.next_offset;
                        if !read.records.is_empty()
                            && pieces.send((partition, granted, invoke, read)).await.is_err()
                        {
                            return;
                        }
                    }
                    Err(_) => {
                        turn += 1;
                        client = LogServiceClient::new(channels[turn % channels.len()].clone());
                        sleep(AGAIN_AFTER).await;
                    }
                }
            }
        })
    }
}
