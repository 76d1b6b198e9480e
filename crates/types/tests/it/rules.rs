//! What is refused at produce, and under which code.

use bytes::Bytes;
use tidelog_types::batch::{self, Builder, Codec, Limits, NewRecord, Record};
use tidelog_types::{ErrorCode, Kind, Timestamp};

use crate::sample::{Sample, build, patched, read, sealed, three};

const LIMITS: Limits = Limits { batch_bytes_max: 10_000 };

#[track_caller]
fn check(name: &str, batch: &[u8], expected: ErrorCode) {
    let error = batch::check(batch, &LIMITS).expect_err(name);
    assert_eq!(error.error_code(), expected, "{name}: {error}");
    assert_ne!(error.kind(), Kind::Retry, "{name} stays wrong");
}

#[test]
fn headers_that_break_a_rule_are_refused_by_kafkas_names() {
    use ErrorCode::{CorruptMessage, InvalidRecord, InvalidTimestamp, UnsupportedCompression};
    let good = three();
    assert!(batch::check(&good, &LIMITS).is_ok());

    let cases: [(&str, usize, &[u8], ErrorCode); 20] = [
        ("magic 1", 16, &[1], InvalidRecord),
        ("magic 3", 16, &[3], CorruptMessage),
        ("negative base offset", 0, &(-1_i64).to_be_bytes(), CorruptMessage),
        ("last offset behind i64", 0, &(i64::MAX - 2).to_be_bytes(), CorruptMessage),
        ("gzip", 21, &1_i16.to_be_bytes(), UnsupportedCompression),
        ("snappy", 21, &2_i16.to_be_bytes(), UnsupportedCompression),
        ("codec 7", 21, &7_i16.to_be_bytes(), UnsupportedCompression),
        ("log-append time", 21, &(1_i16 << 3).to_be_bytes(), InvalidTimestamp),
        ("transactional", 21, &(1_i16 << 4).to_be_bytes(), InvalidRecord),
        ("control", 21, &(1_i16 << 5).to_be_bytes(), InvalidRecord),
        ("delete horizon", 21, &(1_i16 << 6).to_be_bytes(), InvalidRecord),
        ("bit 15", 21, &(1_u16 << 15).to_be_bytes(), InvalidRecord),
        ("more offsets than records", 23, &i32::MAX.to_be_bytes(), InvalidRecord),
        ("fewer offsets than records", 23, &1_i32.to_be_bytes(), InvalidRecord),
        ("negative last offset delta", 23, &(-1_i32).to_be_bytes(), InvalidRecord),
        ("no records", 57, &0_i32.to_be_bytes(), InvalidRecord),
        ("negative count", 57, &(-3_i32).to_be_bytes(), InvalidRecord),
        ("producer without epoch", 43, &7_i64.to_be_bytes(), InvalidRecord),
        ("max timestamp too low", 35, &5_i64.to_be_bytes(), InvalidTimestamp),
        ("record timestamp overflows", 27, &i64::MIN.to_be_bytes(), InvalidRecord),
    ];
    let overflowing = {
        let mut first = Sample::new("a", "");
        let mut second = first.clone();
        (first.timestamp, second.timestamp) = (0, -1);
        build(&[first, second], Codec::None, None)
    };
    for (name, at, field, expected) in cases {
        let batch = if name.contains("overflows") { &overflowing } else { &good };
        check(name, &patched(batch, at, field), expected);
    }

    let mut producer = [0; 14];
    producer[..8].copy_from_slice(&7_i64.to_be_bytes());
    assert!(batch::check(&patched(&good, 43, &producer), &LIMITS).is_ok());
    producer[10..].copy_from_slice(&(-1_i32).to_be_bytes());
    check("producer without sequence", &patched(&good, 43, &producer), InvalidRecord);
}

#[test]
fn what_is_not_exactly_one_batch_is_corrupt() {
    let good = three();
    check("nothing", b"", ErrorCode::CorruptMessage);
    check("half a header", &good[..40], ErrorCode::CorruptMessage);
    check("header alone", &good[..61], ErrorCode::CorruptMessage);
    check("one byte less", &good[..good.len() - 1], ErrorCode::CorruptMessage);
    check("two batches", &[&good[..], &good[..]].concat(), ErrorCode::CorruptMessage);
    for length in [-1_i32, 0, 48, i32::MIN, i32::MAX] {
        let mut bytes = good.to_vec();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        check(&format!("length {length}"), &bytes, ErrorCode::CorruptMessage);
        assert!(batch::split(&bytes.into()).next().unwrap().is_err(), "length {length}");
    }
}

#[test]
fn the_size_limit_counts_the_whole_batch() {
    let good = three();
    assert!(batch::check(&good, &Limits { batch_bytes_max: good.len() }).is_ok());
    let error = batch::check(&good, &Limits { batch_bytes_max: good.len() - 1 }).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::MessageTooLarge);
}

/// A batch of one record whose bytes, length and all, are `record`.
fn of_record(record: &[u8]) -> Bytes {
    let one = build(&[Sample::new("", "")], Codec::None, None);
    sealed([&one[..61], record].concat())
}

