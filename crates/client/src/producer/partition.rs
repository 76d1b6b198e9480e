//! The task that writes one partition: encodes, sends, and sends again until each batch has an outcome.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidelog_proto::v1::metadata_service_client::MetadataServiceClient;
use tidelog_proto::v1::{self, DescribeClusterRequest, ProduceRequest};
use tidelog_types::{ErrorCode, Kind, TopicPartition};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::accumulator::{Accumulator, Collected};
use super::link::Answer;
use super::prepare::{Need, Ready, Session, prepare};
use super::window::{Answered, Identity, Sealed, Window};
use super::{Core, ProduceError, ProduceFailure};
use crate::Error;
use crate::cluster::{Leader, locked};
use crate::error::BrokerError;

/// A leader that has not answered for so long may have lost its place: the others are asked.
const LOOK_AFTER: Duration = Duration::from_millis(400);
/// A leader that has not answered for so long must show that it lives.
const DOUBT_AFTER: Duration = Duration::from_millis(1_500);
/// How long it has to show it.
const SIGN_OF_LIFE_TIMEOUT: Duration = Duration::from_millis(500);
/// Of so many refusals for now, one makes the task look for another leader.
const LOOK_EVERY: u32 = 4;
/// A batch that is refused as damaged is sent again so many times: the damage may be the network's.
const DAMAGED_RETRIES: u32 = 3;

/// A partition as its producers see it: where records are collected, and how to wake the task.
pub(super) struct Partition {
    pub(super) accumulator: Mutex<Accumulator>,
    pub(super) changed: Notify,
}

type Preparing = Pin<Box<dyn Future<Output = Result<Ready, Error>> + Send>>;
type Looking = Pin<Box<dyn Future<Output = Sight> + Send>>;

/// What looking after a silent leader showed.
enum Sight {
    /// It may just be slow.
    Alive,
    /// Another broker leads.
    Moved,
    /// It gives no sign of life.
    Dead(Error),
}

pub(super) struct Task {
    core: Arc<Core>,
    name: TopicPartition,
    topic_id: String,
    partition: Arc<Partition>,
    window: Window,
    session: Option<Session>,
    preparing: Option<Preparing>,
    looking: Option<Looking>,
    answers: mpsc::UnboundedReceiver<Answer>,
    answer_to: mpsc::UnboundedSender<Answer>,
    /// When the leader last answered, or was first waited for.
    heard: Instant,
    look_at: Instant,
    /// Failures since the last batch was written.
    failures: u32,
    /// Whether the next batch goes alone, to see whether the leader takes it.
    feeling: bool,
    /// The identity that must be replaced before anything is sent.
    spent: Option<Identity>,
    last_error: Arc<Mutex<Option<Error>>>,
}

/// Why the task ends: nothing can be written to the partition any more.
struct Ended(Error);

impl Task {
    pub(super) fn new(
        core: Arc<Core>,
        name: TopicPartition,
        topic_id: String,
        partition: Arc<Partition>,
        identity: Identity,
    ) -> Self {
        let (answer_to, answers) = mpsc::unbounded_channel();
        let now = Instant::now();
        Self {
            core,
            name,
            topic_id,
            partition,
            window: Window::new(identity),
            session: None,
            preparing: None,
            looking: None,
            answers,
            answer_to,
            heard: now,
            look_at: now,
            failures: 0,
            feeling: false,
            spent: None,
            last_error: Arc::default(),
        }
    }

    /// Writes until the partition is gone, or the task is dropped with its producer.
    pub(super) async fn run(mut self) {
        let Ended(error) = loop {
            if let Err(ended) = self.step().await {
                break ended;
            }
        };
        let (topic, partition) = (&self.name.topic, self.name.partition.0);
        warn!(%topic, partition, err = %error, "partition cannot be written any more");
        self.core.forget_topic(&self.name.topic, &self.topic_id);
        for batch in self.window.take_all() {
            fail(batch, error.clone().into());
        }
        let ended = ProduceError::new(error, false);
        for batch in locked(&self.partition.accumulator).end(ended.clone()) {
            batch.promise.keep(Err(ended.clone()));
        }
    }

