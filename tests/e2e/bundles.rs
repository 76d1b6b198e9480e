//! One file with everything about a cluster but its records, brokers that are down among them or not.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::command::{Ended, run, run_with};
use crate::stage::{Stage, TOPIC, until};

/// In no file of a bundle, whatever else is.
const SECRET: &str = "card-4929-1337";

fn bundle(stage: &Stage, file: &Path, more: &[&str]) -> Ended {
    let bootstrap = stage.cluster.bootstrap().join(",");
    let file = file.to_str().unwrap();
    let args = ["debug", "bundle", "-f", file, "-b", &bootstrap, "-o", "json"];
    run(&[&args[..], more].concat())
}

/// Unpacks it beside itself, with what everybody has.
fn unpack(file: &Path) {
    let dir = file.parent().unwrap();
    let tar = Command::new("tar").arg("-xzf").arg(file).arg("-C").arg(dir).status().unwrap();
    assert!(tar.success());
}

fn texts(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_tells_of_everything_but_records_and_of_what_is_missing() {
    let mut stage = Stage::ready().await;
    let bootstrap = stage.cluster.bootstrap().join(",");
    let produce = ["produce", TOPIC, "-p", "1", "-k", SECRET, "-H", "h=card-4929-1337"];
    run_with(&[&produce[..], &["-b", &bootstrap]].concat(), b"card-4929-1337 is the value\n")
        .succeeded();
    let consume = ["consume", TOPIC, "-g", "billing", "-n", "1", "-b", &bootstrap];
    run(&consume).succeeded();
    run(&["cluster", "health", "--exit-when-healthy", "-b", &bootstrap]).succeeded();

    let file = stage.dir().join("all.tar.gz");
    let data = stage.cluster.broker(2).data_dir().to_str().unwrap().to_owned();
    let told = bundle(&stage, &file, &["--data", &data]).succeeded();
    assert_eq!(told.stderr.lines().count(), 18, "a line for each part: {told:#?}");
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(
        (&told["item"]["parts"], &told["item"]["missing"]),
        (&18.into(), &Value::Array(vec![]))
    );
    unpack(&file);
    let parts = texts(&stage.dir().join("all"));
    for (name, text) in &parts {
        assert!(!text.contains(SECRET), "{name}");
    }
    let part = |name: &str| {
        let found = parts.iter().find(|(part, _)| part == name);
        found.unwrap_or_else(|| panic!("no {name}")).1.as_str()
    };
    for (name, words) in [
        ("version.json", &["feature_levels", "metadata snapshot"][..]),
        ("cluster/info.json", &["cluster_id", "\"feature_level\""]),
        ("cluster/health.json", &["\"status\": \"healthy\""]),
        ("cluster/brokers.json", &["\"controller\": true"]),
        ("cluster/topics.json", &["\"orders\"", "retention.ms", "\"high_watermark\": 1"]),
        ("cluster/raft.json", &["\"role\": \"leader\"", "\"matched_index\""]),
        ("cluster/groups.json", &["\"billing\"", "\"lag_records\": 0"]),
        ("brokers/3/configuration.toml", &["broker_id = 3", "free_min"]),
        ("brokers/1/metrics.txt", &["tidelog_ready 1"]),
        ("data/node.toml", &["broker_id = 2"]),
        ("data/segments.json", &["\"first_index\": 0"]),
        ("data/votes.json", &["\"term\""]),
        ("data/files.json", &["votes.log"]),
        ("README.txt", &["error.txt", "no log lines"]),
    ] {
        for word in words {
            assert!(part(name).contains(word), "{word} in {name}: {}", part(name));
        }
    }
    bundle(&stage, &file, &[]).refused(1, &["all.tar.gz cannot be written", "-f"]);

    stage.cluster.broker_mut(3).kill().unwrap();
    let health = ["cluster", "health", "-b", &bootstrap];
    until("broker 3 is missed", async || run(&health).code == 10).await;
    let file = stage.dir().join("some.tar.gz");
    let told = bundle(&stage, &file, &["--data", "/nowhere"]);
    assert_eq!(told.code, 3, "{told:#?}");
    unpack(&file);
    let parts = texts(&stage.dir().join("some"));
    let missing: Vec<_> = parts.iter().filter(|(name, _)| name.ends_with(".error.txt")).collect();
    let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"brokers/3/configuration.toml.error.txt"), "{names:?}");
    assert!(names.contains(&"brokers/3/metrics.txt.error.txt"), "{names:?}");
    assert!(names.contains(&"data/files.json.error.txt"), "{names:?}");
    assert!(missing.iter().all(|(_, why)| why.lines().count() == 1), "{missing:?}");

    // Nobody answers: what is here is bundled all the same.
    stage.cluster.kill_all().unwrap();
    let file = stage.dir().join("none.tar.gz");
    let told = bundle(&stage, &file, &["--data", &data]);
    assert_eq!(told.code, 3, "{told:#?}");
    unpack(&file);
    assert!(stage.dir().join("none/data/votes.json").exists());
    assert!(stage.dir().join("none/cluster/info.json.error.txt").exists());
}
