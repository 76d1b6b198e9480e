//! Records and batches to test with, made up or random.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tidelog_types::batch::{self, BatchError, Builder, Codec, NewRecord, Record};
use tidelog_types::{ProducerEpoch, ProducerId, Timestamp};

pub(crate) type Producer = Option<(ProducerId, ProducerEpoch, i32)>;

/// The codecs that this build can test.
pub(crate) fn codecs() -> Vec<Codec> {
    [Codec::None, Codec::Lz4, Codec::Zstd].into_iter().filter(|codec| codec.is_built_in()).collect()
}

/// A random seed, printed with a failing test: `PROPTEST_RNG_SEED` replays it, and `PROPTEST_CASES`
/// of 256 times n makes n times the cases.
pub(crate) fn seeded(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    config.cases = cases * (config.cases / 256).max(1);
    config.failure_persistence = None;
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(RandomState::new().hash_one(cases));
    }
    eprintln!("PROPTEST_RNG_SEED={}", config.rng_seed);
    config
}

/// A record that owns its parts, to generate and to compare.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) timestamp: i64,
}

impl Sample {
    pub(crate) fn new(key: &str, value: &str) -> Self {
        let part = |text: &str| Some(text.as_bytes().to_vec());
        Self {
            key: part(key),
            value: part(value),
            headers: Vec::new(),
            timestamp: 1_700_000_000_000,
        }
    }

    pub(crate) fn of(record: &Record) -> Self {
        let part = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
        let headers = record.headers.iter();
        Self {
            key: part(&record.key),
            value: part(&record.value),
            headers: headers.map(|header| (header.name.to_string(), part(&header.value))).collect(),
            timestamp: record.timestamp.0,
        }
    }
}

pub(crate) fn builder(samples: &[Sample]) -> Builder {
    let mut builder = Builder::new();
    for sample in samples {
        let headers: Vec<_> =
            sample.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
        let record = NewRecord {
            key: sample.key.as_deref(),
            value: sample.value.as_deref(),
            headers: &headers,
            timestamp: Timestamp(sample.timestamp),
        };
        let expected = builder.bytes_with(&record);
        builder.push(&record).unwrap();
        assert_eq!(builder.bytes(), expected, "the size is known before the push");
    }
    builder
}

pub(crate) fn build(samples: &[Sample], codec: Codec, producer: Producer) -> Bytes {
    builder(samples).finish(codec, producer).unwrap()
}

/// Three small records without a producer.
pub(crate) fn three() -> Bytes {
    let samples = [Sample::new("a", "one"), Sample::new("b", "two"), Sample::new("c", "three")];
    build(&samples, Codec::None, None)
}

pub(crate) fn read(batch: &Bytes, inflate_bytes_max: usize) -> Result<Vec<Record>, BatchError> {
    batch::records(batch, inflate_bytes_max)?.collect()
}

/// `batch` with `field` at `at`, under a CRC that holds.
pub(crate) fn patched(batch: &[u8], at: usize, field: &[u8]) -> Bytes {
    let mut batch = batch.to_vec();
    batch[at..at + field.len()].copy_from_slice(field);
    sealed(batch)
}

/// `batch` under a length and a CRC that hold.
pub(crate) fn sealed(mut batch: Vec<u8>) -> Bytes {
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[batch::CRC_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

pub(crate) fn samples(
    timestamps: impl Strategy<Value = i64>,
) -> impl Strategy<Value = Vec<Sample>> {
    let part = || {
        option::of(prop_oneof![
            4 => vec(any::<u8>(), 0..40),
            1 => (any::<u8>(), 100..3000usize).prop_map(|(byte, bytes)| vec![byte; bytes]),
        ])
    };
    let name = prop_oneof![Just("trace".to_owned()), Just("größe".to_owned()), any::<String>()];
    let sample = (part(), part(), vec((name, part()), 0..4), timestamps)
        .prop_map(|(key, value, headers, timestamp)| Sample { key, value, headers, timestamp });
    vec(sample, 1..20)
}

pub(crate) fn producers() -> impl Strategy<Value = Producer> {
    let producer = (0..=i64::MAX, 0..=i16::MAX, 0..=i32::MAX);
    option::of(producer.prop_map(|(id, epoch, seq)| (ProducerId(id), ProducerEpoch(epoch), seq)))
}

pub(crate) fn any_codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(codecs())
}
