//! Reads one partition: a stream from its leader, and a new one whenever that fails.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidelog_proto::v1::fetch_request::Request;
use tidelog_proto::v1::fetch_until::Until as StopAt;
use tidelog_proto::v1::log_service_client::LogServiceClient;
use tidelog_proto::v1::{
    FetchCredit, FetchOpen, FetchRequest, FetchResponse, FetchUntil, OffsetBound, OffsetSpec,
};
use tidelog_types::{ErrorCode, Kind, Offset, TopicPartition};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use tracing::debug;

use super::check::Checker;
use super::{Position, ReadError, ReadRecord, Shared, Until};
use crate::Error;
use crate::cluster::{BATCH_MESSAGE_BYTES_MAX, Backoff, Cluster, Leader, locked};

/// A stream that is not open after so long has failed.
const OPEN_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How much later than promised a response may come.
const LATE: Duration = Duration::from_secs(1);
/// How often all brokers may say that a topic does not exist before that is believed.
const UNKNOWN_TOPIC_MAX: u32 = 10;

/// Records of one partition, or why there are no more.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) partition: TopicPartition,
    pub(super) high_watermark: Offset,
    pub(super) records: Result<Vec<ReadRecord>, ReadError>,
    pub(super) read: ReadBytes,
}

/// The bytes of a chunk. Dropped they count as read, and the broker may send as many.
#[derive(Debug)]
pub(super) struct ReadBytes {
    bytes: u64,
    partition: TopicPartition,
    tally: Arc<Tally>,
}

impl ReadBytes {
    pub(super) fn partition(&self) -> &TopicPartition {
        &self.partition
    }
}

impl Drop for ReadBytes {
    fn drop(&mut self) {
        self.tally.bytes.fetch_add(self.bytes, Ordering::Relaxed);
        self.tally.changed.notify_one();
    }
}

/// Bytes that were read and have not been granted again.
#[derive(Debug, Default)]
struct Tally {
    bytes: AtomicU64,
    changed: Notify,
}

/// Connections for records, one per broker and reader.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<HashMap<String, Channel>>);

impl Connections {
    fn to(&self, cluster: &Cluster, address: &str) -> Result<Channel, Error> {
        let mut connections = locked(&self.0);
        if let Some(channel) = connections.get(address) {
            return Ok(channel.clone());
        }
        let channel = cluster.dial(address)?;
        connections.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    fn forget(&self, address: &str) {
        locked(&self.0).remove(address);
    }
}

/// Why a stream ended before it should.
enum Failure {
    /// Go on elsewhere, or here again.
    Interrupted(Error),
    /// There is nothing to go on with.
    Final(ReadError),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Final(error)
    }
}

pub(super) struct Fetcher {
    shared: Arc<Shared>,
    name: TopicPartition,
    topic_id: String,
    start: Position,
    /// The next offset to read, once it is known.
    next: Option<Offset>,
    /// Where to stop, once it is known.
    until: Option<Offset>,
    /// Bytes that the broker may send in all.
    credit: u64,
    /// Bytes sent and not yet read.
    unread: u64,
    tally: Arc<Tally>,
    chunks: mpsc::UnboundedSender<Chunk>,
    /// When the leader was last heard of, or reading began.
    heard: Instant,
}

impl Fetcher {
    pub(super) fn new(
        shared: Arc<Shared>,
        name: TopicPartition,
        topic_id: String,
        start: Position,
        credit: u64,
        chunks: mpsc::UnboundedSender<Chunk>,
    ) -> Self {
        let next = match start {
            Position::Offset(offset) => Some(offset),
            _ => None,
        };
        let until = match shared.config.until {
            Until::Offset(offset) => Some(offset),
            _ => None,
        };
        let (tally, heard) = (Arc::default(), Instant::now());
        Self { shared, name, topic_id, start, next, until, credit, unread: 0, tally, chunks, heard }
    }

