//! What a producer can be told, and what holds when it is not.

use std::sync::Arc;
use std::time::Duration;

use tidelog_types::batch::Codec;

use super::{Core, Murmur2, Partitioner, Producer};
use crate::Error;
use crate::cluster::Cluster;
use crate::settings::{millis, refuse, size};

/// The most batches of a partition in flight: brokers remember so many per producer.
const IN_FLIGHT_MAX: usize = 5;
/// The largest batch that a producer collects.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4: fast, and good enough for most.
    Lz4,
    /// Zstandard: smaller, and slower.
    Zstd,
}

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) linger: Duration,
    pub(super) batch_bytes: usize,
    pub(super) record_bytes_max: usize,
    pub(super) buffer_bytes: usize,
    pub(super) buffer_timeout: Duration,
    pub(super) delivery_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) in_flight_max: usize,
    pub(super) compression: Compression,
    pub(super) partitioner: Arc<dyn Partitioner>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(5),
            batch_bytes: 256 << 10,
            record_bytes_max: 1 << 20,
            buffer_bytes: 32 << 20,
            buffer_timeout: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(30),
            in_flight_max: IN_FLIGHT_MAX,
            compression: Compression::None,
            partitioner: Arc::new(Murmur2),
        }
    }
}

impl Config {
    pub(super) fn codec(&self) -> Codec {
        match self.compression {
            Compression::None => Codec::None,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let out_of = |key: &str, value: usize, bounds: String| {
            Err(refuse(key, &value.to_string(), format!("must be {bounds}")))
        };
        if !(1..=BATCH_BYTES_MAX).contains(&self.batch_bytes) {
            return out_of("batch.size", self.batch_bytes, format!("1 to {BATCH_BYTES_MAX}"));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight_max) {
            let key = "max.in.flight.requests.per.connection";
            return out_of(key, self.in_flight_max, format!("1 to {IN_FLIGHT_MAX}"));
        }
        if self.buffer_bytes < self.record_bytes_max || self.buffer_bytes > (1 << 30) {
            let bounds = format!("max.request.size, {}, to {}", self.record_bytes_max, 1 << 30);
            return out_of("buffer.memory", self.buffer_bytes, bounds);
        }
        if self.delivery_timeout <= self.linger {
            let value = self.delivery_timeout.as_millis().to_string();
            return Err(refuse("delivery.timeout.ms", &value, "must be above linger.ms"));
        }
        let compiled = match self.compression {
            Compression::None => true,
            Compression::Lz4 => cfg!(feature = "lz4"),
            Compression::Zstd => cfg!(feature = "zstd"),
        };
        if !compiled {
            let value = format!("{:?}", self.compression).to_lowercase();
            return Err(refuse("compression.type", &value, "is not in this build"));
        }
        Ok(())
    }
}

/// Sets a [`Producer`] up.
#[derive(Debug)]
#[must_use]
pub struct ProducerBuilder {
    cluster: Arc<Cluster>,
    config: Config,
    refused: Option<Error>,
}

impl ProducerBuilder {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, config: Config::default(), refused: None }
    }

    /// How long a batch waits for more records before it is sent. Default 5 ms. Smaller: lower
    /// latency, smaller batches, less throughput. Larger: the reverse.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.config.linger = linger;
        self
    }

    /// The size at which a batch is closed, in bytes before compression. Default 256 KiB, at most
    /// 1 MiB. Too small costs throughput, too large latency. A topic with a smaller
    /// `max.message.bytes` gets smaller batches.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.config.batch_bytes = bytes;
        self
    }

    /// The largest record, in bytes. Default 1 MiB. Larger than the topic allows, and the broker
    /// refuses what this let pass.
    pub fn record_bytes_max(mut self, bytes: usize) -> Self {
        self.config.record_bytes_max = bytes;
        self
    }

    /// How many bytes of records may wait for their acknowledgement. Default 32 MiB. Too small stalls
    /// [`Producer::enqueue`], too large wastes memory while brokers are slow.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.config.buffer_bytes = bytes;
        self
    }

    /// How long [`Producer::enqueue`] waits for room in the buffer. Default 60 s.
    pub fn buffer_timeout(mut self, within: Duration) -> Self {
        self.config.buffer_timeout = within;
        self
    }

    /// How long a record may take from being enqueued to being acknowledged, with all retries. Default
    /// 120 s. Smaller than an election, and records fail that need not.
    pub fn delivery_timeout(mut self, within: Duration) -> Self {
        self.config.delivery_timeout = within;
        self
    }

    /// How long a broker may try to write a batch before it answers that it could not tell. Default
    /// 30 s.
    pub fn request_timeout(mut self, within: Duration) -> Self {
        self.config.request_timeout = within;
        self
    }

    /// How many batches of a partition are on their way at once, 1 to 5. Default 5. Order holds anyway.
    pub fn in_flight_max(mut self, batches: usize) -> Self {
        self.config.in_flight_max = batches;
        self
    }

    /// How batches are compressed. Default: not.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.config.compression = compression;
        self
    }

    /// What chooses the partition of a record with a key. Default [`Murmur2`].
    pub fn partitioner(mut self, partitioner: impl Partitioner) -> Self {
        self.config.partitioner = Arc::new(partitioner);
        self
    }

    /// Sets by Kafka's name: `linger.ms`, `batch.size`, `max.request.size`, `buffer.memory`,
    /// `max.block.ms`, `delivery.timeout.ms`, `request.timeout.ms`,
    /// `max.in.flight.requests.per.connection`, `compression.type`, and, with the only value that there
    /// is, `acks=all` and `enable.idempotence=true`. What is wrong with it is told by
    /// [`ProducerBuilder::build`].
    pub fn set(mut self, key: &str, value: &str) -> Self {
        if let Err(error) = self.try_set(key, value) {
            self.refused.get_or_insert(error);
        }
        self
    }

    fn try_set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let config = &mut self.config;
        match (key, value) {
            ("linger.ms", _) => config.linger = millis(key, value)?,
            ("batch.size", _) => config.batch_bytes = size(key, value)?,
            ("max.request.size", _) => config.record_bytes_max = size(key, value)?,
            ("buffer.memory", _) => config.buffer_bytes = size(key, value)?,
            ("max.block.ms", _) => config.buffer_timeout = millis(key, value)?,
            ("delivery.timeout.ms", _) => config.delivery_timeout = millis(key, value)?,
            ("request.timeout.ms", _) => config.request_timeout = millis(key, value)?,
            ("max.in.flight.requests.per.connection", _) => {
                config.in_flight_max = size(key, value)?;
            }
            ("compression.type", "none") => config.compression = Compression::None,
            ("compression.type", "lz4") => config.compression = Compression::Lz4,
            ("compression.type", "zstd") => config.compression = Compression::Zstd,
            ("compression.type", _) => return Err(refuse(key, value, "must be none, lz4 or zstd")),
            ("acks", "all" | "-1") | ("enable.idempotence", "true") => {}
            ("acks", _) => return Err(refuse(key, value, "must be all: an ack means a quorum")),
            ("enable.idempotence", _) => return Err(refuse(key, value, "must be true")),
            _ => return Err(refuse(key, value, "is not a setting of a producer")),
        }
        Ok(())
    }

    /// Gets an identity from the cluster, under which nothing is written twice.
    ///
    /// Cancel safe: at most an unused producer id is left behind.
    ///
    /// # Errors
    /// When a setting is refused, or no broker hands out an identity within the client's request
    /// timeout.
    pub async fn build(self) -> Result<Producer, Error> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        self.config.check()?;
        let core = Core::start(self.cluster, self.config).await?;
        Ok(Producer::new(core))
    }
}
