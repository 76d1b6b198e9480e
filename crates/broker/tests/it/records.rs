//! Producing and reading, as a client that knows only the wire.

use bytes::Bytes;
use futures_util::StreamExt;
use tidelog_proto::v1::fetch_request::Request as Asked;
use tidelog_proto::v1::fetch_until::Until;
use tidelog_proto::v1::log_service_client::LogServiceClient;
use tidelog_proto::v1::offset_spec::Spec;
use tidelog_proto::v1::produce_response::Result as Answer;
use tidelog_proto::v1::{
    Appended, Error, FetchOpen, FetchRequest, FetchUntil, OffsetBound, ProduceRequest,
    ProduceResponse,
};
use tidelog_types::batch::{Builder, Codec, NewRecord, records};
use tidelog_types::{ProducerEpoch, ProducerId, Timestamp};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// A batch of these values.
pub(crate) fn batch(values: &[&str], producer: Option<(i64, i16, i32)>) -> Bytes {
    let mut builder = Builder::new();
    for value in values {
        let value = Some(value.as_bytes());
        let record = NewRecord { value, timestamp: Timestamp(1_000), ..NewRecord::default() };
        builder.push(&record).unwrap();
    }
    let producer =
        producer.map(|(id, epoch, sequence)| (ProducerId(id), ProducerEpoch(epoch), sequence));
    builder.finish(Codec::None, producer).unwrap()
}

/// A produce stream.
pub(crate) struct Produce {
    pub(crate) requests: mpsc::Sender<ProduceRequest>,
    pub(crate) answers: Streaming<ProduceResponse>,
    next: u64,
}

impl Produce {
    pub(crate) async fn open(mut client: LogServiceClient<Channel>) -> Self {
        let (requests, queue) = mpsc::channel(1024);
        let answers = client.produce(ReceiverStream::new(queue)).await.unwrap().into_inner();
        Self { requests, answers, next: 0 }
    }

    /// Sends a batch without waiting; gives its correlation id.
    pub(crate) async fn send(&mut self, topic: &str, partition: u32, batch: Bytes) -> u64 {
        self.next += 1;
        let request = ProduceRequest {
            correlation_id: self.next,
            topic: topic.to_owned(),
            partition,
            batch,
            timeout_ms: 10_000,
            topic_id: String::new(),
        };
        self.requests.send(request).await.unwrap();
        self.next
    }

    /// The next answer, whatever it is to.
    pub(crate) async fn answer(&mut self) -> (u64, Result<Appended, Error>) {
        let answer = self.answers.next().await.expect("an answer").expect("no status");
        let result = match answer.result.unwrap() {
            Answer::Appended(appended) => Ok(appended),
            Answer::Error(error) => Err(error),
        };
        (answer.correlation_id, result)
    }

    /// Sends a batch and waits for its answer.
    pub(crate) async fn put(
        &mut self,
        topic: &str,
        partition: u32,
        batch: Bytes,
    ) -> Result<Appended, Error> {
        let id = self.send(topic, partition, batch).await;
        let (answered, result) = self.answer().await;
        assert_eq!(answered, id);
        result
    }
}

/// Opens a fetch stream; the sender grants credit.
pub(crate) async fn fetch(
    mut client: LogServiceClient<Channel>,
    open: FetchOpen,
) -> Result<(mpsc::Sender<FetchRequest>, Streaming<tidelog_proto::v1::FetchResponse>), Status> {
    let (requests, queue) = mpsc::channel(16);
    requests.send(FetchRequest { request: Some(Asked::Open(open)) }).await.unwrap();
    let answers = client.fetch(ReceiverStream::new(queue)).await?.into_inner();
    Ok((requests, answers))
}

/// A fetch of everything that is there now.
pub(crate) fn all(topic: &str, partition: u32) -> FetchOpen {
    FetchOpen {
        topic: topic.to_owned(),
        partition,
        start: Some(OffsetBound::Earliest.into()),
        until: Some(FetchUntil { until: Some(Until::End(true)) }),
        credit_bytes: u64::MAX,
        ..FetchOpen::default()
    }
}

/// A fetch from an offset, without end.
pub(crate) fn from(topic: &str, partition: u32, offset: i64, credit_bytes: u64) -> FetchOpen {
    FetchOpen {
        start: Some(Spec::Offset(offset).into()),
        until: None,
        credit_bytes,
        ..all(topic, partition)
    }
}

/// The values in some batches, with their offsets.
pub(crate) fn values(batches: &[Bytes]) -> Vec<(u64, String)> {
    let records = batches.iter().flat_map(|batch| records(batch, 1 << 20).unwrap());
    let value = |record: tidelog_types::batch::Record| {
        let value = record.value.unwrap();
        (record.offset.0, String::from_utf8(value.to_vec()).unwrap())
    };
    records.map(|record| value(record.unwrap())).collect()
}

/// Everything that is in a partition, read from its leader.
pub(crate) async fn read_all(
    client: LogServiceClient<Channel>,
    topic: &str,
    partition: u32,
) -> Result<Vec<(u64, String)>, Status> {
    let (_credit, mut answers) = fetch(client, all(topic, partition)).await?;
    let mut found = Vec::new();
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        found.extend(values(&answer.batches));
        if answer.end_of_range {
            assert!(answers.next().await.is_none(), "the stream ends behind the end");
            break;
        }
    }
    Ok(found)
}