#[test]
fn malformed_records_are_refused_and_end_a_read() {
    // length · attributes · timestamp delta · offset delta · key · value · headers
    assert!(batch::check(&of_record(&[12, 0, 0, 0, 1, 1, 0]), &LIMITS).is_ok());
    let cases: [(&str, &[u8]); 14] = [
        ("nothing", &[]),
        ("length only", &[12]),
        ("length of null", &[1, 0, 0, 0, 1, 1, 0]),
        ("longer than the batch", &[14, 0, 0, 0, 1, 1, 0]),
        ("shorter than its parts", &[10, 0, 0, 0, 1, 1, 0]),
        ("longer than its parts", &[14, 0, 0, 0, 1, 1, 0, 0]),
        ("bytes behind the last record", &[12, 0, 0, 0, 1, 1, 0, 0]),
        ("offset delta 1", &[12, 0, 0, 2, 1, 1, 0]),
        ("offset delta -1", &[12, 0, 0, 1, 1, 1, 0]),
        ("key length -2", &[12, 0, 0, 0, 3, 1, 0]),
        ("key behind the end", &[12, 0, 0, 0, 8, 1, 0]),
        ("header count -1", &[12, 0, 0, 0, 1, 1, 1]),
        ("header name null", &[16, 0, 0, 0, 1, 1, 2, 1, 1]),
        ("varint without end", &[12, 0, 0, 0, 1, 0x80, 0x80]),
    ];
    for (name, record) in cases {
        let batch = of_record(record);
        check(name, &batch, ErrorCode::InvalidRecord);
        let mut records = batch::records(&batch, 0).unwrap();
        assert!(records.any(|record| record.is_err()), "{name}");
        assert!(records.next().is_none(), "{name}: an error is the end");
    }
}

#[test]
fn a_record_without_key_is_refused_where_keys_are_needed() {
    let with_key = Sample::new("k", "v");
    let without = Sample { key: None, ..with_key.clone() };
    for codec in crate::sample::codecs() {
        let many = vec![with_key.clone(); 50];
        assert!(batch::check_keys(&build(&many, codec, None), 10_000).is_ok());
        let mut one_without = many;
        one_without[40] = without.clone();
        let error = batch::check_keys(&build(&one_without, codec, None), 10_000).unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::InvalidRecord);
        assert!(error.to_string().contains("record 40"), "{error}");
    }
}

#[test]
fn a_compacted_batch_is_read_with_its_holes() {
    // As compaction leaves it: records 0 and 2 of three, offsets and sequence as before.
    let good = three();
    let last = good.len() - 14;
    let second = 61 + (good.len() - 61 - 14) / 2;
    let bytes = patched(&[&good[..second], &good[last..]].concat(), 57, &2_i32.to_be_bytes());
    let bytes = sealed(bytes.to_vec());

    let info = batch::Info::read(&bytes).unwrap();
    assert_eq!((info.count, info.next_offset().0), (3, 3));
    let records = read(&bytes, 0).unwrap();
    assert_eq!(records.iter().map(|record| record.offset.0).collect::<Vec<_>>(), [0, 2]);
    check("holes from a client", &bytes, ErrorCode::InvalidRecord);

    let empty = sealed(patched(&good, 57, &0_i32.to_be_bytes())[..61].to_vec());
    assert_eq!(read(&empty, 0).unwrap(), Vec::<Record>::new());
    assert_eq!(batch::Info::read(&empty).unwrap().count, 3);
}

#[test]
fn log_append_time_is_the_time_of_all_records() {
    let batch = patched(&three(), 21, &(1_i16 << 3).to_be_bytes());
    let batch = patched(&batch, 35, &77_i64.to_be_bytes());
    let records = read(&batch, 0).unwrap();
    assert!(records.iter().all(|record| record.timestamp == Timestamp(77)));
}

#[test]
fn a_header_name_that_is_not_text_is_mended() {
    let headers = [("name", None)];
    let mut builder = Builder::new();
    builder.push(&NewRecord { headers: &headers, ..NewRecord::default() }).unwrap();
    let batch = builder.finish(Codec::None, None).unwrap();
    let at = batch.windows(4).position(|part| part == b"name").unwrap();
    let batch = patched(&batch, at + 1, &[0xff]);
    assert!(batch::check(&batch, &LIMITS).is_ok());
    assert_eq!(read(&batch, 0).unwrap()[0].headers[0].name, "n\u{fffd}me");
}

#[test]
fn a_builder_refuses_what_its_format_cannot_say() {
    let error = Builder::new().finish(Codec::None, None).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::InvalidRecord);

    let mut builder = Builder::new();
    let at = |timestamp| NewRecord { timestamp: Timestamp(timestamp), ..NewRecord::default() };
    builder.push(&at(i64::MIN)).unwrap();
    let before = (builder.bytes(), builder.count());
    assert!(builder.push(&at(1)).is_err());
    assert_eq!((builder.bytes(), builder.count()), before, "nothing is appended on an error");
    builder.push(&at(-1)).unwrap();
    assert_eq!(read(&builder.finish(Codec::None, None).unwrap(), 0).unwrap().len(), 2);
}
