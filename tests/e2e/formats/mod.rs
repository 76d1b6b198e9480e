//! Data directories that were written once and are read ever after. Each folder beside this file is
//! what one broker left behind: `data`, and `answers.txt`, what commands said of it then.
//!
//! When a format changes, `what_is_written_now_is_among_them` says so, and
//! `UPDATE=1 cargo test -p tidelog --test e2e formats` adds the next folder. None is ever changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{Ended, run, run_with};
use crate::stage::{PATIENCE, Stage};

/// Questions whose answers follow from what is on the disk alone.
const QUESTIONS: [&[&str]; 6] = [
    &["topic", "list"],
    &["topic", "config", "orders"],
    &["consume", "orders", "--until", "end", "--json"],
    &["consume", "brief", "--until", "end", "--json"],
    &["group", "list"],
    &["group", "seek", "readers", "--to", "end", "--dry-run"],
];

/// Bytes at the beginning of a file of the log that say what it is and in which format.
const HEAD_BYTES: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn data_of_every_format_is_read() {
    let folders = folders();
    assert!(!folders.is_empty(), "no folder in {}", home().display());
    for folder in folders {
        let mut stage = Stage::with(1, |_| ()).await;
        copy(&folder.join("data"), stage.cluster.broker(1).data_dir());
        stage.start_all().await;
        let expected = fs::read_to_string(folder.join("answers.txt")).unwrap();
        assert_eq!(answers(&stage), expected, "{}", folder.display());

        // It is not only read but gone on with, at the offset that is next.
        let records = expected.lines().filter(|line| line.contains("\"orders\"")).count();
        let told = ask(&stage, &["produce", "orders", "-p", "0"], b"one more\n").stdout;
        assert!(told.contains(&records.to_string()), "{told}, not after {records}");
        stage.cluster.kill_all().unwrap();
        stage.start_all().await;
        let read = ask(&stage, &["consume", "orders", "--until", "end", "--json"], b"").stdout;
        assert_eq!(read.lines().count(), records + 1, "{read}");
        assert!(read.lines().last().unwrap().contains("one more"), "{read}");
        ask(&stage, &["group", "seek", "readers", "--to", "start", "--yes"], b"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_now_is_among_them() {
    let mut stage = Stage::with(1, |_| ()).await;
    stage.start_all().await;
    let answers = write(&stage);
    stage.cluster.stop_all(PATIENCE).await.unwrap();
    let data = stage.cluster.broker(1).data_dir();
    let newest = folders().pop();
    if newest.as_ref().is_some_and(|newest| heads(&newest.join("data")) == heads(data)) {
        return;
    }
    assert!(
        std::env::var_os("UPDATE").is_some(),
        "a format has changed: UPDATE=1 adds a folder to {}",
        home().display()
    );
    let folder = home().join((folders().len() + 1).to_string());
    copy(data, &folder.join("data"));
    fs::write(folder.join("answers.txt"), answers).unwrap();
}

/// Has a new cluster write something of every kind, and asks it.
fn write(stage: &Stage) -> String {
    let small = "segment.bytes=4096";
    ask(stage, &["topic", "create", "orders", "-c", small], b"");
    ask(stage, &["topic", "create", "brief", "-c", small, "-c", "retention.bytes=4096"], b"");
    ask(stage, &["topic", "create", "gone"], b"");
    ask(stage, &["topic", "delete", "gone", "--yes"], b"");
    ask(stage, &["topic", "config", "orders", "--set", "retention.ms=-1"], b"");
    for codec in ["none", "lz4", "zstd"] {
        let lines: String = (0..40).map(|n| format!("{codec} order {n}: a dozen eggs\n")).collect();
        let args = ["produce", "orders", "-k", codec, "-H", "kind=order", "-z", codec];
        ask(stage, &args, lines.as_bytes());
    }
    ask(stage, &["produce", "orders", "-k", "none", "--tombstone"], b"");
    ask(stage, &["consume", "orders", "-g", "readers", "-n", "25"], b"");
    for number in 0..20 {
        let line = format!("{number}: {}\n", "brief ".repeat(100));
        ask(stage, &["produce", "brief"], line.as_bytes());
    }
    answers(stage)
}

fn answers(stage: &Stage) -> String {
    let answer = |question: &&[&str]| {
        let told = ask(stage, question, b"").stdout;
        format!("$ tidelog {}\n{told}\n", question.join(" "))
    };
    QUESTIONS.iter().map(answer).collect()
}

fn ask(stage: &Stage, question: &[&str], input: &[u8]) -> Ended {
    let bootstrap = stage.cluster.bootstrap().join(",");
    let asked = [question, &["-b", &bootstrap]].concat();
    if input.is_empty() { run(&asked).succeeded() } else { run_with(&asked, input).succeeded() }
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/e2e/formats")
}

/// The folders, from the oldest format on.
fn folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(home()).unwrap().map(|entry| entry.unwrap().path());
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let mut folders: Vec<PathBuf> = entries.filter(|path| number(path).is_some()).collect();
    folders.sort_by_key(number);
    folders
}

/// How the files of each kind begin.
fn heads(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let of_log = |path: &PathBuf| {
        path.extension().is_some_and(|kind| kind == "log" || kind == "idx" || kind == "start")
    };
    let files = files(data).into_iter().filter(of_log);
    let head = |path: PathBuf| {
        let votes = path.file_stem().is_some_and(|stem| stem == "votes");
        let kind = if votes { "votes".into() } else { path.extension().unwrap().to_owned() };
        let bytes = fs::read(&path).unwrap();
        (kind.into_string().unwrap(), bytes[..HEAD_BYTES.min(bytes.len())].to_vec())
    };
    files.map(head).collect()
}

/// Copies a data directory.
fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&path, &target).unwrap();
    }
}

/// What a data directory holds beside logs that comes back by itself: the map of the metadata, which
/// follows from its log, and the file by which a process keeps others out.
const MADE_AGAIN: [&str; 3] = ["view", "view.aside", "lock"];

/// All files below a directory that cannot be made again from the rest.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let kept = entries.filter(|path| !MADE_AGAIN.iter().any(|name| path.ends_with(name)));
    kept.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
