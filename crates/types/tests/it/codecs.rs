//! Compressed batches.

use tidelog_types::ErrorCode;
use tidelog_types::batch::{self, Codec, Limits};

use crate::sample::{Sample, build, builder, codecs, patched, read, three};

#[test]
fn numbers_and_names_lead_back() {
    for number in 0..=4 {
        let codec = Codec::from_number(number).unwrap();
        assert_eq!(codec.number(), number);
        assert_eq!(Codec::from_name(codec.name()), Some(codec));
    }
    assert_eq!((Codec::from_number(5), Codec::from_name("brotli")), (None, None));
}

#[test]
fn a_codec_outside_this_build_is_refused_by_name() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        if codec.is_built_in() {
            continue;
        }
        let samples = [Sample::new("k", "v")];
        let error = builder(&samples).finish(codec, None).unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::UnsupportedCompression, "{codec}");
        let attributes = i16::from(codec.number()).to_be_bytes();
        let error = read(&patched(&three(), 21, &attributes), 1000).unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::UnsupportedCompression, "{codec}");
    }
}

#[test]
fn a_broker_takes_lz4_and_zstd_without_inflating() {
    let limits = Limits { batch_bytes_max: 10_000 };
    for codec in [Codec::Lz4, Codec::Zstd] {
        let attributes = i16::from(codec.number()).to_be_bytes();
        let info = batch::check(&patched(&three(), 21, &attributes), &limits).unwrap();
        assert_eq!((info.codec, info.count), (codec, 3));
    }
}

#[test]
fn a_batch_cannot_count_more_records_than_its_bytes_inflate_to() {
    let limits = Limits { batch_bytes_max: 10_000 };
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let attributes = i16::from(codec.number()).to_be_bytes();
        let mut batch = patched(&three(), 21, &attributes);
        for (at, count) in [(23, i32::MAX - 1), (57, i32::MAX)] {
            batch = patched(&batch, at, &count.to_be_bytes());
        }
        let error = batch::check(&batch, &limits).unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::InvalidRecord, "{codec}: {error}");
    }
    // What compresses best stays well inside the bound.
    let limits = Limits { batch_bytes_max: 1 << 20 };
    for codec in codecs() {
        let samples = vec![Sample { key: None, value: None, ..Sample::new("", "") }; 100_000];
        assert_eq!(batch::check(&build(&samples, codec, None), &limits).unwrap().count, 100_000);
    }
}

#[test]
fn compression_is_used_where_it_pays() {
    for codec in codecs() {
        let small = build(&[Sample::new("k", "v")], codec, None);
        assert_eq!(batch::Info::read(&small).unwrap().codec, Codec::None);
        let large = build(&vec![Sample::new("key", "value"); 1000], codec, None);
        assert_eq!(batch::Info::read(&large).unwrap().codec, codec);
        assert_eq!(read(&large, 1 << 20).unwrap().len(), 1000);
    }
}

#[test]
fn a_bomb_does_not_inflate_past_the_bound() {
    const RECORD_BYTES: usize = 1 << 23;
    let bomb = Sample { value: Some(vec![0; RECORD_BYTES]), ..Sample::new("k", "") };
    for codec in codecs().into_iter().filter(|codec| *codec != Codec::None) {
        let batch = build(std::slice::from_ref(&bomb), codec, None);
        assert!(batch.len() < RECORD_BYTES / 100, "{codec} leaves {} bytes", batch.len());
        for bytes_max in [0, 1, 1000, RECORD_BYTES] {
            let error = read(&batch, bytes_max).unwrap_err();
            assert_eq!(error.error_code(), ErrorCode::MessageTooLarge, "{codec}: {error}");
            assert!(error.to_string().contains(&format!("at most {bytes_max}")), "{error}");
        }
        assert_eq!(read(&batch, RECORD_BYTES + 100).unwrap().len(), 1);
    }
}

#[test]
fn what_does_not_inflate_is_corrupt() {
    for codec in codecs().into_iter().filter(|codec| *codec != Codec::None) {
        let attributes = i16::from(codec.number()).to_be_bytes();
        let error = read(&patched(&three(), 21, &attributes), 1000).unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::CorruptMessage, "{codec}: {error}");
    }
}
