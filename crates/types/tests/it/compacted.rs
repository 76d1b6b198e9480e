//! What compaction leaves of a batch, here and in the eyes of the `kafka-protocol` crate.

use kafka_protocol::records::RecordBatchDecoder;
use proptest::prelude::*;
use tidelog_types::batch::{self, BatchView, Codec, Keyed};
use tidelog_types::{Offset, ProducerEpoch, ProducerId};

use crate::sample::{self, Sample, build, seeded};

const INFLATE_BYTES_MAX: usize = 1 << 20;

/// Every offset whose bit is set.
fn wanted(mask: u64) -> impl Fn(Keyed<'_>) -> bool {
    move |record| mask >> (record.offset.0 % 64) & 1 == 1
}

proptest! {
    #![proptest_config(seeded(200))]

    #[test]
    fn records_that_stay_are_what_they_were_and_where_they_were(
        samples in sample::samples(1_700_000_000_000..1_700_000_900_000_i64),
        producer in sample::producers(),
        codec in sample::any_codec(),
        mask in any::<u64>(),
        base in 0..1_000_000_u64,
    ) {
        let mut whole = build(&samples, codec, producer).to_vec();
        batch::stamp_in_place(&mut whole, Offset(base), 7);
        let Some(left) = batch::retain(&whole, INFLATE_BYTES_MAX, wanted(mask)).unwrap() else {
            let all = (0..samples.len() as u64).all(|n| mask >> ((base + n) % 64) & 1 == 1);
            prop_assert!(all, "nothing was to be taken out");
            return Ok(());
        };
        batch::verify_crc(&left).unwrap();
        let (before, after) = (BatchView::new(&whole).unwrap(), BatchView::new(&left).unwrap());
        let (before, after_info) = (before.info(), after.info());
        let same = batch::Info {
            crc: before.crc, bytes: before.bytes, codec: before.codec, ..after_info
        };
        prop_assert_eq!(same, before, "offsets, producer and times stay");
        prop_assert_eq!(after.leader_epoch(), 7);

        let expected: Vec<(u64, Sample)> = (base..)
            .zip(samples)
            .filter(|(offset, _)| mask >> (offset % 64) & 1 == 1)
            .collect();
        let read = batch::records(&left, INFLATE_BYTES_MAX).unwrap();
        let read: Vec<_> = read
            .map(|record| record.map(|record| (record.offset.0, Sample::of(&record))))
            .collect::<Result<_, _>>()
            .unwrap();
        prop_assert_eq!(&read, &expected);
        prop_assert_eq!(after.records_held() as usize, expected.len());

        // The other crate finds the same offsets.
        let theirs = RecordBatchDecoder::decode(&mut left.clone()).unwrap();
        let theirs: Vec<_> = theirs.records.iter().map(|record| record.offset as u64).collect();
        prop_assert_eq!(theirs, expected.iter().map(|(offset, _)| *offset).collect::<Vec<_>>());

        // What was taken out once is not there to be taken out again.
        prop_assert_eq!(batch::retain(&left, INFLATE_BYTES_MAX, wanted(mask)).unwrap(), None);
    }
}

#[test]
fn a_batch_without_records_is_its_header_and_keeps_its_producer() {
    let samples = [Sample::new("a", "1"), Sample::new("b", "2")];
    for codec in sample::codecs() {
        let producer = Some((ProducerId(9), ProducerEpoch(3), 41));
        let whole = build(&samples, codec, producer);
        let left = batch::retain(&whole, INFLATE_BYTES_MAX, |_| false).unwrap().unwrap();
        assert_eq!(left.len(), batch::HEADER_BYTES);
        let view = BatchView::new(&left).unwrap();
        assert_eq!((view.records_held(), view.last_offset_delta()), (0, 1));
        assert_eq!(
            (view.codec(), view.producer_id(), view.base_sequence()),
            (Codec::None, ProducerId(9), 41)
        );
        assert_eq!(batch::records(&left, 0).unwrap().count(), 0);
        assert!(batch::check(&left, &batch::Limits { batch_bytes_max: 1 << 20 }).is_err());
    }
}

#[test]
fn keys_are_shown_in_order_with_what_is_deleted() {
    let mut gone = Sample::new("b", "");
    gone.value = None;
    let mut keyless = Sample::new("", "x");
    keyless.key = None;
    for codec in sample::codecs() {
        let whole = build(&[Sample::new("a", "1"), gone.clone(), keyless.clone()], codec, None);
        let mut seen = Vec::new();
        let each = |record: Keyed<'_>| {
            seen.push((record.offset.0, record.key.map(<[u8]>::to_vec), record.is_tombstone));
        };
        batch::each_key(&whole, INFLATE_BYTES_MAX, each).unwrap();
        let key = |key: &str| Some(key.as_bytes().to_vec());
        assert_eq!(seen, [(0, key("a"), false), (1, key("b"), true), (2, None, false)]);
    }
    let large = build(&[Sample::new("a", &"x".repeat(5_000))], Codec::Lz4, None);
    if Codec::Lz4.is_built_in() {
        assert!(batch::each_key(&large, 100, |_| ()).is_err(), "it inflates to too much");
        assert!(batch::retain(&large, 100, |_| true).is_err());
    }
}
