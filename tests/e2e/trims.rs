//! The oldest records are deleted on demand: by offset, by time, all of them, and for good.

use serde_json::Value;

use crate::command::{Ended, run, run_with};
use crate::stage::{PATIENCE, Stage, TOPIC, until};

/// Records in one partition.
const RECORDS: u64 = 100;

struct Tidelog {
    bootstrap: String,
}

impl Tidelog {
    fn run(&self, args: &[&str]) -> Ended {
        run(&[args, &["-b", &self.bootstrap, "-o", "json"]].concat())
    }

    fn trim(&self, before: &str) -> Value {
        let ended = self.run(&["topic", "trim", TOPIC, "--before", before, "-p", "0", "-y"]);
        serde_json::from_str(&ended.succeeded().stdout).unwrap()
    }

    /// The values that a reader from the start gets.
    fn values(&self) -> Vec<String> {
        let args = ["consume", TOPIC, "-p", "0", "--until", "end", "-f", "%v\\n"];
        let read = run(&[&args[..], &["-b", &self.bootstrap]].concat()).succeeded();
        read.stdout.lines().map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trimmed_records_are_gone_for_good_and_no_others() {
    let mut stage = Stage::ready().await;
    let tidelog = Tidelog { bootstrap: stage.cluster.bootstrap().join(",") };
    let lines: String = (0..RECORDS).map(|number| format!("r{number}\n")).collect();
    let produce = ["produce", TOPIC, "-p", "0", "-b", &tidelog.bootstrap];
    run_with(&produce, lines.as_bytes()).succeeded();

    // Offsets in the middle of a batch, too.
    let trimmed = tidelog.trim("37");
    let item = &trimmed["items"][0];
    assert_eq!((&item["log_start"], &item["deleted"]), (&37.into(), &37.into()), "{trimmed}");
    assert_eq!(tidelog.values().first().map(String::as_str), Some("r37"));
    // It never goes back, and there is nothing to be asked about.
    let again = tidelog.trim("12");
    assert_eq!(again["items"].as_array().map(Vec::len), Some(0), "{again}");
    let beyond = ["topic", "trim", TOPIC, "--before", "101", "-p", "0", "-y"];
    tidelog.run(&beyond).refused(1, &["orders/0", "ends at offset 100", "OFFSET_OUT_OF_RANGE"]);
    let unasked = ["topic", "trim", TOPIC, "--before", "end"];
    tidelog.run(&unasked).refused(2, &["63 records of 1 partition", "pass -y"]);
    tidelog.run(&["topic", "trim", TOPIC, "--before", "5", "-p", "9"]).refused(1, &["9"]);
    assert_eq!(tidelog.values().len(), 63);

    stage.cluster.kill_all().unwrap();
    stage.cluster.start_all().unwrap();
    stage.cluster.ready(PATIENCE).await.unwrap();
    assert_eq!(tidelog.values().first().map(String::as_str), Some("r37"));

    let all = tidelog.trim("end");
    assert_eq!(all["items"][0]["log_start"], RECORDS, "{all}");
    assert!(tidelog.values().is_empty());
    run_with(&produce, b"next\n").succeeded();
    assert_eq!(tidelog.values(), ["next"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_records_go_by_themselves() {
    let quick = "[storage]\nclean_every = \"100ms\"\n";
    let mut stage = Stage::with(3, |setup| setup.settings = quick.parse().unwrap()).await;
    stage.start_all().await;
    let tidelog = Tidelog { bootstrap: stage.cluster.bootstrap().join(",") };
    let configs = ["-c", "segment.bytes=4096", "-c", "retention.ms=1500"];
    tidelog.run(&[&["topic", "create", TOPIC, "-p", "1"], &configs[..]].concat()).succeeded();
    let produce = ["produce", TOPIC, "-p", "0", "-b", &tidelog.bootstrap];
    let mut round = 0;
    // One leader from the first record on: nobody was elected since who could have seen a time.
    until("the first records are gone", async || {
        round += 1;
        let lines: String = (0..50).map(|n| format!("round {round} {n:.<90}\n")).collect();
        run_with(&produce, lines.as_bytes()).succeeded();
        let values = tidelog.values();
        assert!(values.iter().any(|value| value.starts_with(&format!("round {round} "))));
        !values.iter().any(|value| value.starts_with("round 1 "))
    })
    .await;
    assert!(round > 2, "they stay for their time");
}
