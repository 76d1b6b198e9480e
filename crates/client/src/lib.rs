//! The client of Tidelog.
//!
//! One [`Client`] owns connections and metadata; it is cheap to clone and makes everything else:
//!
//! - [`Producer`]: batches records and writes them exactly once and in order. An acknowledgement means
//!   that the record is on disk at a quorum.
//! - [`Consumer`]: reads as a member of a group, which shares partitions and remembers how far they are.
//! - [`Runner`]: a consumer that calls a handler, retries, and puts aside what cannot be handled.
//! - [`Reader`]: reads partitions from a given position, without a consumer group.
//! - [`Admin`]: creates, describes and deletes topics, moves groups, and looks into the cluster.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tidelog_client::{Client, Position, Record};
//!
//! let client = Client::builder(["127.0.0.1:7071"]).connect().await?;
//! let producer = client.producer().build().await?;
//! let written = producer.send(Record::to("orders").key("c42").value("…")).await?;
//! println!("{}/{} at {}", written.topic, written.partition, written.offset);
//!
//! let mut reader = client.reader().topic("orders", Position::Earliest).build().await?;
//! while let Some(record) = reader.recv().await? {
//!     println!("{:?}", record.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Time is `tokio::time`; sockets, the wall clock and randomness come from an [`Environment`], so that
//! a client can run in a simulated network.

pub mod admin;
mod client;
mod cluster;
mod consumer;
mod environment;
mod error;
mod fetch;
mod group;
mod producer;
mod reader;
mod runner;
mod settings;

pub use admin::Admin;
pub use client::{Client, ClientBuilder};
pub use consumer::{
    CommitError, ConsumeError, Consumer, ConsumerBuilder, ConsumerRecord, Listening, PartitionLag,
    PartitionStream, PartitionStreams, RebalanceListener, StartPolicy,
};
pub use environment::{
    BoxedIo, Clock, Connector, Dial, Entropy, Environment, Io, SystemClock, TcpConnector,
};
pub use error::{Attempt, BrokerError, Error};
pub use group::{CommittedOffset, OffsetCommit};
pub use producer::{
    Compression, Delivery, IntoTopicName, Murmur2, Partitioner, ProduceError, ProduceFailure,
    Producer, ProducerBuilder, Record, RecordMetadata, TryEnqueueError, murmur2,
};
pub use reader::{Position, ReadError, ReadPosition, ReadRecord, Reader, ReaderBuilder, Until};
pub use runner::{
    BatchHandler, DEAD_LETTER_ATTEMPTS, DEAD_LETTER_ERROR, DEAD_LETTER_FIRST_FAILURE,
    DEAD_LETTER_OFFSET, DEAD_LETTER_PARTITION, DEAD_LETTER_TOPIC, DeadLetters, Handler,
    HandlerError, HandlerErrorKind, Retry, RunError, Runner, RunnerBuilder, RunnerStats,
};

pub use tidelog_types::batch::{Header, HeaderName};
pub use tidelog_types::{
    BrokerId, ErrorCode, GroupName, Kind, Offset, PartitionId, Timestamp, TopicId, TopicName,
    TopicPartition,
};
