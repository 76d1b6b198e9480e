//! Topics as a file declares them: what differs is shown, made so, and made so only once; what cannot
//! be done is refused before anything is changed.

use serde_json::{Value, json};

use crate::command::{Ended, run_with};
use crate::stage::{PARTITIONS, Stage, TOPIC, until};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const DIFFERS: i32 = 4;

struct Shell {
    bootstrap: String,
    file: String,
}

impl Shell {
    fn new(stage: &Stage) -> Self {
        let file = stage.dir().join("topics.toml").display().to_string();
        Self { bootstrap: stage.cluster.bootstrap().join(","), file }
    }

    fn run_with(&self, args: &[&str], input: &str) -> Ended {
        run_with(&[args, &["-b", &self.bootstrap]].concat(), input.as_bytes())
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, "")
    }

    fn declare(&self, text: &str) {
        std::fs::write(&self.file, text).unwrap();
    }

    fn diff(&self) -> Ended {
        self.run(&["diff", "-f", &self.file])
    }

    fn apply(&self, more: &[&str]) -> Ended {
        self.run(&[&["apply", "-f", &self.file], more].concat())
    }

    /// Another broker than the one that made a change may show it a moment later.
    async fn nothing_differs(&self) {
        until("nothing differs", async || {
            let ended = self.diff();
            ended.code == 0 && ended.stdout == "nothing differs\n"
        })
        .await;
    }

    /// The names and partition counts of all topics.
    fn topics(&self) -> Vec<(String, u64)> {
        let list = self.run(&["topic", "list", "-o", "json"]).succeeded();
        let list: Value = serde_json::from_str(&list.stdout).unwrap();
        let one = |topic: &Value| {
            let partitions = topic["partitions"].as_array().unwrap().len() as u64;
            (topic["name"].as_str().unwrap().to_owned(), partitions)
        };
        list["items"].as_array().unwrap().iter().map(one).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_applied_once_and_then_nothing_differs() {
    let stage = Stage::ready().await;
    let shell = Shell::new(&stage);
    shell.run(&["topic", "create", "left-alone", "-c", "retention.ms=5000"]).succeeded();
    shell.run(&["topic", "config", TOPIC, "--set", "retention.bytes=100"]).succeeded();
    let wanted = PARTITIONS + 2;
    shell.declare(&format!(
        "[[topic]]\nname = \"{TOPIC}\"\npartitions = {wanted}\n\
         configs = {{ \"retention.ms\" = 60000 }}\n\n\
         [[topic]]\nname = \"bills\"\npartitions = 2\nreplication_factor = 3\n\
         configs = {{ \"segment.bytes\" = \"65536\" }}\n"
    ));
    let expected = [
        "orders\tpartitions\t3\t5",
        "orders\tretention.bytes\t100\t-",
        "orders\tretention.ms\t-\t60000",
        "bills\ttopic\tabsent\tpresent",
        "bills\tpartitions\t-\t2",
        "bills\treplication_factor\t-\t3",
        "bills\tsegment.bytes\t-\t65536",
    ];
    // The retention was set a moment ago, perhaps at another broker than answers now.
    until("the difference is shown", async || {
        let shown = shell.diff();
        shown.code == DIFFERS && shown.stderr.is_empty() && shown.stdout.lines().eq(expected)
    })
    .await;

    let before = shell.topics();
    let planned = shell.apply(&["--dry-run"]).succeeded();
    assert!(planned.stdout.lines().eq(expected), "{planned:#?}");
    shell
        .apply(&[])
        .refused(USAGE, &["adds 2 partitions to orders", "records of a key", "pass -y"]);
    assert_eq!(shell.topics(), before, "nothing was changed yet");

    let applied = shell.apply(&["-y", "-o", "json"]).succeeded();
    let applied: Value = serde_json::from_str(&applied.stdout).unwrap();
    assert_eq!((&applied["kind"], &applied["version"]), (&json!("apply"), &json!(1)));
    let items = applied["items"].as_array().unwrap();
    assert_eq!(items.len(), expected.len(), "{applied}");
    assert!(items.iter().all(|item| item["applied"] == true), "{applied}");
    let taken = json!({"topic": TOPIC, "setting": "retention.bytes", "cluster": "100",
                       "file": null, "applied": true});
    assert!(items.contains(&taken), "{applied}");

    shell.nothing_differs().await;
    let again = shell.apply(&[]).succeeded();
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("nothing differs\n", ""));
    let empty = shell.run(&["diff", "-f", &shell.file, "-o", "jsonl"]).succeeded();
    assert_eq!(empty.stdout, "");
    assert!(shell.topics().contains(&(TOPIC.to_owned(), wanted.into())));
    let alone = shell.run(&["topic", "config", "left-alone"]).succeeded();
    assert!(alone.stdout.contains("retention.ms\t5000\ttopic"), "{alone:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_before_anything_is_changed() {
    let stage = Stage::ready().await;
    let shell = Shell::new(&stage);
    let new = "[[topic]]\nname = \"new\"\npartitions = 1\n";
    let cases: [(&str, i32, &[&str]); 8] = [
        ("name = \"orders\"\npartitions = 1\n", FAILED, &["line 5: topic orders has 3 partitions"]),
        ("name = \"orders\"\nreplication_factor = 1\n", FAILED, &["topic orders has 3 replicas"]),
        ("name = \"orders\"\nconfigs = { colour = 1 }\n", FAILED, &["topic orders: ", "colour"]),
        (
            "name = \"orders\"\nconfigs = { \"retention.ms\" = \"soon\" }\n",
            FAILED,
            &["line 5: topic orders: ", "retention.ms", "soon", "nothing was changed"],
        ),
        ("name = \"big\"\nreplication_factor = 9\n", FAILED, &["line 5: topic big: ", "9"]),
        ("name = \"odd\"\nconfigs = { colour = 1 }\n", FAILED, &["topic odd: ", "colour"]),
        ("name = \"new\"\n", USAGE, &["line 5: topic new stands on line 2 already"]),
        ("name = \"orders\"\npartitoins = 1\n", USAGE, &["line 6: ", "partitoins"]),
    ];
    for (topic, code, words) in cases {
        shell.declare(&format!("{new}[[topic]]\n{topic}"));
        for more in [&["-y"][..], &["--dry-run"]] {
            shell.apply(more).refused(code, words);
        }
    }
    assert_eq!(shell.topics(), [(TOPIC.to_owned(), PARTITIONS.into())]);
    shell.run(&["apply", "-f", "/nowhere/topics.toml"]).refused(USAGE, &["/nowhere/topics.toml"]);

    // What cannot be done differs all the same, and so does what stdin says.
    shell.declare("[[topic]]\nname = \"orders\"\npartitions = 1\n");
    let shown = shell.diff();
    assert_eq!((shown.code, shown.stdout.as_str()), (DIFFERS, "orders\tpartitions\t3\t1\n"));
    let from_stdin = shell.run_with(&["apply", "-f", "-"], new).succeeded();
    assert!(from_stdin.stdout.starts_with("new\ttopic\tabsent\tpresent\n"), "{from_stdin:#?}");
    shell.run_with(&["apply", "-f", "-"], "").refused(USAGE, &["stdin declares no topic"]);
}
