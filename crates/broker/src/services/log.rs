//! `LogService`: writing and reading records.

use std::pin::Pin;

use futures_util::stream::Stream;
use tidelog_proto::v1::log_service_server::LogService;
use tidelog_proto::v1::{
    Error, FetchRecordsRequest, FetchRecordsResponse, FetchRequest, FetchResponse,
    InitProducerRequest, InitProducerResponse, ListOffsetsRequest, ListOffsetsResponse,
    ProduceRecordsRequest, ProduceRecordsResponse, ProduceRequest, ProduceResponse,
    ProducerIdentity,
};
use tidelog_types::ProducerEpoch;
use tonic::{Request, Response, Status, Streaming};

use super::produce::ProduceStream;
use super::{Api, fetch, invalid, offsets, records};
use crate::access::{Operation, Resource};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl LogService for Api {
    type ProduceStream = Answers<ProduceResponse>;
    type FetchStream = Answers<FetchResponse>;

    async fn produce(
        &self,
        request: Request<Streaming<ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let stream = ProduceStream::new(self.clone(), request.into_inner());
        Ok(Response::new(Box::pin(stream)))
    }

    async fn fetch(
        &self,
        request: Request<Streaming<FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let stream = fetch::open(self.clone(), request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_offsets(
        &self,
        request: Request<ListOffsetsRequest>,
    ) -> Result<Response<ListOffsetsResponse>, Status> {
        Ok(Response::new(offsets::list(self, request.into_inner()).await?))
    }

    async fn init_producer(
        &self,
        request: Request<InitProducerRequest>,
    ) -> Result<Response<InitProducerResponse>, Status> {
        let identity = self.identity(request.into_inner().held).await?;
        Ok(Response::new(InitProducerResponse { identity: Some(identity) }))
    }

    async fn produce_records(
        &self,
        request: Request<ProduceRecordsRequest>,
    ) -> Result<Response<ProduceRecordsResponse>, Status> {
        Ok(Response::new(records::produce(self, request.into_inner()).await?))
    }

    async fn fetch_records(
        &self,
        request: Request<FetchRecordsRequest>,
    ) -> Result<Response<FetchRecordsResponse>, Status> {
        let (answer, held) = records::fetch(self, request.into_inner()).await?;
        let mut answer = Response::new(answer);
        answer.extensions_mut().insert(held);
        Ok(answer)
    }
}

impl Api {
    /// The next epoch of the identity that is held, or a new one.
    async fn identity(&self, held: Option<ProducerIdentity>) -> Result<ProducerIdentity, Error> {
        self.allow(Operation::Write, Resource::Cluster)?;
        let cluster = self.core.cluster()?;
        if let Some(held) = held {
            let parts = held.parts();
            let (id, epoch) = parts.ok_or_else(|| invalid(format!("no producer is {held:?}")))?;
            if let Some(epoch) = epoch.0.checked_add(1) {
                return Ok((id, ProducerEpoch(epoch)).into());
            }
        }
        let id = cluster.producer_ids.take(&cluster).await?;
        Ok((id, ProducerEpoch(0)).into())
    }
}
