//! Reads one partition: a stream from its leader, and a new one whenever that fails.

use std::sync::Arc;
use std::time::Duration;

use tidelog_proto::v1::fetch_request::Request;
use tidelog_proto::v1::fetch_until::Until as StopAt;
use tidelog_proto::v1::log_service_client::LogServiceClient;
use tidelog_proto::v1::{
    FetchCredit, FetchOpen, FetchRequest, FetchResponse, FetchUntil, OffsetBound, OffsetSpec,
};
use tidelog_types::{ErrorCode, Kind, Offset, TopicPartition};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tracing::debug;

use super::check::Checker;
use super::{Chunk, Credit, Outlet, ReadBytes, Source, Tally};
use crate::cluster::{BATCH_MESSAGE_BYTES_MAX, Backoff, Leader};
use crate::{Error, Position, ReadError, ReadRecord, Until};

/// A stream that is not open after so long has failed.
const OPEN_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How much later than promised a response may come.
const LATE: Duration = Duration::from_secs(1);
/// How often all brokers may say that a topic does not exist before that is believed.
const UNKNOWN_TOPIC_MAX: u32 = 10;

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

/// Reads one partition, and puts what it reads into `outlet`.
pub(crate) struct Fetcher<O> {
    source: Arc<Source>,
    name: TopicPartition,
    topic_id: String,
    start: Position,
    /// The next offset to read, once it is known.
    next: Option<Offset>,
    /// Where to stop, once it is known.
    until: Option<Offset>,
    /// Bytes that may be on their way or unread, all together.
    credit: Credit,
    /// Bytes sent and not yet read.
    unread: u64,
    /// Bytes that the broker may still send; below zero when a response overdrew it.
    granted: i64,
    tally: Arc<Tally>,
    outlet: O,
    /// When the leader was last heard of, or reading began.
    heard: Instant,
    /// Whether records have come: until then the first that is there may become another.
    has_begun: bool,
}

impl<O: Outlet> Fetcher<O> {
    pub(crate) fn new(
        source: Arc<Source>,
        name: TopicPartition,
        topic_id: String,
        start: Position,
        credit: Credit,
        outlet: O,
    ) -> Self {
        let next = match start {
            Position::Offset(offset) => Some(offset),
            _ => None,
        };
        let until = match source.config.until {
            Until::Offset(offset) => Some(offset),
            _ => None,
        };
        let (tally, heard) = (Arc::default(), Instant::now());
        let (unread, granted) = (0, 0);
        Self {
            source,
            name,
            topic_id,
            start,
            next,
            until,
            credit,
            unread,
            granted,
            tally,
            outlet,
            heard,
            has_begun: false,
        }
    }

    /// Reads until the stop, an error, or the end of the reader.
    pub(crate) async fn run(mut self) {
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
                    Err(Failure::Interrupted(error)) => {
                        if error.code() == Some(ErrorCode::OffsetOutOfRange) {
                            self.next = None;
                        }
                        problem = Some(error);
                    }
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
            match self.source.cluster.refresh(&self.name.topic, address.as_deref()).await {
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
            let (after, silent) = (self.source.config.unavailable_timeout, self.heard.elapsed());
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
        self.source.cluster.metadata().leader(&self.name.topic, self.name.partition)
    }

    /// Whether the error names a leader that is news.
    fn follow_hint(&self, error: &Error) -> bool {
        let Error::Refused(refusal) = error else { return false };
        let metadata = self.source.cluster.metadata();
        refusal.leader.clone().is_some_and(|hint| metadata.learn_leader(&self.name, hint))
    }

    /// A topic that was created anew has other records at the same offsets.
    fn check_topic(&self) -> Result<(), ReadError> {
        let facts = self.source.cluster.metadata().topic(&self.name.topic);
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
            self.source.forget(address);
        }
        outcome
    }

    async fn converse(&mut self, leader: &Leader) -> Result<(), Failure> {
        let address = &*leader.address;
        let channel = self.source.connection(address).map_err(|error| self.client(error))?;
        let (requests, outgoing) = mpsc::unbounded_channel();
        // What was granted on the stream before is void.
        self.granted = 0;
        self.granted = self.room() as i64;
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
        let patience = self.source.config.max_wait + LATE;
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
                () = tally.changed() => self.grant(requests),
                () = &mut late => return Err(silent(address, patience)),
            }
        }
    }

    /// Lets the broker send what there is room for, in portions, so that there are not more grants
    /// than responses.
    fn grant(&mut self, requests: &mpsc::UnboundedSender<FetchRequest>) {
        let bytes = self.room();
        if bytes == 0 || bytes < self.credit.bytes() / 4 {
            return;
        }
        self.granted += bytes as i64;
        let credit = FetchCredit { bytes };
        // When it fails the responses end too, and tell why.
        let _ = requests.send(FetchRequest { request: Some(Request::Credit(credit)) });
    }

    /// How many bytes more may be granted.
    fn room(&mut self) -> u64 {
        self.unread = self.unread.saturating_sub(self.tally.take());
        let taken = self.granted.saturating_add_unsigned(self.unread);
        u64::try_from((self.credit.bytes() as i64).saturating_sub(taken)).unwrap_or_default()
    }

    fn open(&self, leader: &Leader) -> FetchOpen {
        let start = match (self.next, self.start) {
            (Some(next), _) => OffsetSpec::from(next),
            (None, Position::Offset(offset)) => OffsetSpec::from(offset),
            (None, Position::Timestamp(time)) => OffsetSpec::from(time),
            (None, Position::Earliest) => OffsetSpec::from(OffsetBound::Earliest),
            (None, Position::Latest) => OffsetSpec::from(OffsetBound::Latest),
        };
        let config = &self.source.config;
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
            credit_bytes: self.granted as u64,
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
        if self.until.is_none() && self.source.config.until == Until::End {
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
            inflate_bytes_max: self.source.config.inflate_bytes_max,
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
            self.has_begun = true;
            self.hand_out(bytes, high_watermark, Ok(records));
        } else {
            self.outlet.heard(high_watermark);
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
        self.granted = self.granted.saturating_sub_unsigned(bytes);
        let (partition, tally) = (self.name.clone(), Arc::clone(&self.tally));
        let read = ReadBytes { bytes, partition, tally };
        self.outlet.put(Chunk { high_watermark, records, read });
    }

    /// What the end of a stream means.
    fn ended(&self, address: &str, status: &tonic::Status) -> Failure {
        let error = Error::from_status(address, status);
        match (&error, error.code()) {
            // Retention was faster than the first read: records begin elsewhere now.
            (_, Some(ErrorCode::OffsetOutOfRange))
                if self.start == Position::Earliest && !self.has_begun =>
            {
                Failure::Interrupted(error)
            }
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
