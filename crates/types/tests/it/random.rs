//! Random batches, and random bytes.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tidelog_types::batch::{self, Batch, BatchView, Info, Limits};
use tidelog_types::{Offset, ProducerEpoch, ProducerId};

use crate::sample::{self, Sample, build, seeded};

const INFLATE_BYTES_MAX: usize = 1 << 20;
const LIMITS: Limits = Limits { batch_bytes_max: 1 << 20 };

/// Far apart, but such that no two differ by more than an `i64` can say.
fn timestamps() -> impl Strategy<Value = i64> {
    prop_oneof![Just(-1), 1_700_000_000_000..1_700_000_100_000_i64, i64::MIN / 2..i64::MAX / 2]
}

/// Everything that takes bytes from outside. The answers do not matter here, only that they come.
fn use_all(bytes: &Bytes) {
    let answers = (
        Info::read(bytes).is_ok(),
        batch::check(bytes, &LIMITS).is_ok(),
        batch::verify_crc(bytes).is_ok(),
        batch::check_keys(bytes, INFLATE_BYTES_MAX).is_ok(),
        batch::split(bytes).map(|batch| batch.is_ok()).collect::<Vec<_>>(),
        batch::set_producer(bytes.clone(), Some((ProducerId(1), ProducerEpoch(1), 1))).is_ok(),
    );
    let records = batch::records(bytes, INFLATE_BYTES_MAX).map(|records| {
        let most = records.size_hint().1.unwrap();
        let read = records.count();
        assert!(read <= most, "{read} records came, at most {most} were announced");
    });
    std::hint::black_box((answers, records.is_ok(), Batch::new(bytes.clone()).is_ok()));
}

proptest! {
    #![proptest_config(seeded(256))]

    #[test]
    fn records_come_back_as_they_were_pushed(
        samples in sample::samples(timestamps()),
        producer in sample::producers(),
        codec in sample::any_codec(),
        base_offset in 0..i64::MAX as u64 - 100,
        epoch in 0..=i32::MAX,
    ) {
        let built = build(&samples, codec, producer);
        let info = batch::check(&built, &LIMITS).unwrap();
        prop_assert_eq!(info, Info::read(&built[..batch::HEADER_BYTES]).unwrap());
        prop_assert_eq!(info.count as usize, samples.len());
        prop_assert_eq!(info.bytes as usize, built.len());
        prop_assert_eq!(Some(info.max_timestamp.0), samples.iter().map(|s| s.timestamp).max());
        let in_header = (info.producer_id, info.producer_epoch, info.base_sequence);
        prop_assert_eq!(producer.unwrap_or((ProducerId::NONE, ProducerEpoch::NONE, -1)), in_header);

        let mut stamped = built.to_vec();
        batch::stamp_in_place(&mut stamped, Offset(base_offset), epoch);
        prop_assert_eq!(&batch::stamp(&built, Offset(base_offset), epoch)[..], &stamped[..16]);
        batch::verify_crc(&stamped).unwrap();
        let view = BatchView::new(&stamped).unwrap();
        prop_assert_eq!((view.base_offset(), view.leader_epoch()), (Offset(base_offset), epoch));

        let read = sample::read(&Bytes::from(stamped), INFLATE_BYTES_MAX).unwrap();
        let expected = (base_offset..).take(samples.len()).map(Offset);
        prop_assert!(read.iter().map(|record| record.offset).eq(expected));
        prop_assert_eq!(read.iter().map(Sample::of).collect::<Vec<_>>(), samples);
    }

    #[test]
    fn concatenated_batches_come_apart_without_copies(
        many in vec(sample::samples(timestamps()), 0..5),
        codec in sample::any_codec(),
    ) {
        let batches: Vec<_> = many.iter().map(|samples| build(samples, codec, None)).collect();
        let all = Bytes::from(batches.concat());
        let mut at = 0;
        for (cut, batch) in batch::split(&all).zip(&batches) {
            let cut = cut.unwrap();
            prop_assert_eq!(&cut, batch);
            prop_assert_eq!(cut.as_ptr(), all[at..].as_ptr());
            at += cut.len();
        }
        prop_assert_eq!(at, all.len());
    }

    #[test]
    fn another_producer_gives_the_bytes_of_a_batch_built_for_it(
        samples in sample::samples(timestamps()),
        before in sample::producers(),
        after in sample::producers(),
        codec in sample::any_codec(),
    ) {
        let expected = build(&samples, codec, after);
        let shared = build(&samples, codec, before);
        prop_assert_eq!(&batch::set_producer(shared.clone(), after).unwrap(), &expected);
        prop_assert_eq!(&shared, &build(&samples, codec, before), "others keep their bytes");
        let at = shared.as_ptr();
        let changed = batch::set_producer(shared, after).unwrap();
        prop_assert_eq!(&changed, &expected);
        prop_assert_eq!(changed.as_ptr(), at, "bytes of its own are changed in place");
    }

    #[test]
    fn arbitrary_bytes_are_answered(bytes in vec(any::<u8>(), 0..300)) {
        use_all(&Bytes::from(bytes));
    }

    // Damage under a CRC that holds reaches the code behind the first checks.
    #[test]
    fn damaged_batches_are_answered(
        samples in sample::samples(timestamps()),
        codec in sample::any_codec(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = build(&samples, codec, None).to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes[16] = batch::MAGIC;
        if let Some(cut) = cut {
            let records = bytes.len() - batch::HEADER_BYTES;
            bytes.truncate(batch::HEADER_BYTES + cut.index(records + 1));
        }
        use_all(&sample::sealed(bytes));
    }
}

proptest! {
    #![proptest_config(seeded(16))]

    #[test]
    fn every_flipped_bit_is_refused(
        samples in sample::samples(timestamps()),
        codec in sample::any_codec(),
    ) {
        let mut bytes = build(&samples[..samples.len().min(3)], codec, None).to_vec();
        // Base offset and leader epoch are the leader's to write; all else is covered.
        let covered = (8..12).chain(16..bytes.len().min(600));
        for (at, bit) in covered.flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            bytes[at] ^= 1 << bit;
            prop_assert!(batch::verify_crc(&bytes).is_err(), "bit {} of byte {}", bit, at);
            prop_assert!(batch::check(&bytes, &LIMITS).is_err(), "bit {} of byte {}", bit, at);
            bytes[at] ^= 1 << bit;
        }
        prop_assert!(batch::check(&bytes, &LIMITS).is_ok());
    }

    #[test]
    fn every_cut_is_refused(
        samples in sample::samples(timestamps()),
        codec in sample::any_codec(),
    ) {
        let whole = build(&samples[..samples.len().min(3)], codec, None);
        for cut in (0..whole.len()).rev().take(600).chain(0..batch::HEADER_BYTES) {
            let part = whole.slice(..cut);
            prop_assert!(batch::check(&part, &LIMITS).is_err(), "cut to {}", cut);
            prop_assert!(batch::verify_crc(&part).is_err(), "cut to {}", cut);
            prop_assert!(batch::records(&part, INFLATE_BYTES_MAX).is_err(), "cut to {}", cut);
            prop_assert!(batch::split(&part).all(|batch| batch.is_err()), "cut to {}", cut);
        }
    }
}
