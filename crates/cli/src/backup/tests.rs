//! The format: what is written comes back, and what was changed is found.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use tidelog_types::{Offset, PartitionId, Timestamp, TopicName};

use super::contents::Contents;
use super::format::{Commit, Head, VERSION};
use super::reader::{Damage, Item, Reader};
use super::rewritten;
use super::writer::Writer;
use crate::record::{Consumed, Content};

/// A file of this version, byte for byte. Only a decision record may change it.
const GOLDEN: &[u8] = include_bytes!("golden.backup");

fn head(partitions: u32) -> Head {
    let configs = [("retention.ms".to_owned(), "5000".to_owned())];
    Head {
        tidelog_backup: VERSION,
        topic: "orders".to_owned(),
        cluster: "6f1c".to_owned(),
        exported: "2026-11-02T10:00:00.000Z".to_owned(),
        partitions,
        replication_factor: 3,
        configs: BTreeMap::from(configs),
    }
}

fn commit(group: &str, partition: u32, offset: u64, metadata: &str) -> Commit {
    let (group, metadata) = (group.to_owned(), metadata.to_owned());
    Commit { group, partition, offset, metadata }
}

fn record(partition: u32, offset: u64, content: Content) -> Consumed {
    Consumed {
        topic: TopicName::new("orders").unwrap(),
        partition: PartitionId(partition),
        offset: Offset(offset),
        timestamp: Timestamp(1_793_700_000_000 + i64::try_from(offset).unwrap()),
        content,
    }
}

/// Records of every awkward shape, in three partitions: one begins at 37, one is empty at 5.
fn records() -> Vec<Consumed> {
    let bytes = |bytes: &'static [u8]| Some(Bytes::from_static(bytes));
    let header = |name: &str, value| (name.to_owned(), value);
    let headers = vec![
        header("b", bytes(b"\xff\x00")),
        header("a", bytes(b"")),
        header("b", None),
        header("", bytes(b"1")),
    ];
    vec![
        record(0, 37, Content { key: bytes(b"k"), value: bytes(b"v"), headers }),
        record(2, 0, Content { key: bytes(b""), value: bytes(b""), headers: Vec::new() }),
        record(0, 38, Content::default()),
        record(0, 39, Content { value: bytes(b"\xfe\xff\n\"\\"), ..Content::default() }),
        record(
            2,
            1,
            Content { value: bytes("gr\u{f6}\u{df}e\n\0".as_bytes()), ..Content::default() },
        ),
    ]
}

fn write(head: &Head, commits: &[Commit], records: &[Consumed], ends: &[u64]) -> Vec<u8> {
    let mut writer = Writer::begin(Vec::new(), head).unwrap();
    commits.iter().for_each(|commit| writer.commit(commit).unwrap());
    records.iter().for_each(|record| writer.record(record).unwrap());
    let ends: Vec<Offset> = ends.iter().copied().map(Offset).collect();
    let (file, _, bytes) = writer.finish(&ends).unwrap();
    assert_eq!(file.len() as u64, bytes);
    file
}

fn small() -> Vec<u8> {
    let commits = [commit("billing", 0, 38, "n\u{e4}chtlich"), commit("billing", 1, 5, "")];
    write(&head(3), &commits, &records(), &[40, 5, 2])
}

fn read(file: &[u8]) -> Result<(Vec<Commit>, Vec<Consumed>), Damage> {
    let mut reader = Reader::open(file)?;
    let (mut commits, mut records) = (Vec::new(), Vec::new());
    while let Some(item) = reader.next()? {
        match item {
            Item::Commit(commit) => commits.push(commit),
            Item::Record(record) => records.push(record),
        }
    }
    Ok((commits, records))
}

#[test]
fn the_format_is_stable() {
    let file = small();
    assert_eq!(file.escape_ascii().to_string(), GOLDEN.escape_ascii().to_string());
    let (commits, read) = read(GOLDEN).unwrap();
    assert_eq!((commits.len(), read), (2, records()));
    assert_eq!(rewritten(GOLDEN).unwrap(), GOLDEN);
    let contents = Contents::check(GOLDEN).unwrap();
    let starts = contents.end.partitions.iter().map(|at| (at.start, at.end));
    assert_eq!(starts.collect::<Vec<_>>(), [(37, 40), (5, 5), (0, 2)]);
}

