//! Consumer groups from the command line: members that share, stop and are moved, and what they leave.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::command::{Ended, run_with, tidelog};
use crate::stage::{PARTITIONS, Stage, TOPIC, until};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const GROUP: &str = "billing";
/// How far apart the clocks of a broker and of the test may be, in seconds.
const CLOCK_SLACK: f64 = 0.25;

/// A cluster, and the commands that are given to it.
struct Shell {
    stage: Stage,
    bootstrap: String,
    written: usize,
    members: usize,
}

impl Shell {
    async fn open() -> Self {
        let stage = Stage::ready().await;
        let bootstrap = stage.cluster.bootstrap().join(",");
        Self { stage, bootstrap, written: 0, members: 0 }
    }

    fn run_with(&self, line: &str, input: &[u8]) -> Ended {
        let args = line.split(' ').chain(["-b", &self.bootstrap]);
        run_with(&args.collect::<Vec<_>>(), input)
    }

    fn run(&self, line: &str) -> Ended {
        self.run_with(line, b"")
    }

    /// The items of an answer in JSON lines.
    #[track_caller]
    fn items(&self, line: &str) -> Vec<Value> {
        let ended = self.run(&format!("{line} -o jsonl")).succeeded();
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    fn describe(&self) -> Value {
        self.items(&format!("group describe {GROUP}")).remove(0)
    }

    /// One field of each partition's lag.
    #[track_caller]
    fn lag(&self, field: &str) -> Vec<Value> {
        let lines = self.items(&format!("group describe {GROUP} --lag"));
        lines.into_iter().map(|mut line| line[field].take()).collect()
    }

    /// Writes `count` new records to each partition, and gives their values.
    fn produce(&mut self, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        for partition in 0..PARTITIONS {
            let numbers = self.written..self.written + count;
            let values: Vec<_> = numbers.map(|number| format!("value-{number}")).collect();
            self.written += count;
            let input = values.join("\n") + "\n";
            self.run_with(&format!("produce {TOPIC} -p {partition}"), input.as_bytes()).succeeded();
            all.extend(values);
        }
        all
    }

    /// Starts a member of the group, which prints into a file.
    fn member(&mut self, more: &[&str]) -> Member {
        self.members += 1;
        let printed = self.stage.dir().join(format!("member-{}.out", self.members));
        let args = ["consume", TOPIC, "-g", GROUP, "-b", &self.bootstrap];
        let mut command = tidelog(&args);
        command.args(more).stdin(Stdio::null()).stdout(File::create(&printed).unwrap());
        Member { process: command.spawn().unwrap(), printed }
    }

    /// Waits until everything is committed that there is.
    async fn caught_up(&self) {
        until("the group is at the end", async || {
            let lag = self.lag("lag_records");
            lag.len() == PARTITIONS as usize && lag.iter().all(|lag| *lag == 0)
        })
        .await;
    }
}

/// A running `consume -g`.
struct Member {
    process: Child,
    printed: PathBuf,
}

impl Member {
    /// The whole lines that it has printed so far.
    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.printed).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(str::to_owned).collect()
    }

    async fn printed(&self, count: usize) {
        until("the member has printed", async || self.lines().len() >= count).await;
    }

    /// Asks it to end, which it does well.
    fn stop(mut self, signal: Signal) -> Vec<String> {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
        let status = self.process.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{status:?}");
        self.lines()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

fn lines(ended: Ended) -> Vec<String> {
    ended.succeeded().stdout.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_partitions_and_lose_nothing() {
    let mut shell = Shell::open().await;
    let mut written = shell.produce(50);
    let first = shell.member(&[]);
    first.printed(written.len()).await;
    let second = shell.member(&[]);
    until("both hold something, and all is settled", async || {
        let group = shell.describe();
        let held: Vec<usize> = group["members"].as_array().unwrap().iter().map(held).collect();
        group["state"] == "stable"
            && held.len() == 2
            && held.iter().sum::<usize>() == PARTITIONS as usize
            && !held.contains(&0)
    })
    .await;
    let group = shell.describe();
    for member in group["members"].as_array().unwrap() {
        assert_eq!(member["client_id"], "tidelog-cli", "{group}");
    }
    written.extend(shell.produce(50));
    until("both together have printed everything", async || {
        first.lines().len() + second.lines().len() >= written.len()
    })
    .await;
    // A third that only waits until the group is at the end: the others have done all of it.
    let end = format!("consume {TOPIC} -g {GROUP} --until end");
    assert_eq!(shell.run(&end).succeeded().stdout, "");
    let (first, second) = (first.stop(Signal::TERM), second.stop(Signal::TERM));
    assert!(first.len() >= 200 && !second.is_empty(), "{} {}", first.len(), second.len());
    // While nothing dies, nothing comes twice either.
    assert_eq!(sorted([first, second].concat()), sorted(written));
    assert_eq!(shell.lag("lag_records"), [0, 0, 0]);
    let listed = shell.items("group list");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["group"], &listed[0]["state"]), (&GROUP.into(), &"empty".into()));
}

