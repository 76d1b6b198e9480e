//! The rules can fail: each rejects the bad histories of its folder, for nothing else than that rule,
//! and accepts the good ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod register;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tidelog_checker::{Error, History, Rule, Verdict, check};

/// Histories of each kind that a rule has at least.
const HISTORIES_MIN: usize = 3;

fn folder(rule: Rule, kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("histories").join(rule.name());
    let entries = fs::read_dir(folder.join(kind)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn judge(file: &Path) -> Verdict {
    let mut history = History::default();
    let name = file.file_name().unwrap().to_str().unwrap();
    history.read(name, fs::read(file).unwrap().as_slice()).unwrap();
    check(&history).unwrap()
}

#[test]
fn every_rule_accepts_good_histories_and_rejects_bad_ones() {
    let mut wrong = Vec::new();
    for rule in Rule::ALL {
        let (good, bad) = (folder(rule, "good"), folder(rule, "bad"));
        let fewest = good.len().min(bad.len());
        assert!(fewest >= HISTORIES_MIN, "{rule} has {} good, {} bad", good.len(), bad.len());
        for file in good {
            let verdict = judge(&file);
            if !verdict.holds() {
                wrong.push(format!("{rule}: {} is good\n{verdict}", file.display()));
            }
        }
        for file in bad {
            let verdict = judge(&file);
            // Nothing but this rule: otherwise another one might be doing its work.
            if verdict.count(rule) == 0 || verdict.count(rule) != verdict.violations() {
                wrong.push(format!("{rule}: {} breaks it alone\n{verdict}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
}

/// A folder that no rule owns would never be read.
#[test]
fn every_folder_belongs_to_a_rule() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("histories");
    for entry in fs::read_dir(root).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(Rule::ALL.iter().any(|rule| rule.name() == name), "{name}");
    }
}

fn run(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidelog-checker"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Whoever is given files reads nothing of it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn command_says_what_it_judged() {
    let file = "histories/at_least_once/good/delivered_to_several_members.jsonl";
    let ended = run(&[file], "");
    let stdout = text(&ended.stdout);
    assert_eq!(ended.status.code(), Some(0), "{stdout}");
    let count = |name: &str| {
        let line = stdout.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().next_back().unwrap().parse::<u64>().unwrap()
    };
    let names = ["events", "deliveries", "commits accepted", "reads", "members", "rebalances"];
    assert_eq!(names.map(count), [18, 10, 2, 1, 2, 1]);
    assert_eq!(count("violations: at_least_once"), 0);
}

#[test]
fn command_names_the_line_of_a_violation() {
    let file = "histories/poll_order/bad/record_skipped.jsonl";
    let ended = run(&[file], "");
    let stdout = text(&ended.stdout);
    assert_eq!(ended.status.code(), Some(1), "{stdout}");
    assert!(stdout.contains("record_skipped.jsonl:4: poll_order: a got billing"), "{stdout}");
}

#[test]
fn command_judges_several_files_as_one_history() {
    let told = |at: &str, offset: u64| {
        format!(
            r#"{{"committed":{{"at":{at},"group":"g","topic":"t","partition":0,"offset":{offset}}}}}"#
        )
    };
    let sought = r#"{"seek":{"at":[0,1],"group":"g","topic":"t","partition":0,"offset":5,"outcome":{"accepted":null}}}"#;
    let dir = std::env::temp_dir().join(format!("tidelog-checker-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let files = ["first", "second"].map(|name| dir.join(name).to_str().unwrap().to_owned());
    fs::write(&files[0], sought).unwrap();
    fs::write(&files[1], told("[2,3]", 5)).unwrap();
    assert_eq!(run(&[&files[0], &files[1]], "").status.code(), Some(0));
    assert_eq!(run(&[&files[1]], "").status.code(), Some(1), "nobody has committed 5");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn command_refuses_what_is_no_history() {
    let produced =
        r#"{"produced":{"at":[1,2],"topic":"t","partition":0,"offset":0,"id":1}}"#.to_owned();
    let cases = [
        (String::new(), "no events"),
        (format!("{produced}\n\n"), "stdin:2: not an event"),
        (format!("{produced}\nnot json"), "stdin:2: not an event"),
        (format!("{produced}\n{{\"produced\":{{}}}}"), "stdin:2: not an event"),
        (produced.replace("\"id\":1", "\"id\":1,\"extra\":2"), "unknown field"),
        (produced.replace("produced", "invented"), "unknown variant"),
        (produced.replace("\"id\":1", "\"id\":-1"), "stdin:1: not an event"),
        (produced.replace("[1,2]", "[2,1]"), "stdin:1: it was completed before"),
        (seek("[1,2]", r#""unknown""#), "stdin:1: a seek without an answer"),
        (
            [seek("[1,9]", ACCEPTED), seek("[5,12]", ACCEPTED)].join("\n"),
            "stdin:2: seeks of one partition overlap",
        ),
    ];
    for (input, expected) in cases {
        let ended = run(&[], &input);
        let stderr = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{input}: {stderr}");
        assert!(stderr.contains(expected), "{input}: {stderr}");
    }
    let ended = run(&["there-is-no-such-file"], "");
    assert_eq!(ended.status.code(), Some(2));
}

const ACCEPTED: &str = r#"{"accepted":null}"#;

fn seek(at: &str, outcome: &str) -> String {
    format!(
        r#"{{"seek":{{"at":{at},"group":"g","topic":"t","partition":0,"offset":5,"outcome":{outcome}}}}}"#
    )
}

/// Recorders in Rust write with the types that the checker reads with.
#[test]
fn events_are_written_as_they_are_read() {
    for rule in Rule::ALL {
        for kind in ["good", "bad"] {
            for file in folder(rule, kind) {
                let text = fs::read_to_string(&file).unwrap();
                for line in text.lines() {
                    let event: tidelog_checker::Event<'_> = serde_json::from_str(line).unwrap();
                    assert_eq!(serde_json::to_string(&event).unwrap(), line, "{}", file.display());
                }
            }
        }
    }
}

#[test]
fn history_without_events_proves_nothing() {
    assert!(matches!(check(&History::default()), Err(Error::Empty)));
}
