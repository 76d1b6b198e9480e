//! Contexts: clusters by name, in a file of the user's.

use std::path::Path;

use serde_json::Value;

use crate::command::{Ended, run_command, tidelog};
use crate::stage::Stage;

const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// Runs a command with this file of contexts and these variables.
fn run(file: &Path, variables: &[(&str, &str)], line: &str) -> Ended {
    let words: Vec<&str> = line.split(' ').collect();
    let mut command = tidelog(&words);
    command.env("TIDELOG_CONFIG", file).envs(variables.iter().copied());
    run_command(command, b"")
}

#[test]
fn contexts_are_kept_in_a_file_and_only_one_is_current() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("deep").join("config.toml");
    let run = |line: &str| run(&file, &[], line);
    let shown = |line: &str| -> Value {
        let ended = run(&format!("{line} -o json")).succeeded();
        serde_json::from_str(&ended.stdout).unwrap()
    };
    assert_eq!(shown("context show")["item"]["bootstrap"][0], "127.0.0.1:7071");
    run("context add home -b 127.0.0.1:1").succeeded();
    run("context add away -b 127.0.0.1:2,127.0.0.1:3 --cluster id").succeeded();
    let now = shown("context show");
    assert_eq!((&now["item"]["name"], &now["item"]["current"]), (&"home".into(), &true.into()));
    run("context use away").succeeded();
    let now = shown("context show");
    assert_eq!(now["item"]["bootstrap"], serde_json::json!(["127.0.0.1:2", "127.0.0.1:3"]));
    assert_eq!(now["item"]["chosen_by"], "the current context");
    let listed = shown("context list");
    let listed = listed["items"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[0]["name"], &listed[0]["current"]), (&"away".into(), &true.into()));

    run("context add home -b 127.0.0.1:9").refused(FAILED, &["home exists", "context delete"]);
    run("context add bare").refused(USAGE, &["-b HOST:PORT"]);
    run("context add odd -b nonsense").refused(USAGE, &["nonsense", "HOST:PORT"]);
    run("context use nobody").refused(USAGE, &["nobody", "away, home"]);
    run("context delete away").refused(USAGE, &["away", "-y"]);
    assert_eq!(shown("context list")["items"].as_array().unwrap().len(), 2);
    run("context delete away -y").succeeded();
    assert_eq!(shown("context show")["item"]["chosen_by"], "the default");
    assert_eq!(run("context use home").succeeded().stdout, "");
    assert_eq!(shown("context show home")["item"]["current"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_talk_to_the_context_unless_told_otherwise() {
    let stage = Stage::ready().await;
    let bootstrap = stage.cluster.bootstrap().join(",");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let closed = "127.0.0.1:1";
    run(&file, &[], &format!("context add here -b {bootstrap}")).succeeded();
    run(&file, &[], &format!("context add dead -b {closed}")).succeeded();
    run(&file, &[], "topic list").succeeded();
    run(&file, &[], "topic list --context dead").refused(FAILED, &[closed]);
    run(&file, &[("TIDELOG_CONTEXT", "dead")], "topic list").refused(FAILED, &[closed]);
    run(&file, &[("TIDELOG_CONTEXT", "dead")], "topic list --context here").succeeded();
    run(&file, &[("TIDELOG_BOOTSTRAP", closed)], "topic list").refused(FAILED, &[closed]);
    run(&file, &[("TIDELOG_BOOTSTRAP", closed)], "topic list --context here").succeeded();
    run(&file, &[], &format!("topic list --context here -b {closed}")).refused(FAILED, &[closed]);

    // A context that says which cluster it means refuses another one.
    let info = run(&file, &[], "cluster info -o json").succeeded();
    let info: Value = serde_json::from_str(&info.stdout).unwrap();
    let id = info["item"]["cluster_id"].as_str().unwrap();
    run(&file, &[], &format!("context add right -b {bootstrap} --cluster {id}")).succeeded();
    run(&file, &[], &format!("context add wrong -b {bootstrap} --cluster other")).succeeded();
    run(&file, &[], "topic list --context right").succeeded();
    run(&file, &[], "topic list --context wrong").refused(FAILED, &[id, "expected other"]);

    std::fs::write(&file, "[context.here]\nbotstrap = 1\n").unwrap();
    run(&file, &[], "topic list").refused(USAGE, &["config.toml", "line 2", "botstrap"]);
    run(&file, &[], &format!("topic list -b {bootstrap}")).succeeded();
}