    /// Reads until the stop, an error, or the end of the reader.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.read_all().await {
            self.hand_out(0, Offset::ZERO, Err(error));
        }
    }

    async fn read_all(&mut self) -> Result<(), ReadError> {
        let mut backoff = Backoff::short();
        let mut stale: Option<Leader> = None;
        let mut unknown = 0;
        loop {
            let leader = self.leader();
            let mut problem = None;
            if let Some(leader) = leader.as_ref().filter(|leader| Some(*leader) != stale.as_ref()) {
                let heard = self.heard;
                match self.read_from(leader).await {
                    Ok(()) => return Ok(()),
                    Err(Failure::Final(error)) => return Err(error),
                    Err(Failure::Interrupted(error)) => problem = Some(error),
                }
                if self.heard != heard {
                    backoff = Backoff::short();
                }
            }
            if let Some(error) = &problem {
                let (topic, partition) = (&self.name.topic, self.name.partition.0);
                debug!(%topic, partition, err = %error, "fetch stream ended");
                if self.follow_hint(error) {
                    continue;
                }
            }
            let address = leader.as_ref().map(|leader| leader.address.to_string());
            match self.shared.cluster.refresh(&self.name.topic, address.as_deref()).await {
                Ok(()) => {
                    unknown = 0;
                    self.check_topic()?;
                }
                Err(error @ Error::UnknownTopic { .. }) => {
                    unknown += 1;
                    if unknown > UNKNOWN_TOPIC_MAX {
                        return Err(self.client(error));
                    }
                }
                Err(error) => problem = Some(error),
            }
            let (after, silent) = (self.shared.config.unavailable_timeout, self.heard.elapsed());
            if silent >= after {
                let partition = self.name.clone();
                let reason = || Error::Unavailable {
                    address: address.unwrap_or_default(),
                    reason: "no leader".to_owned(),
                };
                let source = Box::new(problem.unwrap_or_else(reason));
                return Err(ReadError::Unavailable { partition, after, source });
            }
            if self.leader() == leader {
                sleep(backoff.next()).await;
            }
            stale = None;
        }
    }

    fn leader(&self) -> Option<Leader> {
        self.shared.cluster.metadata().leader(&self.name.topic, self.name.partition)
    }

    /// Whether the error names a leader that is news.
    fn follow_hint(&self, error: &Error) -> bool {
        let Error::Refused(refusal) = error else { return false };
        let metadata = self.shared.cluster.metadata();
        refusal.leader.clone().is_some_and(|hint| metadata.learn_leader(&self.name, hint))
    }

    /// A topic that was created anew has other records at the same offsets.
    fn check_topic(&self) -> Result<(), ReadError> {
        let facts = self.shared.cluster.metadata().topic(&self.name.topic);
        if facts.is_none_or(|facts| facts.id == self.topic_id) {
            return Ok(());
        }
        Err(self.client(Error::UnknownTopic { topic: self.name.topic.clone() }))
    }

    fn client(&self, error: Error) -> ReadError {
        ReadError::Client { partition: self.name.clone(), source: Box::new(error) }
    }

    /// Reads from one leader; done when the stop is reached.
    async fn read_from(&mut self, leader: &Leader) -> Result<(), Failure> {
        let address = &*leader.address;
        let outcome = self.converse(leader).await;
        if let Err(Failure::Interrupted(error)) = &outcome
            && !matches!(error, Error::Refused(_))
        {
            self.shared.connections.forget(address);
        }
        outcome
    }

    async fn converse(&mut self, leader: &Leader) -> Result<(), Failure> {
        let address = &*leader.address;
        let channel = self.shared.connections.to(&self.shared.cluster, address);
        let channel = channel.map_err(|error| self.client(error))?;
        let (requests, outgoing) = mpsc::unbounded_channel();
        // The stream takes what was unread before this one into account, once and for all.
        self.take_read();
        let open = self.open(leader);
        // The receiver is here still.
        let _ = requests.send(FetchRequest { request: Some(Request::Open(open)) });
        let mut client =
            LogServiceClient::new(channel).max_decoding_message_size(BATCH_MESSAGE_BYTES_MAX);
        let opened = timeout(OPEN_TIMEOUT, client.fetch(UnboundedReceiverStream::new(outgoing)));
        let opened = opened.await.map_err(|_| silent(address, OPEN_TIMEOUT))?;
        let mut responses = opened.map_err(|status| self.ended(address, &status))?.into_inner();
        loop {
            let response = self.next_response(address, &requests, &mut responses).await?;
            self.heard = Instant::now();
            if self.take(address, response)? {
                return Ok(());
            }
        }
    }

    /// Waits for a response, and grants credit meanwhile.
    async fn next_response(
        &mut self,
        address: &str,
        requests: &mpsc::UnboundedSender<FetchRequest>,
        responses: &mut Streaming<FetchResponse>,
    ) -> Result<FetchResponse, Failure> {
        let patience = self.shared.config.max_wait + LATE;
        let tally = Arc::clone(&self.tally);
        let late = sleep(patience);
        tokio::pin!(late);
        loop {
            tokio::select! {
                biased;
                response = responses.message() => {
                    let response = response.map_err(|status| self.ended(address, &status))?;
                    return response.ok_or_else(|| Failure::Interrupted(Error::Unavailable {
                        address: address.to_owned(),
                        reason: "ended the stream".to_owned(),
                    }));
                }
                () = tally.changed.notified() => {
                    // In portions, so that there are not more grants than responses.
                    if tally.bytes.load(Ordering::Relaxed) >= self.credit / 4 {
                        let credit = FetchCredit { bytes: self.take_read() };
                        // When it fails the responses end too, and tell why.
                        let _ = requests.send(FetchRequest { request: Some(Request::Credit(credit)) });
                    }
                }
                () = &mut late => return Err(silent(address, patience)),
            }
        }
    }

    /// What has been read since the last time.
    fn take_read(&mut self) -> u64 {
        let bytes = self.tally.bytes.swap(0, Ordering::Relaxed);
        self.unread = self.unread.saturating_sub(bytes);
        bytes
    }

    fn open(&self, leader: &Leader) -> FetchOpen {
        let start = match (self.next, self.start) {
            (Some(next), _) => OffsetSpec::from(next),
            (None, Position::Offset(offset)) => OffsetSpec::from(offset),
            (None, Position::Timestamp(time)) => OffsetSpec::from(time),
            (None, Position::Earliest) => OffsetSpec::from(OffsetBound::Earliest),
            (None, Position::Latest) => OffsetSpec::from(OffsetBound::Latest),
        };
        let config = &self.shared.config;
        let until = match (self.until, config.until) {
            (Some(offset), _) => Some(StopAt::Offset(offset.to_wire())),
            (None, Until::End) => Some(StopAt::End(true)),
            _ => None,
        };
        FetchOpen {
            topic: self.name.topic.to_string(),
            partition: self.name.partition.0,
            topic_id: self.topic_id.clone(),
            start: Some(start),
            until: until.map(|until| FetchUntil { until: Some(until) }),
            max_wait_ms: u32::try_from(config.max_wait.as_millis()).unwrap_or(u32::MAX),
            min_bytes: config.min_bytes,
            max_bytes: config.max_bytes,
            leader_epoch: Some(leader.epoch),
            // While nothing more fits there is none; it is granted as soon as there is room.
            credit_bytes: self.credit.saturating_sub(self.unread),
        }
    }

    /// Takes a response; tells whether the stop is reached.
    fn take(&mut self, address: &str, response: FetchResponse) -> Result<bool, Failure> {
        let offset = |wire: i64, what: &str| {
            let reason = format!("{what} {wire}");
            Offset::from_wire(wire)
                .ok_or_else(|| Failure::Interrupted(Error::protocol(address, reason)))
        };
        let high_watermark = offset(response.high_watermark, "high watermark")?;
        let behind = offset(response.next_offset, "next offset")?;
        if self.until.is_none() && self.shared.config.until == Until::End {
            self.until = Some(high_watermark);
        }
        let mut next = match (self.next, response.batches.first()) {
            (Some(next), _) => next,
            (None, None) => behind,
            // The start was not told by itself: it is where the first batch begins.
            (None, Some(batch)) => tidelog_types::batch::Info::read(batch)
                .map(|info| info.base_offset)
                .map_err(|error| Error::protocol(address, error.to_string()))
                .map_err(Failure::Interrupted)?,
        };
        let checker = Checker {
            partition: &self.name,
            address,
            inflate_bytes_max: self.shared.config.inflate_bytes_max,
            until: self.until,
        };
        let mut records = Vec::new();
        let mut bytes = 0;
        for batch in response.batches {
            bytes += batch.len() as u64;
            match checker.take(batch, next, &mut records) {
                Ok(behind) => next = behind,
                Err(error) => {
                    // What came before the damage is sound.
                    self.next = Some(next);
                    self.hand_out(bytes, high_watermark, Ok(records));
                    return Err(error.into());
                }
            }
        }
        if behind > next {
            return Err(checker.gap(next, behind).into());
        }
        self.next = Some(next);
        if bytes > 0 {
            self.hand_out(bytes, high_watermark, Ok(records));
        }
        Ok(response.end_of_range || self.until.is_some_and(|until| next >= until))
    }

    fn hand_out(
        &mut self,
        bytes: u64,
        high_watermark: Offset,
        records: Result<Vec<ReadRecord>, ReadError>,
    ) {
        self.unread += bytes;
        let (partition, tally) = (self.name.clone(), Arc::clone(&self.tally));
        let read = ReadBytes { bytes, partition: partition.clone(), tally };
        // It fails when the reader is gone, and then this task is about to go too.
        let _ = self.chunks.send(Chunk { partition, high_watermark, records, read });
    }

    /// What the end of a stream means.
    fn ended(&self, address: &str, status: &tonic::Status) -> Failure {
        let error = Error::from_status(address, status);
        match (&error, error.code()) {
            (Error::Refused(refusal), Some(ErrorCode::OffsetOutOfRange)) => {
                Failure::Final(ReadError::OffsetOutOfRange {
                    partition: self.name.clone(),
                    offset: self.next,
                    message: refusal.message.clone(),
                })
            }
            // The other brokers say whether it is gone.
            (_, Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)) => {
                Failure::Interrupted(error)
            }
            _ if matches!(error.kind(), Kind::Retry | Kind::Redirect) => {
                Failure::Interrupted(error)
            }
            _ => Failure::Final(self.client(error)),
        }
    }
}

fn silent(address: &str, after: Duration) -> Failure {
    Failure::Interrupted(Error::TimedOut { address: address.to_owned(), after })
}
