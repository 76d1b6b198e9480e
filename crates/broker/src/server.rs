//! The two gRPC listeners: which services they show, and within which limits.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use tidelog_proto::v1::admin_service_server::AdminServiceServer;
use tidelog_proto::v1::group_service_server::GroupServiceServer;
use tidelog_proto::v1::log_service_server::LogServiceServer;
use tidelog_proto::v1::metadata_service_server::MetadataServiceServer;
use tidelog_proto::v1::raft_service_server::RaftServiceServer;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::layer::util::{Identity, Stack};
use tower::{Layer, Service};
use tracing::{error, warn};

use crate::controller::ControllerServer;
use crate::core::Core;
use crate::environment::{Listener, ListenerName};
use crate::guard::Guarded;
use crate::intake::IntakeLayer;
use crate::limits;
use crate::services::{Api, SwitchingRaft};

/// Pause after a connection could not be accepted: most likely there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn pause_after_failed_accept() {
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

fn builder() -> Server {
    Server::builder()
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_frame_size(limits::FRAME_BYTES_MAX)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(limits::HEADERS_BYTES_MAX)
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
}

macro_rules! limited {
    ($server:expr) => {
        $server
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX)
    };
}

/// What clients see.
pub(crate) fn client_router(
    core: &Arc<Core>,
    health: &HealthReporter,
) -> Router<Stack<IntakeLayer, Identity>> {
    let api = Arc::new(Api::new(Arc::clone(core), ListenerName::Client));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tidelog_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were generated with the code");
    let health = HealthServer::new(HealthService::from_health_reporter(health.clone()));
    builder()
        .layer(IntakeLayer(Arc::clone(core)))
        .add_service(limited!(LogServiceServer::from_arc(Arc::clone(&api))))
        .add_service(limited!(MetadataServiceServer::from_arc(Arc::clone(&api))))
        .add_service(limited!(GroupServiceServer::from_arc(Arc::clone(&api))))
        .add_service(limited!(AdminServiceServer::from_arc(api)))
        .add_service(health)
        .add_service(reflection)
}

/// What the other brokers see.
pub(crate) fn internal_router(core: &Arc<Core>, raft: SwitchingRaft) -> Router {
    let api = Arc::new(Api::new(Arc::clone(core), ListenerName::Internal));
    let raft = RaftServiceServer::new(raft)
        .max_decoding_message_size(limits::RAFT_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::RAFT_MESSAGE_BYTES_MAX);
    builder()
        .max_concurrent_streams(limits::INTERNAL_STREAMS_PER_CONNECTION_MAX)
        .add_service(raft)
        .add_service(limited!(LogServiceServer::from_arc(Arc::clone(&api))))
        .add_service(limited!(GroupServiceServer::from_arc(Arc::clone(&api))))
        .add_service(limited!(AdminServiceServer::from_arc(api)))
        .add_service(ControllerServer(Arc::clone(core)))
}

/// Serves `router` on `listener` until `stop` completes; then lets what is open end.
pub(crate) async fn serve<L>(
    core: Arc<Core>,
    name: ListenerName,
    router: Router<L>,
    listener: Box<dyn Listener>,
    stop: impl Future<Output = ()>,
) where
    L: Layer<Routes> + Send + 'static,
    L::Service: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    <L::Service as Service<Request<Body>>>::Future: Send,
{
    let most = match name {
        ListenerName::Client => core.config.limits.connections as usize,
        ListenerName::Internal | ListenerName::Http => limits::INTERNAL_CONNECTIONS_MAX,
    };
    let incoming = connections(name, listener, Arc::new(Semaphore::new(most)));
    if let Err(err) = router.serve_with_incoming_shutdown(incoming, stop).await {
        error!(%err, listener = %name, "a listener failed");
    }
}

fn connections(
    name: ListenerName,
    listener: Box<dyn Listener>,
    room: Arc<Semaphore>,
) -> impl Stream<Item = io::Result<Guarded>> {
    unfold((listener, room), move |(mut listener, room)| async move {
        loop {
            // Beyond the limit nobody is accepted: new connections wait in the system's queue.
            let permit = Arc::clone(&room).acquire_owned().await.ok()?;
            match listener.accept().await {
                Ok(io) => {
                    let guarded = Guarded::new(io, permit, limits::HANDSHAKE_TIMEOUT);
                    return Some((Ok(guarded), (listener, room)));
                }
                Err(err) => {
                    warn!(%err, listener = %name, "connection was not accepted");
                    pause_after_failed_accept().await;
                }
            }
        }
    })
}