    async fn step(&mut self) -> Result<(), Ended> {
        self.expire();
        self.encode();
        self.send();
        if self.window.is_empty() {
            self.preparing = None;
        } else if self.preparing.is_none() && (self.session.is_none() || self.spent.is_some()) {
            self.prepare(Duration::ZERO, None);
        }
        let timer = self.next_timer();
        let partition = Arc::clone(&self.partition);
        let session = self.session.clone();
        tokio::select! {
            biased;
            // The channel stays open: this task holds a sender.
            Some(answer) = self.answers.recv() => {
                self.take_answer(answer);
                return Ok(());
            }
            error = failed(session.as_ref()), if session.is_some() => {
                self.lose(error);
                return Ok(());
            }
            ready = poll(&mut self.preparing), if self.preparing.is_some() => {
                self.preparing = None;
                self.take_ready(ready.map_err(Ended)?);
                return Ok(());
            }
            sight = poll(&mut self.looking), if self.looking.is_some() => {
                self.looking = None;
                self.take_sight(sight);
                return Ok(());
            }
            () = partition.changed.notified() => {}
            () = sleep_until(timer.unwrap_or(self.heard)), if timer.is_some() => {}
        }
        self.look();
        Ok(())
    }

    /// Encodes what has been collected, as far as the window has room.
    fn encode(&mut self) {
        let now = Instant::now();
        while self.has_room() {
            let linger = self.core.config.linger;
            let Some(batch) = locked(&self.partition.accumulator).take(linger, now) else { return };
            let Collected { builder, opened, promise } = batch;
            let records = builder.count();
            match builder.finish(self.core.config.codec(), Some(self.window.next_claim())) {
                Ok(bytes) => self.window.push(Sealed::new(bytes, records, opened, promise)),
                Err(error) => {
                    promise.keep(Err(ProduceError::new(ProduceFailure::Encode(error), false)));
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.window.len() < self.core.config.in_flight_max && !self.window.is_draining()
    }

    fn send(&mut self) {
        let ready = self.preparing.is_none() && self.spent.is_none();
        let Some(session) = self.session.as_ref().filter(|_| ready) else { return };
        let in_flight_max = if self.feeling { 1 } else { self.core.config.in_flight_max };
        loop {
            let waited = self.window.awaits_answer();
            let request = self.core.next_request();
            let Some(batch) = self.window.send_next(in_flight_max, request) else { return };
            let now = Instant::now();
            let deadline = batch.opened + self.core.config.delivery_timeout;
            let within = deadline.saturating_duration_since(now);
            let within = within.min(self.core.config.request_timeout).as_millis().max(1);
            let request = ProduceRequest {
                correlation_id: request,
                topic: self.name.topic.to_string(),
                partition: self.name.partition.0,
                batch: batch.bytes.clone(),
                timeout_ms: u32::try_from(within).unwrap_or(u32::MAX),
                topic_id: self.topic_id.clone(),
            };
            session.link.send(request, &self.answer_to);
            if !waited {
                (self.heard, self.look_at) = (now, now + LOOK_AFTER);
            }
        }
    }

    /// Fails what has not been written in time.
    fn expire(&mut self) {
        let Some(limit) = Instant::now().checked_sub(self.core.config.delivery_timeout) else {
            return;
        };
        if self.window.oldest().is_some_and(|opened| opened <= limit) {
            let oldest = self.window.take_oldest();
            self.begin_anew(oldest, &self.timed_out());
        }
        let old = locked(&self.partition.accumulator).take_older(limit);
        for batch in old {
            batch.promise.keep(Err(ProduceError::new(self.timed_out(), false)));
        }
    }

    /// After `failed` the sequence has a hole: what may be written fails too, since it cannot be sent
    /// under another sequence; the rest goes under a new epoch, which fences all of the old one.
    fn begin_anew(&mut self, failed: impl IntoIterator<Item = Sealed>, reason: &ProduceFailure) {
        for batch in failed {
            fail(batch, reason.clone());
        }
        for batch in self.window.take_doubtful() {
            fail(batch, reason.clone());
        }
        let spent = self.window.identity();
        let (topic, partition) = (&self.name.topic, self.name.partition.0);
        info!(%topic, partition, epoch = spent.epoch.0, "producer takes a new epoch");
        self.spent = Some(spent);
        let pause = self.pause();
        self.prepare(pause, None);
    }

    fn timed_out(&self) -> ProduceFailure {
        let last = locked(&self.last_error).clone().map(Box::new);
        ProduceFailure::TimedOut { after: self.core.config.delivery_timeout, last }
    }

    /// Sets out to get a session, if there is none, and a new identity, if the old one is spent.
    fn prepare(&mut self, pause: Duration, stale: Option<Leader>) {
        let need = Need { pause, stale, session: self.session.clone(), spent: self.spent };
        let (core, name, topic_id) =
            (Arc::clone(&self.core), self.name.clone(), self.topic_id.clone());
        let last_error = Arc::clone(&self.last_error);
        let tell = move |error: Error| {
            debug!(err = %error, "looking for the leader");
            *locked(&last_error) = Some(error);
        };
        self.looking = None;
        self.preparing = Some(Box::pin(prepare(core, name, topic_id, need, tell)));
    }

    fn take_ready(&mut self, ready: Ready) {
        self.session = Some(ready.session);
        let Some(identity) = ready.identity else { return };
        self.spent = None;
        if let Err(error) = self.window.renumber(identity) {
            for batch in self.window.take_all() {
                fail(batch, ProduceFailure::Encode(error.clone()));
            }
            // Its numbers count batches that are gone.
            self.spent = Some(identity);
        }
    }

    fn take_answer(&mut self, answer: Answer) {
        let now = Instant::now();
        (self.heard, self.look_at) = (now, now + LOOK_AFTER);
        match self.window.answer(answer.request, answer.outcome) {
            Answered::Stale | Answered::Draining => {}
            Answered::Written(batch, written) => {
                (self.failures, self.feeling) = (0, false);
                batch.promise.keep(Ok(written));
            }
            Answered::Drained(error) => {
                let session = self.session.clone();
                self.recover(error, session);
            }
        }
    }

    /// The stream failed: what was not answered may or may not be written.
    fn lose(&mut self, error: Error) {
        let Some(session) = self.session.take() else { return };
        let (topic, partition) = (&self.name.topic, self.name.partition.0);
        debug!(%topic, partition, err = %error, "produce stream failed");
        *locked(&self.last_error) = Some(error);
        if let Some(failure) = self.window.abandon() {
            // The stream broke while a failure was being drained, and that one says more.
            return self.recover(failure, Some(session));
        }
        self.retry(Some(session.leader), None);
    }

    /// Nothing is on its way any more, and `error` is why the oldest batch was not written.
    fn recover(&mut self, error: v1::Error, session: Option<Session>) {
        let address = session.as_ref().map_or("", |session| session.link.address());
        let code = error.error_code().ok();
        let refusal = BrokerError::new(address, error);
        let kind = refusal.kind();
        let reason = Error::from(refusal.clone());
        let (topic, partition) = (&self.name.topic, self.name.partition.0);
        debug!(%topic, partition, err = %reason, "batch was not written");
        *locked(&self.last_error) = Some(reason.clone());
        match code {
            Some(ErrorCode::DuplicateSequence) => {
                if let Some(batch) = self.window.take_oldest() {
                    fail(batch, ProduceFailure::OffsetUnknown);
                }
            }
            Some(
                ErrorCode::OutOfOrderSequence
                | ErrorCode::UnknownProducerId
                | ErrorCode::InvalidProducerEpoch,
            ) => self.begin_anew(None, &ProduceFailure::SequenceLost(reason)),
            Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId) => {
                // Brokers that lag may not know it yet; the others say whether it is gone.
                self.session = None;
                self.retry(session.map(|session| session.leader), refusal.retry_after);
            }
            Some(ErrorCode::CorruptMessage) if self.failures < DAMAGED_RETRIES => {
                self.retry(None, None);
            }
            _ if kind == Kind::Redirect => {
                self.session = None;
                let news = refusal.leader.is_some_and(|hint| {
                    self.core.cluster.metadata().learn_leader(&self.name, hint)
                });
                let stale = session.map(|session| session.leader).filter(|_| !news);
                self.retry(stale, refusal.retry_after);
            }
            // It goes on for long: maybe somebody else leads by now, and this one does not know.
            _ if kind == Kind::Retry && self.failures % LOOK_EVERY == LOOK_EVERY - 1 => {
                self.session = None;
                self.retry(session.map(|session| session.leader), refusal.retry_after);
            }
            _ if kind == Kind::Retry => self.retry(None, refusal.retry_after),
            _ => {
                let oldest = self.window.take_oldest();
                self.begin_anew(oldest, &ProduceFailure::Client(reason));
            }
        }
    }

    /// Sends everything again, after a pause that grows with the failures.
    fn retry(&mut self, stale: Option<Leader>, retry_after: Option<Duration>) {
        let pause = self.pause();
        self.feeling = true;
        self.prepare(pause.max(retry_after.unwrap_or_default()), stale);
    }

    /// How long to wait before the next try: not at all at first, then longer with every other one. A
    /// leader that is handed over is there again within some tens of milliseconds, and who doubles each time
    /// sleeps through as much again.
    fn pause(&mut self) -> Duration {
        let doublings = (self.failures.saturating_sub(1) / 2).min(4);
        let pause = Duration::from_millis(if self.failures == 0 { 0 } else { 10 << doublings });
        self.failures += 1;
        pause
    }

    /// Looks after a leader that has been silent for a while.
    fn look(&mut self) {
        let now = Instant::now();
        if self.looking.is_some() || now < self.look_at || !self.window.awaits_answer() {
            return;
        }
        let Some(session) = self.session.clone() else { return };
        self.look_at = now + LOOK_AFTER;
        let doubt = now >= self.heard + DOUBT_AFTER;
        self.looking =
            Some(Box::pin(look(Arc::clone(&self.core), self.name.clone(), session, doubt)));
    }

    fn take_sight(&mut self, sight: Sight) {
        let (Some(session), true) = (&self.session, self.window.awaits_answer()) else { return };
        match sight {
            Sight::Alive => {}
            Sight::Moved => {
                let address = session.link.address().to_owned();
                self.lose(Error::Unavailable { address, reason: "leads no more".to_owned() });
            }
            Sight::Dead(error) => {
                // All its partitions hear of it by the link.
                session.link.fail(error.clone());
                self.lose(error);
            }
        }
    }

    /// When something is due by itself.
    fn next_timer(&self) -> Option<Instant> {
        let config = &self.core.config;
        let (ready, collected) = {
            let accumulator = locked(&self.partition.accumulator);
            (accumulator.ready_at(config.linger), accumulator.oldest())
        };
        let room = self.has_room();
        let oldest = [self.window.oldest(), collected].into_iter().flatten().min();
        let silent =
            self.session.is_some() && self.looking.is_none() && self.window.awaits_answer();
        let due = [
            ready.filter(|_| room),
            oldest.map(|opened| opened + config.delivery_timeout),
            silent.then_some(self.look_at),
        ];
        due.into_iter().flatten().min()
    }
}

fn fail(batch: Sealed, reason: ProduceFailure) {
    let error = ProduceError::new(reason, batch.maybe_written());
    batch.promise.keep(Err(error));
}

async fn failed(session: Option<&Session>) -> Error {
    match session {
        Some(session) => session.link.failed().await,
        None => std::future::pending().await,
    }
}

/// The future, if there is one.
async fn poll<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Asks the other brokers whether `session` still leads and, in `doubt`, its broker for a sign of life.
async fn look(core: Arc<Core>, name: TopicPartition, session: Session, doubt: bool) -> Sight {
    let address = session.link.address();
    let others = core.cluster.refresh(&name.topic, Some(address));
    let sign = async {
        if !doubt {
            return None;
        }
        let call = |channel| async move {
            MetadataServiceClient::new(channel).describe_cluster(DescribeClusterRequest {}).await
        };
        core.cluster.ask(address, SIGN_OF_LIFE_TIMEOUT, call).await.err()
    };
    // Whether the others could be asked matters less than what is known afterwards.
    let (_, sign) = tokio::join!(others, sign);
    let leader = core.cluster.metadata().leader(&name.topic, name.partition);
    match (leader, sign) {
        (Some(leader), _) if leader.epoch > session.leader.epoch => Sight::Moved,
        (_, Some(error)) => Sight::Dead(error),
        _ => Sight::Alive,
    }
}
