//! `RaftService` of the internal listener: introduces the broker from the start, and carries all
//! groups once there is a node.

use std::sync::{Arc, PoisonError, RwLock};

use tidelog_proto::v1::raft_service_server::RaftService;
use tidelog_proto::v1::{
    ExchangeRequest, InstallSnapshotRequest, InstallSnapshotResponse, IntroduceRequest,
    IntroduceResponse, ReadLogRequest, SurveyRequest, SurveyResponse,
};
use tidelog_raft::RaftServer;
use tonic::{Request, Response, Status, Streaming};

/// The service, whatever phase the broker is in.
#[derive(Clone, Debug)]
pub(crate) struct SwitchingRaft(Arc<RwLock<RaftServer>>);

impl SwitchingRaft {
    pub(crate) fn new(server: RaftServer) -> Self {
        Self(Arc::new(RwLock::new(server)))
    }

    /// From now on `server` answers.
    pub(crate) fn switch(&self, server: RaftServer) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = server;
    }

    fn server(&self) -> RaftServer {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tonic::async_trait]
impl RaftService for SwitchingRaft {
    type ExchangeStream = <RaftServer as RaftService>::ExchangeStream;
    type ReadLogStream = <RaftServer as RaftService>::ReadLogStream;

    async fn introduce(
        &self,
        request: Request<IntroduceRequest>,
    ) -> Result<Response<IntroduceResponse>, Status> {
        self.server().introduce(request).await
    }

    async fn exchange(
        &self,
        request: Request<Streaming<ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        self.server().exchange(request).await
    }

    async fn read_log(
        &self,
        request: Request<ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        self.server().read_log(request).await
    }

    async fn survey(
        &self,
        request: Request<SurveyRequest>,
    ) -> Result<Response<SurveyResponse>, Status> {
        self.server().survey(request).await
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<InstallSnapshotRequest>>,
    ) -> Result<Response<InstallSnapshotResponse>, Status> {
        self.server().install_snapshot(request).await
    }
}