fn held(member: &Value) -> usize {
    member["holdings"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_commit_and_leave_so_that_the_next_begins_exactly_behind() {
    let mut shell = Shell::open().await;
    for signal in [Signal::TERM, Signal::INT] {
        let written = shell.produce(20);
        let member = shell.member(&[]);
        member.printed(written.len()).await;
        assert_eq!(sorted(member.stop(signal)), sorted(written), "{signal:?}");
        let group = shell.describe();
        assert_eq!(group["members"], Value::Array(Vec::new()), "it left: {group}");
        assert_eq!(group["state"], "empty");
    }
    let end = format!("consume {TOPIC} -g {GROUP} --until end");
    assert_eq!(shell.run(&end).succeeded().stdout, "", "nothing is left");
    // So many and no more are committed, and the rest comes next.
    let written = shell.produce(10);
    let some = lines(shell.run(&format!("consume {TOPIC} -g {GROUP} -n 7")));
    assert_eq!(some.len(), 7);
    let rest = lines(shell.run(&end));
    assert_eq!(sorted([some, rest].concat()), sorted(written));

    // A static member keeps its place.
    let written = shell.produce(1);
    let member = shell.member(&["--instance", "till-1"]);
    member.printed(written.len()).await;
    member.stop(Signal::TERM);
    let group = shell.describe();
    let members = group["members"].as_array().unwrap();
    assert_eq!(members.len(), 1, "{group}");
    assert_eq!(members[0]["instance_id"], "till-1", "{group}");
    assert_eq!(shell.lag("lag_records"), [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_moves_a_running_group_and_a_dry_run_nothing() {
    let mut shell = Shell::open().await;
    let written = shell.produce(20);
    let mut member = shell.member(&[]);
    member.printed(written.len()).await;
    shell.caught_up().await;

    let before = shell.describe();
    for (to, offset) in [("start", 0), ("end", 20), ("7", 7), ("@-1h", 0), ("@now", 20)] {
        let plan = shell.items(&format!("group seek {GROUP} --to {to} --dry-run"));
        assert_eq!(plan.len(), PARTITIONS as usize, "{plan:?}");
        for item in plan {
            let told = (&item["from"], &item["to"], &item["moved"]);
            assert_eq!(told, (&20.into(), &offset.into(), &false.into()), "--to {to}");
        }
    }
    shell
        .run(&format!("group seek {GROUP} --to start"))
        .refused(USAGE, &["orders/0 20 -> 0", "orders/2 20 -> 0", "-y"]);
    assert_eq!(shell.lag("committed"), [20, 20, 20]);
    assert_eq!(shell.describe(), before, "nobody was disturbed");
    assert_eq!(member.lines().len(), written.len());

    let moved = shell.items(&format!("group seek {GROUP} --to start -y"));
    for item in moved {
        let told = (&item["from"], &item["to"], &item["moved"]);
        assert_eq!(told, (&20.into(), &0.into(), &true.into()));
    }
    member.printed(2 * written.len()).await;
    assert_eq!(sorted(member.lines()), sorted([written.clone(), written.clone()].concat()));
    assert_eq!(member.process.try_wait().unwrap(), None, "it runs on");

    shell.caught_up().await;
    let one = format!("group seek {GROUP} --to 15 --topic {TOPIC}/1 -y");
    assert_eq!(shell.items(&one).len(), 1);
    member.printed(2 * written.len() + 5).await;
    let again = member.stop(Signal::TERM).split_off(2 * written.len());
    assert_eq!(sorted(again), sorted(written[35..40].to_vec()), "the last five of partition 1");
    assert_eq!(shell.lag("lag_records"), [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_told_in_records_and_in_seconds() {
    let shell = Shell::open().await;
    shell.run("topic create single -p 1").succeeded();
    shell.run_with("produce single", b"one\n").succeeded();
    let consume = format!("consume single -g {GROUP} --until end");
    assert_eq!(shell.run(&consume).succeeded().stdout, "one\n");
    let told = |line: &Value| {
        let of = |field: &str| line[field].as_u64().unwrap();
        (of("committed"), of("end"), of("lag_records"), line["lag_seconds"].as_f64().unwrap())
    };
    let lag = || told(&shell.items(&format!("group describe {GROUP} --lag"))[0]);
    assert_eq!(lag(), (1, 1, 0, 0.0));

    let before = Instant::now();
    shell.run_with("produce single", b"two\n").succeeded();
    let after = Instant::now();
    // Younger than the record that counts.
    shell.run_with("produce single", b"three\n").succeeded();
    until("the record is some seconds old", async || {
        let least = after.elapsed().as_secs_f64() - CLOCK_SLACK;
        let (committed, end, records, seconds) = lag();
        let most = before.elapsed().as_secs_f64() + CLOCK_SLACK;
        assert_eq!((committed, end, records), (1, 3, 2));
        assert!((least..=most).contains(&seconds), "{seconds} is not in {least}..{most}");
        seconds >= 3.0
    })
    .await;
    assert_eq!(shell.run(&consume).succeeded().stdout, "two\nthree\n");
    assert_eq!(lag(), (3, 3, 0, 0.0));

    // For people: a table, again and again.
    let mut watch = tidelog(&["group", "describe", GROUP, "--lag", "--watch", "-o", "table"]);
    watch.args(["-b", &shell.bootstrap]).stdin(Stdio::null());
    let printed = shell.stage.dir().join("watch.out");
    watch.stdout(File::create(&printed).unwrap());
    let watch = Member { process: watch.spawn().unwrap(), printed };
    let title = format!("Group {GROUP}: empty, 0 members, 0 records behind");
    until("the table was printed twice", async || {
        watch.lines().iter().filter(|line| **line == title).count() >= 2
    })
    .await;
    let shown = watch.stop(Signal::INT);
    assert!(shown[1].starts_with("TOPIC ") && shown[2].starts_with("single "), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_one_line_and_changes_nothing() {
    let mut shell = Shell::open().await;
    let written = shell.produce(4);
    let member = shell.member(&[]);
    member.printed(written.len()).await;
    shell.caught_up().await;
    let before = (shell.describe(), shell.lag("committed"));

    let long = "x".repeat(256);
    let unknown = ["nobody", "GROUP_ID_NOT_FOUND", "tidelog group list"];
    let no_topic = ["nothing", "UNKNOWN_TOPIC_OR_PARTITION", "tidelog topic create nothing"];
    let too_long = ["group id has 256 bytes", "INVALID_GROUP_ID"];
    let cases: &[(&str, i32, &[&str])] = &[
        ("group describe nobody", FAILED, &unknown),
        ("group describe nobody --lag --watch", FAILED, &unknown),
        ("group seek nobody --to start -y", FAILED, &unknown),
        ("group seek nobody --to start --topic orders -y", FAILED, &unknown),
        ("group delete nobody -y", FAILED, &unknown),
        ("group delete-offsets nobody --topic orders -y", FAILED, &unknown),
        ("consume nothing -g billing", FAILED, &no_topic),
        ("consume orders nothing -g billing", FAILED, &no_topic),
        ("group seek billing --to start --topic nothing -y", FAILED, &no_topic),
        ("group delete-offsets billing --topic nothing -y", FAILED, &no_topic),
        (
            "group seek billing --to start --topic orders/9 -y",
            FAILED,
            &["none of them is 9", "UNKNOWN_TOPIC_OR_PARTITION", "topic describe orders"],
        ),
        ("group seek billing --to -1 -y", USAGE, &["offset -1 is negative", "OFFSET_OUT_OF_RANGE"]),
        (
            "group seek billing --to 5 -y",
            FAILED,
            &["ends at 4, asked for 5", "and 2 more", "OFFSET_OUT_OF_RANGE", "nothing was moved"],
        ),
        ("group seek billing --to 5 --dry-run", FAILED, &["OFFSET_OUT_OF_RANGE"]),
        ("consume orders -g LONG", USAGE, &too_long),
        ("group describe LONG", USAGE, &too_long),
        ("group seek LONG --to start -y", USAGE, &too_long),
        ("group delete LONG -y", USAGE, &too_long),
        ("group delete-offsets LONG --topic orders -y", USAGE, &too_long),
        ("consume orders -g billing --instance LONG", USAGE, &["instance id has 256 bytes"]),
        ("consume orders -g billing -p 0", USAGE, &["--partition", "--group"]),
        ("consume orders -g billing --from 3", USAGE, &["--from 3", "tidelog group seek"]),
        ("consume orders --instance a", USAGE, &["--instance", "-g"]),
        ("group delete billing -y", FAILED, &["1 member", "NON_EMPTY_GROUP", "group describe"]),
        (
            "group delete-offsets billing --topic orders/0 -y",
            FAILED,
            &["orders/0", "GROUP_SUBSCRIBED_TO_TOPIC", "stop the members"],
        ),
    ];
    for (line, code, words) in cases {
        println!("{line}");
        shell.run(&line.replace("LONG", &long)).refused(*code, words);
    }
    assert_eq!((shell.describe(), shell.lag("committed")), before);
    assert_eq!(shell.items("group list").len(), 1, "no group was made by mistake");
    assert_eq!(sorted(member.stop(Signal::TERM)), sorted(written));
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_and_groups_are_deleted_after_asking() {
    let mut shell = Shell::open().await;
    let written = shell.produce(2);
    let end = format!("consume {TOPIC} -g {GROUP} --until end");
    assert_eq!(sorted(lines(shell.run(&end))), sorted(written.clone()));

    let forget = format!("group delete-offsets {GROUP} --topic {TOPIC}/0");
    shell.run(&forget).refused(USAGE, &["1 partition", "-y"]);
    let delete = format!("group delete {GROUP}");
    shell.run(&delete).refused(USAGE, &["3 partitions", "-y"]);
    assert_eq!(shell.lag("committed"), [2, 2, 2]);

    let forgotten = shell.items(&format!("{forget} -y"));
    assert_eq!((forgotten.len(), &forgotten[0]["committed"]), (1, &2.into()));
    assert_eq!(shell.lag("partition"), [1, 2]);
    // It begins anew with that partition, by the start policy.
    assert_eq!(shell.run(&format!("{end} --from end")).succeeded().stdout, "");
    shell.run(&format!("{forget} -y")).succeeded();
    assert_eq!(sorted(lines(shell.run(&end))), sorted(written[..2].to_vec()));

    shell.run(&format!("{delete} -y")).succeeded();
    assert!(shell.items("group list").is_empty());
    shell.run(&delete).refused(FAILED, &["GROUP_ID_NOT_FOUND"]);
    assert_eq!(sorted(lines(shell.run(&end))), sorted(written));
}
