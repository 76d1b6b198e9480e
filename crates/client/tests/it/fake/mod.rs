//! A cluster in memory behind real sockets: each broker has a runtime of its own, so that it can be
//! killed like a process. All brokers share one world, in which a test moves leaders and plants faults.

mod admin;
mod fetch;
mod group;
mod groups;
mod metadata;
mod produce;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;

use tidelog_client::{Client, ClientBuilder};
use tidelog_proto::v1::admin_service_server::AdminServiceServer;
use tidelog_proto::v1::group_service_server::GroupServiceServer;
use tidelog_proto::v1::log_service_server::LogServiceServer;
use tidelog_proto::v1::metadata_service_server::MetadataServiceServer;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

pub(crate) use group::Group;
pub(crate) use world::{Fault, PATIENCE, World, fill};

const BYTES_MAX: usize = 32 << 20;

/// One broker's services.
#[derive(Clone)]
pub(crate) struct Broker {
    pub(crate) id: u32,
    pub(crate) world: Arc<World>,
}

/// Brokers 1 to n.
pub(crate) struct Cluster {
    pub(crate) world: Arc<World>,
    runtimes: Vec<Option<Runtime>>,
}

impl Cluster {
    pub(crate) fn start(brokers: u32) -> Self {
        let world = Arc::new(World::default());
        let runtimes =
            (1..=brokers).map(|id| Some(serve(Broker { id, world: Arc::clone(&world) })));
        let runtimes = runtimes.collect();
        Self { world, runtimes }
    }

    pub(crate) fn address(&self, broker: u32) -> String {
        self.world.address(broker)
    }

    pub(crate) fn client(&self) -> ClientBuilder {
        Client::builder(self.world.addresses())
    }

    /// Closes the broker's port and all its connections at once.
    pub(crate) fn kill(&mut self, broker: u32) {
        if let Some(runtime) = self.runtimes[broker as usize - 1].take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A runtime may not be dropped where tasks run, but it may be told to go.
        for runtime in self.runtimes.drain(..).flatten() {
            runtime.shutdown_background();
        }
    }
}

fn serve(broker: Broker) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listener.set_nonblocking(true).unwrap();
    broker.world.register(broker.id, listener.local_addr().unwrap().to_string());
    runtime.spawn(async move {
        let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
        let log = LogServiceServer::new(broker.clone())
            .max_decoding_message_size(BYTES_MAX)
            .max_encoding_message_size(BYTES_MAX);
        let served = Server::builder()
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(32 << 20)
            .add_service(log)
            .add_service(MetadataServiceServer::new(broker.clone()))
            .add_service(GroupServiceServer::new(broker.clone()))
            .add_service(AdminServiceServer::new(broker))
            .serve_with_incoming(incoming);
        served.await.unwrap();
    });
    runtime
}
