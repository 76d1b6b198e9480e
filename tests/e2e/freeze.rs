//! SIGSTOP: a leader whose connections stay open while it answers nothing.

use tidelog::demo::leader_now;

use crate::stage::{PATIENCE, Stage, TOPIC, acks_go_on, leader, rounds, until};
use crate::witness::Witness;

#[tokio::test(flavor = "multi_thread")]
async fn frozen_leader_is_replaced_and_comes_back_as_a_follower() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load().await;
    let witness = Witness::start(&stage.cluster.bootstrap()).await;
    for _ in 0..rounds(3) {
        acks_go_on(&load, 50).await;
        let client = stage.client().await;
        let frozen = leader(&client, 0).await;
        stage.cluster.broker_mut(frozen).pause().unwrap();
        acks_go_on(&load, 50).await;
        until("another broker leads", async || {
            matches!(leader_now(&client, TOPIC, 0).await, Ok(Some(leader)) if leader != frozen)
        })
        .await;
        stage.cluster.broker_mut(frozen).resume().unwrap();
        acks_go_on(&load, 50).await;
    }
    stage.cluster.ready(PATIENCE).await.unwrap();
    stage.audit_with(load, &acks, witness).await;
}
