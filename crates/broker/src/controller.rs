//! How a broker reaches the leader of the metadata group: one call between brokers.
//!
//! ```text
//! /tidelog.v1.ControllerService/Command      on the internal listener only
//! request    1 command bytes    a metadata command; empty: only catch up
//!            2 forward bool     pass it on to the leader: from a broker that joins, and knows none
//! response   1 reply   bytes    the machine's reply; empty for an empty command
//!            2 applied uint64   index of an entry as of which the reply holds
//! ```
//! Whoever is not the leader answers `NOT_CONTROLLER`, unless it is to forward; nobody forwards what
//! was forwarded.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use prost::Message;
use tidelog_proto::v1::Error;
use tidelog_raft::{CommandError, Metadata};
use tidelog_state::metadata::{Command, encode_reply};
use tidelog_types::{ErrorCode, LogIndex};
use tokio::time::Instant;
use tonic::body::Body as TonicBody;
use tonic::codegen::{Body, StdError, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use crate::core::Core;
use crate::limits;

/// How long the leader may take to answer what is passed on to it.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);

const PATH: &str = "/tidelog.v1.ControllerService/Command";

/// Asks the leader.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CommandRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) command: Bytes,
    #[prost(bool, tag = "2")]
    pub(crate) forward: bool,
}

/// The leader's answer.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CommandResponse {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) reply: Bytes,
    #[prost(uint64, tag = "2")]
    pub(crate) applied: u64,
}

/// Asks over `channel`.
pub(crate) async fn call(
    channel: Channel,
    request: CommandRequest,
) -> Result<CommandResponse, Status> {
    let mut grpc = tonic::client::Grpc::new(channel)
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
    grpc.ready().await.map_err(|err| Status::unavailable(err.to_string()))?;
    let path = http::uri::PathAndQuery::from_static(PATH);
    let codec = ProstCodec::<CommandRequest, CommandResponse>::default();
    Ok(grpc.unary(Request::new(request), path, codec).await?.into_inner())
}

/// Carries a command out, as the leader.
pub(crate) async fn execute(
    metadata: &Metadata,
    request: &CommandRequest,
) -> Result<CommandResponse, CommandError> {
    let reply = if request.command.is_empty() {
        metadata.linearize().await?;
        Bytes::new()
    } else {
        let command = Command::decode(&request.command).map_err(|_| CommandError::Unknown)?;
        let permitted = metadata.view().borrow().permits(&command);
        let proposed = match permitted {
            Ok(()) => metadata.propose(&command).await,
            Err(refusal) => Err(refusal.into()),
        };
        match proposed {
            Ok(outcome) => encode_reply(&Ok(outcome)).into(),
            Err(CommandError::Refused(refusal)) => encode_reply(&Err(refusal)).into(),
            Err(other) => return Err(other),
        }
    };
    let applied = metadata.view().borrow().applied().map_or(LogIndex::ZERO, |at| at.index);
    Ok(CommandResponse { reply, applied: applied.0 })
}

/// The service on the internal listener.
#[derive(Clone, Debug)]
pub(crate) struct ControllerServer(pub(crate) Arc<Core>);

impl ControllerServer {
    async fn command(&self, request: &CommandRequest) -> Result<CommandResponse, Error> {
        let cluster = self.0.cluster()?;
        if !request.command.is_empty()
            && let Err(err) = Command::decode(&request.command)
        {
            return Err(Error::new(ErrorCode::InvalidRequest, err.to_string()));
        }
        if request.forward {
            let asked = CommandRequest { forward: false, ..request.clone() };
            return cluster.ask_controller(&asked, Instant::now() + FORWARD_TIMEOUT).await;
        }
        execute(&cluster.metadata, request).await.map_err(|err| match err {
            CommandError::NotLeader { .. } => Error::new(
                ErrorCode::NotController,
                format!("broker {} does not lead the metadata", self.0.config.broker().0),
            ),
            _ => Error::new(ErrorCode::RequestTimedOut, err.to_string()),
        })
    }
}

impl NamedService for ControllerServer {
    const NAME: &'static str = "tidelog.v1.ControllerService";
}

impl UnaryService<CommandRequest> for ControllerServer {
    type Response = CommandResponse;
    type Future = BoxFuture<'static, Result<Response<CommandResponse>, Status>>;

    fn call(&mut self, request: Request<CommandRequest>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let response = server.command(request.get_ref()).await;
            Ok(Response::new(response?))
        })
    }
}

impl<B> Service<http::Request<B>> for ControllerServer
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<TonicBody>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let method = self.clone();
        Box::pin(async move {
            if request.uri().path() != PATH {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let most = Some(limits::MESSAGE_BYTES_MAX);
            let codec = ProstCodec::<CommandResponse, CommandRequest>::default();
            let mut grpc = Grpc::new(codec).apply_max_message_size_config(most, most);
            Ok(grpc.unary(method, request).await)
        })
    }
}
