//! Writing, and the calls of the log service that are not streams.

use std::pin::Pin;

use tidelog_proto::v1::log_service_server::LogService;
use tidelog_proto::v1::offset_spec::Spec;
use tidelog_proto::v1::{self, Error, ProduceRequest, ProduceResponse};
use tidelog_types::{ErrorCode, batch};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::Broker;
use super::world::Fault;

pub(super) type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The stream breaks.
struct Broken;

impl Broker {
    /// Answers a batch, or breaks the stream.
    fn take(&self, request: &ProduceRequest) -> Result<Result<v1::Appended, Error>, Broken> {
        let ProduceRequest { topic, topic_id, batch, .. } = request;
        let at = request.partition as usize;
        self.world.change(|state| {
            if let Err(error) = state.check_leader(self.id, topic, topic_id, at) {
                return Ok(Err(error));
            }
            let partition = state.partition(topic, at).unwrap();
            let fault = partition.faults.pop_front().unwrap_or(Fault::Pass);
            match fault {
                Fault::Refuse(error) => return Ok(Err(error)),
                Fault::LoseRequest => return Err(Broken),
                Fault::Move { to, hint } => {
                    state.move_leader(topic, at, to);
                    let error = state.check_leader(self.id, topic, topic_id, at).err();
                    let error = error.unwrap_or_else(|| Error::new(ErrorCode::NotLeader, "moved"));
                    let leader = error.leader.clone().filter(|_| hint);
                    return Ok(Err(error.with_leader(leader)));
                }
                _ => {}
            }
            let partition = state.partition(topic, at).unwrap();
            let appended = match partition.append(batch) {
                Ok(appended) => appended,
                Err(error) => return Ok(Err(error)),
            };
            match fault {
                Fault::LoseAnswer => Err(Broken),
                Fault::AnswerUnknown => {
                    Ok(Err(Error::new(ErrorCode::RequestTimedOut, "no quorum")))
                }
                _ => Ok(Ok(v1::Appended {
                    base_offset: appended.base_offset as i64,
                    append_time_ms: 7,
                    log_start: partition.log_start as i64,
                    duplicate: appended.duplicate,
                    leader_epoch: partition.epoch,
                })),
            }
        })
    }

    async fn produce_all(
        self,
        mut requests: Streaming<ProduceRequest>,
        answers: mpsc::UnboundedSender<Result<ProduceResponse, Status>>,
    ) {
        use v1::produce_response::Result as Outcome;
        while let Some(Ok(request)) = requests.next().await {
            self.world.thaw(self.id).await;
            let Ok(outcome) = self.take(&request) else {
                // Whoever reads may be gone.
                let _ = answers.send(Err(Status::unavailable("broke off")));
                return;
            };
            self.world.wait(|state| !state.holding).await;
            let result = Some(match outcome {
                Ok(appended) => Outcome::Appended(appended),
                Err(error) => Outcome::Error(error),
            });
            let correlation_id = request.correlation_id;
            if answers.send(Ok(ProduceResponse { correlation_id, result })).is_err() {
                return;
            }
        }
    }
}

#[tonic::async_trait]
impl LogService for Broker {
    type ProduceStream = Outgoing<ProduceResponse>;
    type FetchStream = Outgoing<v1::FetchResponse>;

    async fn produce(
        &self,
        request: Request<Streaming<ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        self.world.thaw(self.id).await;
        let (answers, outgoing) = mpsc::unbounded_channel();
        tokio::spawn(self.clone().produce_all(request.into_inner(), answers));
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(outgoing))))
    }

    async fn fetch(
        &self,
        request: Request<Streaming<v1::FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        self.world.thaw(self.id).await;
        let (answers, outgoing) = mpsc::unbounded_channel();
        tokio::spawn(self.clone().fetch_all(request.into_inner(), answers));
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(outgoing))))
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        use v1::list_offsets_result::Result as Listed;
        let mut state = self.world.state();
        let results = request.into_inner().items.into_iter().map(|item| {
            let at = item.partition as usize;
            let result = match state.check_leader(self.id, &item.topic, "", at) {
                Err(error) => Listed::Error(error),
                Ok(()) if state.lookups_refused > 0 => {
                    state.lookups_refused -= 1;
                    Listed::Error(Error::new(ErrorCode::OffsetNotAvailable, "not yet"))
                }
                Ok(()) => {
                    let partition = state.partition(&item.topic, at).unwrap();
                    let (offset, time_ms) = match item.spec.and_then(|spec| spec.spec) {
                        Some(Spec::TimeMs(time)) => partition.find(time),
                        Some(Spec::Offset(offset)) => {
                            (offset as u64, partition.time(offset as u64))
                        }
                        Some(Spec::Bound(1)) => (partition.log_start, -1),
                        _ => (partition.next_offset, -1),
                    };
                    let (offset, leader_epoch) = (offset as i64, partition.epoch);
                    Listed::Found(v1::ListedOffset { offset, time_ms, leader_epoch })
                }
            };
            v1::ListOffsetsResult { result: Some(result) }
        });
        Ok(Response::new(v1::ListOffsetsResponse { results: results.collect() }))
    }

    async fn init_producer(
        &self,
        request: Request<v1::InitProducerRequest>,
    ) -> Result<Response<v1::InitProducerResponse>, Status> {
        self.world.thaw(self.id).await;
        let identity = self.world.change(|state| match request.into_inner().held {
            Some(held) => {
                state.epochs_taken += 1;
                v1::ProducerIdentity { producer_epoch: held.producer_epoch + 1, ..held }
            }
            None => {
                state.producer_next += 1;
                v1::ProducerIdentity { producer_id: state.producer_next, producer_epoch: 0 }
            }
        });
        Ok(Response::new(v1::InitProducerResponse { identity: Some(identity) }))
    }

    async fn produce_records(
        &self,
        _: Request<v1::ProduceRecordsRequest>,
    ) -> Result<Response<v1::ProduceRecordsResponse>, Status> {
        Err(Status::unimplemented("not for this client"))
    }

    async fn fetch_records(
        &self,
        _: Request<v1::FetchRecordsRequest>,
    ) -> Result<Response<v1::FetchRecordsResponse>, Status> {
        Err(Status::unimplemented("not for this client"))
    }
}

impl super::world::Partition {
    /// When the record at `offset` was made; -1 when there is none.
    fn time(&self, offset: u64) -> i64 {
        let batches = self.log.iter().flat_map(|(_, b)| batch::records(b, 1 << 30).unwrap());
        let mut records = batches.map(Result::unwrap);
        let found = records.find(|record| record.offset.0 == offset);
        found.map_or(-1, |record| record.timestamp.0)
    }

    /// The first record of this time or later.
    pub(super) fn find(&self, time: i64) -> (u64, i64) {
        let batches = self.log.iter().flat_map(|(_, b)| batch::records(b, 1 << 30).unwrap());
        let mut records = batches.map(Result::unwrap);
        let found = records.find(|record| record.timestamp.0 >= time);
        found.map_or((self.next_offset, -1), |record| (record.offset.0, record.timestamp.0))
    }
}
