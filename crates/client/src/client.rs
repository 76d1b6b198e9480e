//! The client: connections and metadata, and what is made from them.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Cluster, ClusterConfig};
use crate::settings::{millis, refuse};
use crate::{
    Admin, BatchHandler, ConsumerBuilder, Environment, Error, Handler, IntoTopicName,
    ProducerBuilder, ReaderBuilder, RunnerBuilder,
};

/// A client that looked its topics up more often would do little else.
const METADATA_AGE_MIN: Duration = Duration::from_millis(100);

/// Connections to a cluster and what is known about it. Cheap to clone; all clones share both.
#[derive(Clone, Debug)]
pub struct Client {
    cluster: Arc<Cluster>,
}

impl Client {
    /// A builder of a client that first asks the brokers at `bootstrap`, each a `host:port`.
    pub fn builder<A: ToString>(bootstrap: impl IntoIterator<Item = A>) -> ClientBuilder {
        let bootstrap = bootstrap.into_iter().map(|address| address.to_string()).collect();
        ClientBuilder {
            config: ClusterConfig::new(bootstrap),
            environment: Environment::default(),
            refused: None,
        }
    }

    /// The id of the cluster.
    #[must_use]
    pub fn cluster_id(&self) -> String {
        self.cluster.cluster_id()
    }

    /// A builder of a producer.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(Arc::clone(&self.cluster))
    }

    /// A builder of a consumer, a member of `group`.
    pub fn consumer(&self, group: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder::new(Arc::clone(&self.cluster), group.into())
    }

    /// A builder of a runner, which calls `handler` for each record of `topics` as a member of `group`.
    pub fn run<T: IntoTopicName>(
        &self,
        group: impl Into<String>,
        topics: impl IntoIterator<Item = T>,
        handler: impl Handler,
    ) -> RunnerBuilder {
        RunnerBuilder::records(self, group.into(), topics, handler)
    }

    /// A builder of a runner, which calls `handler` for several records of a partition at a time.
    pub fn run_batches<T: IntoTopicName>(
        &self,
        group: impl Into<String>,
        topics: impl IntoIterator<Item = T>,
        handler: impl BatchHandler,
    ) -> RunnerBuilder {
        RunnerBuilder::batches(self, group.into(), topics, handler)
    }

    pub(crate) fn environment(&self) -> &Environment {
        self.cluster.environment()
    }

    /// A builder of a reader.
    pub fn reader(&self) -> ReaderBuilder {
        ReaderBuilder::new(Arc::clone(&self.cluster))
    }

    /// What changes and describes the cluster.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.cluster))
    }
}

/// Sets a [`Client`] up.
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder {
    config: ClusterConfig,
    environment: Environment,
    refused: Option<Error>,
}

impl ClientBuilder {
    /// Names this client in the brokers' logs. Default `tidelog-client`.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.config.client_id = id.into();
        self
    }

    /// Connects to this cluster only, see [`Client::cluster_id`]. Default: to any.
    pub fn cluster(mut self, id: impl Into<String>) -> Self {
        self.config.cluster_id = Some(id.into());
        self
    }

    /// How long [`ClientBuilder::connect`] may take in all. Default 4 s. Too small gives up on brokers
    /// that are busy; too large keeps a user waiting for an address that is wrong.
    pub fn connect_timeout(mut self, within: Duration) -> Self {
        self.config.connect_timeout = within;
        self
    }

    /// How long an administrative call may take. Default 15 s. Too small gives up on elections; too
    /// large keeps a user waiting.
    pub fn request_timeout(mut self, within: Duration) -> Self {
        self.config.request_timeout = within;
        self
    }

    /// How old what a producer knows of a topic may become before it looks for new partitions. Default
    /// 60 s, at least 100 ms. Too small asks brokers for nothing; too large leaves new partitions empty.
    pub fn metadata_age(mut self, age: Duration) -> Self {
        self.config.metadata_age = age.max(METADATA_AGE_MIN);
        self
    }

    /// Where sockets, times and random numbers come from. Default: the real world.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Sets by Kafka's name: `client.id`, `metadata.max.age.ms`, `request.timeout.ms`,
    /// `socket.connection.setup.timeout.ms`.
    /// What is wrong with it is told by [`ClientBuilder::connect`].
    pub fn set(mut self, key: &str, value: &str) -> Self {
        if let Err(error) = self.try_set(key, value) {
            self.refused.get_or_insert(error);
        }
        self
    }

    fn try_set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        match key {
            "client.id" => self.config.client_id = value.to_owned(),
            "metadata.max.age.ms" => {
                self.config.metadata_age = millis(key, value)?.max(METADATA_AGE_MIN);
            }
            "request.timeout.ms" => self.config.request_timeout = millis(key, value)?,
            "socket.connection.setup.timeout.ms" => {
                self.config.connect_timeout = millis(key, value)?;
            }
            _ => return Err(refuse(key, value, "is not a setting of a client")),
        }
        Ok(())
    }

    /// Asks the bootstrap brokers for the cluster, all at once; the first that answers will do.
    ///
    /// Cancel safe: nothing is left behind.
    ///
    /// # Errors
    /// [`Error::Unreachable`] names every address with what was wrong with it, [`Error::NotFormed`]
    /// says for whom the brokers wait.
    pub async fn connect(self) -> Result<Client, Error> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        if self.config.bootstrap.is_empty() {
            return Err(refuse("bootstrap.servers", "", "names no broker"));
        }
        let cluster = Arc::new(Cluster::new(self.config, self.environment)?);
        cluster.connect().await?;
        Ok(Client { cluster })
    }
}
