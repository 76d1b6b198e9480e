//! `deploy/rolling-restart` under load: no send fails, nothing is lost, and no broker stops while it is
//! needed.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::command::{BINARY, run_command};
use crate::stage::{PATIENCE, Stage, acks_go_on, until};
use crate::witness::Witness;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/rolling-restart");

#[tokio::test(flavor = "multi_thread")]
async fn brokers_are_restarted_in_turn_and_no_send_fails() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load_at((40, Duration::from_millis(1))).await;
    let witness = Witness::start(&stage.cluster.bootstrap()).await;
    acks_go_on(&load, 20).await;

    // What the script runs asks this test, to which the brokers belong, and waits.
    let dir = stage.dir().to_owned();
    let asks = format!(
        "touch {0}/restart-{{}}; until [ -e {0}/restarted-{{}} ]; do sleep 0.05; done",
        dir.display()
    );
    let mut script = Command::new(SCRIPT);
    script.arg(&asks).env("TIDELOG_BOOTSTRAP", stage.cluster.bootstrap().join(","));
    script.env("TIDELOG_BINARY", BINARY).env("WAIT", "60s").env_remove("TIDELOG_CONTEXT");
    script.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut script = script.spawn().unwrap();
    for id in 1..=3 {
        until("the script comes to the next broker", async || {
            assert!(script.try_wait().unwrap().is_none(), "it ended before broker {id}");
            dir.join(format!("restart-{id}")).exists()
        })
        .await;
        let broker = stage.cluster.broker_mut(id);
        broker.stop(PATIENCE).await.unwrap();
        broker.start().unwrap();
        fs::write(dir.join(format!("restarted-{id}")), "").unwrap();
    }
    let ended = tokio::task::spawn_blocking(|| script.wait_with_output().unwrap()).await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let said = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(said.matches("restarting broker").count(), 3, "{said}");
    acks_go_on(&load, 20).await;
    stage.audit_with(load, &acks, witness).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_restarted_while_it_is_needed_or_by_a_command_without_a_broker() {
    let mut stage = Stage::ready().await;
    stage.cluster.broker_mut(3).kill().unwrap();
    let roll = |command: &str| {
        let mut script = Command::new(SCRIPT);
        script.arg(command).env("TIDELOG_BOOTSTRAP", stage.cluster.bootstrap().join(","));
        script.env("TIDELOG_BINARY", BINARY).env("WAIT", "1s").env_remove("TIDELOG_CONTEXT");
        run_command(script, b"")
    };
    let touched = stage.dir().join("touched");
    let needed = roll(&format!("touch {}-{{}}", touched.display()));
    needed.refused(1, &["broker 1 is still needed after 1s"]);
    roll("true").refused(2, &["does not name the broker"]);
    assert!(!stage.dir().join("touched-1").exists());
}
