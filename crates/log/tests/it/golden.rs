//! The formats on disk, byte for byte. Only a decision record may change a golden file.
//!
//! `TIDELOG_BLESS=1` writes them anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tidelog_log::disk::{Disk, Open, OsDisk};
use tidelog_log::sim::SimDisk;
use tidelog_log::{Compacted, Kind, Vote, dump};
use tidelog_types::{LogIndex, Offset, Term};

use crate::support::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn compare(name: &str, bytes: &[u8]) {
    let path = golden(name);
    if std::env::var_os("TIDELOG_BLESS").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let expected = std::fs::read(&path).unwrap();
    let differs = expected.iter().zip(bytes).position(|(a, b)| a != b);
    assert!(
        expected == bytes,
        "{name}: {} bytes expected, {} found, first difference at {differs:?}",
        expected.len(),
        bytes.len(),
    );
}

fn bytes_of(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

/// A node that did one of everything.
fn sample() -> SimDisk {
    let disk = SimDisk::new();
    let node = Node::start(&disk).segment_bytes(900);
    let log = node.create();
    let vote = Vote { term: Term(1), node: Some(NODE), committed: true };
    node.env.votes.save_vote(group(), vote, sure());
    let mut member = command(1, 1, b"who takes part");
    member.kind = Kind::Membership;
    log.append(vec![blank(1, 0), member], sure()).unwrap();
    log.append(vec![records(1, 2, 0, &[batch(2, 20, 5000), batch(1, 7, 6000)])], sure()).unwrap();
    log.append(vec![records(1, 3, 7, &[batch(1, 3, 7000)])], sure()).unwrap();
    log.append(vec![command(2, 4, b"a command")], sure()).unwrap();
    log.append(vec![records(2, 5, 0, &[batch(1, 300, 8000)])], sure()).unwrap();
    assert_eq!(log.segments().len(), 2, "it rolled once");
    put_starts(&log);
    node.env.votes.note_commit(group(), at(2, 4));
    node.env.votes.tick();
    disk
}

#[test]
fn files_are_what_they_always_were() {
    let disk = sample();
    let first = (1..6).find(|n| disk.file_len(&path(*n, "log")).is_ok()).unwrap();
    compare("segment.log", &bytes_of(&disk, &path(0, "log")));
    compare("segment.idx", &bytes_of(&disk, &path(0, "idx")));
    compare("next_segment.log", &bytes_of(&disk, &path(first, "log")));
    compare("next_segment.start", &bytes_of(&disk, &path(first, "start")));
    compare("votes.log", &bytes_of(&disk, &data().join("votes.log")));
}

#[test]
fn compacted_files_are_what_they_always_were() {
    let disk = sample();
    let log = Node::start(&disk).open().log;
    let to = log.segments()[1].base_offset;
    compact(&log, Compacted { to, tombstones_to: Offset(1) });
    let segment = bytes_of(&disk, &path(0, "log"));
    compare("compacted_segment.log", &segment);
    compare("compacted", &bytes_of(&disk, &dir().join("compacted")));

    let disk = SimDisk::new();
    disk.create_dir(Path::new("/of-old")).unwrap();
    let copy = Path::new("/of-old").join("00000000000000000000.log");
    let file = disk.open(&copy, Open::Create).unwrap();
    file.write_at(&[std::io::IoSlice::new(&segment)], 0).unwrap();
    let entries: Vec<_> = dump::segment(&disk, &copy).unwrap().collect();
    let entries: Vec<_> = entries.into_iter().map(|entry| entry.unwrap().unwrap()).collect();
    assert!(entries.iter().any(|entry| entry.is_compacted), "some lack records");
    let shown: Vec<String> = entries.iter().map(ToString::to_string).collect();
    assert!(shown.iter().any(|line| line.contains("compacted from")), "{shown:?}");
}

#[test]
fn files_of_old_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_owned();
    let log_dir = data.join(group().to_string());
    std::fs::create_dir(&log_dir).unwrap();
    let start = dump::start_point(&OsDisk, &golden("next_segment.start")).unwrap();
    let next = start.index.0;
    for (name, to) in [
        ("segment.log", log_dir.join(format!("{:020}.log", 0))),
        ("segment.idx", log_dir.join(format!("{:020}.idx", 0))),
        ("next_segment.log", log_dir.join(format!("{next:020}.log"))),
        ("next_segment.start", log_dir.join(format!("{next:020}.start"))),
        ("votes.log", data.join("votes.log")),
    ] {
        std::fs::copy(golden(name), to).unwrap();
    }
    let flusher = Arc::new(tidelog_log::flusher::InlineFlusher::default());
    let node = Node::with(Arc::new(OsDisk), data, flusher, None).unwrap();
    let record = node.env.votes.get(group()).unwrap();
    assert_eq!(record.commit, Some(at(2, 4)));
    assert_eq!(record.mark, LogIndex(6));
    let opened = node.open();
    assert_eq!((opened.torn_bytes, opened.log.last()), (0, Some(at(2, 5))));
    assert_eq!(read_all(&opened.log).len(), 3);
    assert_eq!(start.machine, Bytes::from(format!("state before {next}")));
    fill(&opened.log, 2, 3);
}

#[test]
fn dump_shows_each_entry() {
    let segment = dump::segment(&OsDisk, &golden("segment.log")).unwrap();
    let mut text = format!("{}\n", segment.head());
    for entry in segment {
        text.push_str(&format!("{}\n", entry.unwrap().unwrap()));
    }
    compare("segment.txt", text.as_bytes());

    let votes = dump::votes(&OsDisk, &golden("votes.log")).unwrap();
    assert_eq!(votes.len(), 1);
    assert_eq!(votes[0].0, group());
}

#[test]
fn dump_steps_over_damage() {
    let good = bytes_of(&OsDisk, &golden("segment.log"));
    let whole: Vec<_> = dump::segment(&OsDisk, &golden("segment.log"))
        .unwrap()
        .map(|entry| entry.unwrap().unwrap())
        .collect();
    let dir = tempfile::tempdir().unwrap();
    for (n, entry) in whole.iter().enumerate() {
        let mut bytes = good.clone();
        bytes[entry.position as usize + 50] ^= 1;
        let path = dir.path().join("f.log");
        std::fs::write(&path, bytes).unwrap();
        let items: Vec<_> =
            dump::segment(&OsDisk, &path).unwrap().map(|entry| entry.unwrap()).collect();
        let damage = items[n].as_ref().unwrap_err();
        assert_eq!(damage.position, entry.position);
        let next = whole.get(n + 1).map(|next| next.position);
        assert_eq!(damage.resumes_at, next);
        let seen: Vec<_> = items.into_iter().filter_map(Result::ok).collect();
        assert_eq!(seen.len(), whole.len() - 1, "all others are shown");
    }
}

#[test]
fn dump_of_something_else_says_so() {
    let err = dump::segment(&OsDisk, &golden("votes.log")).unwrap_err();
    assert!(err.to_string().contains("no segment head"), "{err}");
    let err = dump::segment(&OsDisk, &golden("nothing")).unwrap_err();
    assert!(err.to_string().starts_with("open "), "{err}");
}
