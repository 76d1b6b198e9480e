//! The cluster as a client sees it: brokers, connections, topics and their leaders.

mod any;
mod channel;
mod metadata;
mod refresh;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidelog_proto::v1::metadata_service_client::MetadataServiceClient;
use tidelog_proto::v1::{self, DescribeClusterRequest, DescribeClusterResponse};
use tidelog_types::ErrorCode;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Response, Status};

pub(crate) use any::{Patience, Preferred};
pub(crate) use channel::{BATCH_MESSAGE_BYTES_MAX, RESPONSE_BYTES_MAX};
pub(crate) use metadata::{Leader, TopicFacts};

use crate::error::Attempt;
use crate::{Environment, Error};
use metadata::Metadata;
use refresh::Flights;

/// How long one broker is waited for before the next is asked too.
const HEDGE: Duration = Duration::from_millis(150);

/// How a client talks to its cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterConfig {
    pub(crate) bootstrap: Vec<String>,
    pub(crate) client_id: String,
    pub(crate) cluster_id: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) metadata_age: Duration,
}

impl ClusterConfig {
    pub(crate) fn new(bootstrap: Vec<String>) -> Self {
        Self {
            bootstrap,
            client_id: "tidelog-client".to_owned(),
            cluster_id: None,
            connect_timeout: Duration::from_secs(4),
            request_timeout: Duration::from_secs(15),
            metadata_age: Duration::from_secs(60),
        }
    }
}

/// Connections and metadata, shared by everything that a client made.
///
/// Calls go over one connection per broker, which `control` keeps; streams of records have
/// connections of their own, so that an answer about leaders never waits behind megabytes.
pub(crate) struct Cluster {
    config: ClusterConfig,
    environment: Environment,
    control: Mutex<HashMap<String, Channel>>,
    metadata: Metadata,
    flights: Flights,
}

/// Pause before brokers that know of no cluster are asked again.
const UNFORMED_PAUSE: Duration = Duration::from_millis(100);

/// Asks one broker about its cluster. One that has just started knows of none yet; that is a refusal
/// like any other that may pass, so that another broker is asked.
async fn describe(channel: Channel) -> Result<Response<DescribeClusterResponse>, Status> {
    let described = MetadataServiceClient::new(channel)
        .max_decoding_message_size(RESPONSE_BYTES_MAX)
        .describe_cluster(DescribeClusterRequest {})
        .await?;
    if described.get_ref().cluster_id.is_empty() {
        let waiting_for = described.into_inner().waiting_for;
        return Err(v1::Error::new(ErrorCode::ClusterNotFormed, waiting_for).into());
    }
    Ok(described)
}