#[test]
fn every_flipped_bit_is_found() {
    let file = small();
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut spoilt = file.clone();
            spoilt[at] ^= 1 << bit;
            assert!(read(&spoilt).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn every_cut_is_found() {
    let file = small();
    for length in 0..file.len() {
        let damage = read(&file[..length]).unwrap_err();
        assert!(matches!(damage, Damage::Cut { .. }), "{length} bytes: {damage}");
    }
}

#[test]
fn lines_that_are_missing_repeated_or_moved_are_found() {
    let file = small();
    let lines: Vec<&[u8]> = file.split_inclusive(|byte| *byte == b'\n').collect();
    for at in 0..lines.len() {
        let mut missing = lines.clone();
        missing.remove(at);
        assert!(read(&missing.concat()).is_err(), "without line {at}");
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        assert!(read(&twice.concat()).is_err(), "line {at} twice");
        let mut moved = lines.clone();
        moved.swap(at, (at + 1) % lines.len());
        assert!(read(&moved.concat()).is_err(), "line {at} moved");
    }
    for more in [&b"\n"[..], b"x", &file] {
        let damage = read(&[&file[..], more].concat()).unwrap_err().to_string();
        assert!(damage.contains("behind the end mark"), "{damage}");
    }
}

#[test]
fn damage_of_a_long_file_is_found_at_the_next_block() {
    let value = Content { value: Some("v".into()), ..Content::default() };
    let records: Vec<_> = (0..2_500).map(|offset| record(0, offset, value.clone())).collect();
    let file = write(&head(1), &[], &records, &[2_500]);
    assert_eq!(read(&file).unwrap().1, records);
    let text = String::from_utf8(file).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("{\"block\":")).count(), 2);
    let spoilt = text.replacen("\"v\"", "\"w\"", 3);
    let damage = read(spoilt.as_bytes()).unwrap_err();
    assert!(matches!(damage, Damage::Checksum { line: 1_001 }), "{damage}");
}

#[test]
fn what_is_no_backup_is_told_so() {
    for (file, words) in [
        ("", "is cut off at line 1"),
        ("hello\n", "is no backup of a topic: expected value"),
        ("{\"value\":\"x\"}\n", "missing field `tidelog_backup`"),
        ("{\"tidelog_backup\":2,\"more\":1}\n", "has format 2, this version reads 1"),
    ] {
        let damage = read(file.as_bytes()).unwrap_err().to_string();
        assert!(damage.contains(words), "{file:?}: {damage}");
    }
}

#[test]
fn a_partition_that_was_not_read_to_its_end_is_no_backup() {
    let mut writer = Writer::begin(Vec::new(), &head(1)).unwrap();
    writer.record(&record(0, 3, Content::default())).unwrap();
    assert!(writer.record(&record(0, 5, Content::default())).is_err(), "a gap");
    assert!(writer.finish(&[Offset(5)]).is_err());
}

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

prop_compose! {
    fn contents()(
        key in proptest::option::of(bytes()),
        value in proptest::option::of(bytes()),
        headers in proptest::collection::vec(("\\PC{0,5}", proptest::option::of(bytes())), 0..4),
    ) -> Content {
        Content { key, value, headers }
    }
}

#[test]
fn records_of_any_time_come_back() {
    // The years 0 and 9999 begin and end with these; what lies beyond is a number in the file.
    for time in [-62_167_219_200_000, 253_402_207_200_999, i64::MIN, i64::MAX, 0] {
        for timestamp in [time.saturating_sub(1), time, time.saturating_add(1)].map(Timestamp) {
            let records = vec![Consumed { timestamp, ..record(0, 0, Content::default()) }];
            let file = write(&head(1), &[], &records, &[1]);
            assert_eq!(read(&file).unwrap().1, records, "{timestamp}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_comes_back(
        contents in proptest::collection::vec((0..3_u32, contents(), any::<i64>()), 0..20),
        starts in [0..1_000_u64, 0..1_000_u64, 0..1_000_u64],
    ) {
        let mut ends = starts;
        let mut records = Vec::new();
        for (partition, content, time) in contents {
            let end = &mut ends[partition as usize];
            let timestamp = Timestamp(time);
            records.push(Consumed { timestamp, ..record(partition, *end, content) });
            *end += 1;
        }
        let file = write(&head(3), &[], &records, &ends);
        prop_assert_eq!(read(&file).unwrap().1, records);
        prop_assert_eq!(rewritten(&file).unwrap(), file);
    }
}
