//! Bytes that only a decision record may change.
//!
//! A golden file is hex digits; what stands behind a `#` is comment.

use bytes::Bytes;
use tidelog_types::batch::Codec;
use tidelog_types::{ProducerEpoch, ProducerId};

use crate::sample::{Producer, Sample, build, read};

fn bytes_of(golden: &str) -> Bytes {
    let digits: String = golden
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(|line| line.chars().filter(|c| !c.is_whitespace()))
        .collect();
    assert!(digits.len().is_multiple_of(2), "a byte has two digits");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    let lines =
        bytes.chunks(16).map(|line| line.iter().map(|byte| format!("{byte:02x} ")).collect());
    lines.collect::<Vec<String>>().join("\n")
}

/// The golden bytes read as `samples`, and `samples` are encoded as the golden bytes.
#[track_caller]
fn check(golden: &str, samples: &[Sample], producer: Producer) {
    let golden = bytes_of(golden);
    let built = build(samples, Codec::None, producer);
    assert_eq!(hex(&built), hex(&golden), "encoded");
    reads(&golden, samples);
}

#[track_caller]
fn reads(golden: &Bytes, samples: &[Sample]) {
    let records = read(golden, 1 << 20).unwrap();
    assert_eq!(records.iter().map(Sample::of).collect::<Vec<_>>(), samples);
}

#[test]
fn one_record() {
    check(include_str!("../golden/one_record.hex"), &[Sample::new("key", "value")], None);
}

#[test]
fn nulls_and_repeated_headers() {
    let part = |text: &str| Some(text.as_bytes().to_vec());
    let first = Sample {
        key: None,
        headers: vec![
            ("trace".into(), part("1")),
            ("trace".into(), None),
            ("größe".into(), part("")),
        ],
        ..Sample::new("", "")
    };
    let tombstone =
        Sample { value: None, timestamp: first.timestamp - 100, ..Sample::new("k", "") };
    let producer = Some((ProducerId(0x0102_0304_0506), ProducerEpoch(7), 1_000_000));
    let golden = include_str!("../golden/nulls_and_repeated_headers.hex");
    check(golden, &[first, tombstone], producer);
}

/// How a library compresses may change from version to version: here it only has to be read.
#[cfg(any(feature = "lz4", feature = "zstd"))]
fn checks_compressed(golden: &str, codec: Codec) {
    let golden = bytes_of(golden);
    let samples = vec![Sample::new("key", "value"); 20];
    assert_eq!(tidelog_types::batch::Info::read(&golden).unwrap().codec, codec);
    tidelog_types::batch::verify_crc(&golden).unwrap();
    reads(&golden, &samples);
}

#[cfg(feature = "lz4")]
#[test]
fn compressed_with_lz4() {
    checks_compressed(include_str!("../golden/lz4.hex"), Codec::Lz4);
}

#[cfg(feature = "zstd")]
#[test]
fn compressed_with_zstd() {
    checks_compressed(include_str!("../golden/zstd.hex"), Codec::Zstd);
}