impl Cluster {
    pub(crate) fn new(config: ClusterConfig, environment: Environment) -> Result<Self, Error> {
        for address in &config.bootstrap {
            channel::endpoint(address, &config.client_id)?;
        }
        Ok(Self {
            config,
            environment,
            control: Mutex::default(),
            metadata: Metadata::default(),
            flights: Flights::default(),
        })
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub(crate) fn cluster_id(&self) -> String {
        self.metadata.cluster_id()
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.config.client_id
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.config.request_timeout
    }

    /// How old what is known of a topic may become before it is looked up again.
    pub(crate) fn metadata_age(&self) -> Duration {
        self.config.metadata_age
    }

    /// Learns of the cluster from whichever broker answers first.
    pub(crate) async fn connect(&self) -> Result<(), Error> {
        let described = self.describe_formed(self.config.connect_timeout).await?;
        match &self.config.cluster_id {
            Some(expected) if *expected != described.cluster_id => {
                Err(Error::OtherCluster { expected: expected.clone(), found: described.cluster_id })
            }
            _ => Ok(()),
        }
    }

    /// The cluster, asking on in time while no broker belongs to one.
    async fn describe_formed(&self, within: Duration) -> Result<DescribeClusterResponse, Error> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.describe(left).await {
                Err(Error::NotFormed { .. }) if Instant::now() + UNFORMED_PAUSE < deadline => {
                    sleep(UNFORMED_PAUSE).await;
                }
                described => return described,
            }
        }
    }

    /// The cluster as whichever broker answers first describes it.
    pub(crate) async fn describe(
        &self,
        within: Duration,
    ) -> Result<DescribeClusterResponse, Error> {
        let described = self.ask_any(within, describe).await.map_err(not_formed)?;
        self.metadata.learn_brokers(&described.cluster_id, &described.brokers);
        Ok(described)
    }

    /// A connection of its own to `address`, made when it is first used and again when it broke.
    pub(crate) fn dial(&self, address: &str) -> Result<Channel, Error> {
        channel::dial(&self.environment, address, &self.config.client_id)
    }

    /// Every address that may answer, once each: brokers that the cluster named, then bootstrap ones.
    /// They start at a random one, to spread load; `avoid` comes last.
    pub(crate) fn addresses(&self, avoid: Option<&str>) -> Vec<String> {
        let mut addresses = self.metadata.broker_addresses();
        if !addresses.is_empty() {
            let start = self.environment.entropy.next() % addresses.len() as u64;
            addresses.rotate_left(start as usize);
        }
        let unnamed = self.config.bootstrap.iter().filter(|address| !addresses.contains(address));
        let unnamed = unnamed.cloned().collect::<Vec<_>>();
        addresses.extend(unnamed);
        if let Some(at) = addresses.iter().position(|address| Some(address.as_str()) == avoid) {
            let avoided = addresses.remove(at);
            addresses.push(avoided);
        }
        addresses
    }

    /// Calls the broker at `address`, for at most `within`.
    pub(crate) async fn ask<T, F>(
        &self,
        address: &str,
        within: Duration,
        call: impl FnOnce(Channel) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let channel = self.control(address)?;
        let error = match timeout(within, call(channel)).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => Error::from_status(address, &status),
            Err(_) => Error::TimedOut { address: address.to_owned(), after: within },
        };
        if !matches!(error, Error::Refused(_)) {
            // Whatever is wrong with the connection, the next call shall not find it again.
            locked(&self.control).remove(address);
        }
        Err(error)
    }

    /// Calls one broker after the other, without waiting long for any, until one answers. A refusal
    /// is an answer, unless another broker may know better.
    pub(crate) async fn ask_any<T, F>(
        &self,
        within: Duration,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + within;
        let mut addresses = self.addresses(None).into_iter();
        let mut asked = FuturesUnordered::new();
        let mut failed = Vec::new();
        loop {
            if let Some(address) = addresses.next() {
                let left = deadline.saturating_duration_since(Instant::now());
                let call = &call;
                asked.push(async move {
                    let answer = self.ask(&address, left, call).await;
                    (address, answer)
                });
            } else if asked.is_empty() {
                return Err(one_of(failed));
            }
            let (address, answer) = tokio::select! {
                biased;
                Some(answered) = asked.next() => answered,
                () = sleep(HEDGE), if addresses.len() > 0 => continue,
            };
            match answer {
                Err(error) if error.is_retriable() => failed.push((address, error)),
                answer => return answer,
            }
        }
    }

    fn control(&self, address: &str) -> Result<Channel, Error> {
        if let Some(channel) = locked(&self.control).get(address) {
            return Ok(channel.clone());
        }
        let channel = self.dial(address)?;
        Ok(locked(&self.control).entry(address.to_owned()).or_insert(channel).clone())
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What to tell when all failed: a refusal says more than silence.
pub(crate) fn one_of(failed: Vec<(String, Error)>) -> Error {
    let refusal = failed.iter().find(|(_, error)| matches!(error, Error::Refused(_)));
    match refusal {
        Some((_, error)) => error.clone(),
        None => unreachable(&failed),
    }
}

fn unreachable(failed: &[(String, Error)]) -> Error {
    let tried = failed.iter().map(|(address, error)| Attempt::new(address, error)).collect();
    Error::Unreachable { tried }
}

/// The refusal of a broker that belongs to no cluster, under its own name.
fn not_formed(error: Error) -> Error {
    match error {
        Error::Refused(refusal) if refusal.code == Some(ErrorCode::ClusterNotFormed) => {
            Error::NotFormed { reason: refusal.message }
        }
        error => error,
    }
}

/// Nothing that panics runs under these locks, and what they guard is whole at any time.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pause that doubles from one try to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    const MIN: Duration = Duration::from_millis(20);

    /// While a leader is looked for: elections take a few hundred milliseconds, asking costs little.
    pub(crate) const fn short() -> Self {
        Self { next: Self::MIN, max: Duration::from_millis(100) }
    }

    /// For anything else.
    pub(crate) const fn long() -> Self {
        Self { next: Self::MIN, max: Duration::from_millis(200) }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.max);
        pause
    }
}
