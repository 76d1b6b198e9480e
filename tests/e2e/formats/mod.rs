//! Data directories that were written once and are read ever after. Each folder beside this file is
//! what one broker left behind: `data`, and `answers.txt`, what commands said of it then.
//!
//! When a format changes, `what_is_written_now_is_among_them` says so, and
//! `UPDATE=1 cargo test -p tidelog --test e2e formats` adds the next folder. None is ever changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use crate::command::{Ended, run, run_with};
use crate::stage::{PATIENCE, Stage, until};

/// Questions whose answers follow from what is on the disk alone.
const QUESTIONS: [&[&str]; 6] = [
    &["topic", "list"],
    &["topic", "config", "orders"],
    &["consume", "orders", "--until", "end", "--json"],
    &["consume", "brief", "--until", "end", "--json"],
    &["group", "list"],
    &["group", "seek", "readers", "--to", "end", "--dry-run"],
];

/// Asked too where there is a topic that was compacted.
const OF_VIEWS: &[&str] = &["consume", "views", "--until", "end", "--json"];

/// Keys of that topic.
const KEYS: usize = 4;

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
        let answers = answers(&stage, expected.contains(&OF_VIEWS.join(" ")));
        assert_eq!(on_disk(&answers), on_disk(&expected), "{}", folder.display());

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
    let quick = "[storage]\nclean_every = \"200ms\"\n";
    let mut stage = Stage::with(1, |setup| setup.settings = quick.parse().unwrap()).await;
    stage.start_all().await;
    let answers = write(&stage).await;
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
async fn write(stage: &Stage) -> String {
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
    compacted(stage).await;
    answers(stage, true)
}

/// A topic of which compaction has left the newest records.
async fn compacted(stage: &Stage) {
    let compact = ["cleanup.policy=compact", "segment.ms=1", "min.cleanable.dirty.ratio=0"];
    let configs = compact.into_iter().flat_map(|config| ["-c", config]);
    let create: Vec<&str> = ["topic", "create", "views"].into_iter().chain(configs).collect();
    ask(stage, &create, b"");
    let mut number = 0;
    until("most records are taken out", async || {
        for _ in 0..KEYS {
            number += 1;
            let key = number % KEYS;
            let line = format!("{{\"key\":\"k{key}\",\"value\":\"view {number}\"}}\n");
            ask(stage, &["produce", "views", "--json"], line.repeat(3).as_bytes());
        }
        sleep(Duration::from_millis(500)).await;
        ask(stage, OF_VIEWS, b"").stdout.lines().count() < number
    })
    .await;
    // For the next start not to go on with it.
    let set = ["--set", "cleanup.policy=delete", "--set", "retention.ms=-1"];
    ask(stage, &[&["topic", "config", "views"], &set[..]].concat(), b"");
    sleep(Duration::from_secs(1)).await;
}

fn answers(stage: &Stage, of_views: bool) -> String {
    let answer = |question: &&[&str]| {
        let told = ask(stage, question, b"").stdout;
        format!("$ tidelog {}\n{told}\n", question.join(" "))
    };
    QUESTIONS.iter().chain(of_views.then_some(&OF_VIEWS)).map(answer).collect()
}

/// Answers without what no disk says: a version may know of more configs, with defaults of its own.
fn on_disk(answers: &str) -> String {
    let said = answers.lines().filter(|line| !line.ends_with("\tdefault"));
    said.map(|line| format!("{line}\n")).collect()
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
        let of_segment = |kind| kind == "log" || kind == "idx" || kind == "start";
        path.ends_with("compacted") || path.extension().is_some_and(of_segment)
    };
    let files = files(data).into_iter().filter(of_log);
    let head = |path: PathBuf| {
        let votes = path.file_stem().is_some_and(|stem| stem == "votes");
        let kind = match path.extension() {
            _ if votes => "votes".into(),
            Some(extension) => extension.to_owned(),
            None => path.file_name().unwrap().to_owned(),
        };
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
