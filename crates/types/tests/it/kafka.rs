//! Our bytes in the `kafka-protocol` crate, and its bytes here.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use proptest::prelude::*;
use tidelog_types::batch::{self, Codec, Limits};
use tidelog_types::{ProducerEpoch, ProducerId};

use crate::sample::{self, Producer, Sample, build, seeded};

const INFLATE_BYTES_MAX: usize = 1 << 20;

fn theirs(codec: Codec) -> Compression {
    match codec {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

/// The record as the other crate knows it. Its map of headers drops repeated names.
fn record(index: usize, sample: &Sample, producer: Producer) -> Record {
    let part = |bytes: &Option<Vec<u8>>| bytes.clone().map(Bytes::from);
    let headers = sample.headers.iter();
    let (id, epoch, base_sequence) =
        producer.unwrap_or((ProducerId::NONE, ProducerEpoch::NONE, -1));
    Record {
        transactional: false,
        control: false,
        partition_leader_epoch: -1,
        producer_id: id.0,
        producer_epoch: epoch.0,
        timestamp_type: TimestampType::Creation,
        offset: index as i64,
        sequence: base_sequence.wrapping_add(index as i32),
        timestamp: sample.timestamp,
        key: part(&sample.key),
        value: part(&sample.value),
        headers: headers
            .map(|(name, value)| (StrBytes::from_string(name.clone()), part(value)))
            .collect::<IndexMap<_, _>>(),
    }
}

/// What the other crate can carry: one header of a name, timestamps 2^31 ms apart.
fn samples() -> impl Strategy<Value = Vec<Sample>> {
    sample::samples(1_700_000_000_000..1_700_000_900_000_i64).prop_map(|mut samples| {
        for sample in &mut samples {
            let mut names = std::collections::BTreeSet::new();
            sample.headers.retain(|(name, _)| names.insert(name.clone()));
        }
        samples
    })
}

proptest! {
    #![proptest_config(seeded(200))]

    #[test]
    fn our_batches_are_read_there(
        samples in samples(),
        producer in sample::producers(),
        codec in sample::any_codec(),
    ) {
        let ours = build(&samples, codec, producer);
        let used = batch::Info::read(&ours).unwrap().codec;
        let read = RecordBatchDecoder::decode(&mut ours.clone()).unwrap();
        prop_assert_eq!(read.compression, theirs(used));
        let expected: Vec<_> =
            samples.iter().enumerate().map(|(at, sample)| record(at, sample, producer)).collect();
        prop_assert_eq!(read.records, expected);
    }

    #[test]
    fn their_batches_are_read_here(
        samples in samples(),
        producer in sample::producers(),
        codec in sample::any_codec(),
    ) {
        let records: Vec<_> =
            samples.iter().enumerate().map(|(at, sample)| record(at, sample, producer)).collect();
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: theirs(codec) };
        RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
        let bytes = bytes.freeze();

        let info = batch::check(&bytes, &Limits { batch_bytes_max: bytes.len() }).unwrap();
        prop_assert_eq!(info.codec, codec);
        prop_assert_eq!(info.has_producer(), producer.is_some());
        let read = sample::read(&bytes, INFLATE_BYTES_MAX).unwrap();
        prop_assert_eq!(read.iter().map(Sample::of).collect::<Vec<_>>(), samples);
    }
}
