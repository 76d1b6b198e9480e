//! The first start of a cluster, in every order, with one late and with one who has another list.

use crate::stage::{PATIENCE, Stage, acks_go_on, until};

#[tokio::test(flavor = "multi_thread")]
async fn cluster_forms_once_in_every_order_of_starting() {
    for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
        let mut stage = Stage::new().await;
        for id in order {
            stage.cluster.broker_mut(id).start().unwrap();
        }
        stage.cluster.ready(PATIENCE).await.unwrap();
        let ids: Vec<String> = (1..=3).map(|id| cluster_id(&stage, id)).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        stage.create_topic().await;
        let (load, acks) = stage.load().await;
        acks_go_on(&load, 10).await;
        stage.audit(load, &acks).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lone_broker_waits_and_says_for_whom() {
    let mut stage = Stage::new().await;
    stage.cluster.broker_mut(1).start().unwrap();
    let broker = stage.cluster.broker(1);
    let others =
        [2, 3].map(|id| format!("127.0.0.1:{}", stage.cluster.broker(id).ports().internal));
    until("its log names the others", async || {
        let log = broker.log_tail();
        others.iter().all(|address| log.contains(address))
    })
    .await;
    assert!(!broker.data_dir().join("node.toml").exists(), "nothing is formed alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_broker_joins_the_cluster() {
    let mut stage = Stage::new().await;
    for id in [1, 2] {
        stage.cluster.broker_mut(id).start().unwrap();
    }
    let started = [1, 2].map(|id| stage.cluster.broker(id).log().to_owned());
    until("the two have said something", async || {
        started.iter().all(|log| std::fs::metadata(log).is_ok_and(|log| log.len() > 0))
    })
    .await;
    stage.start_all().await;
    let id = cluster_id(&stage, 1);
    assert_eq!([2, 3].map(|late| cluster_id(&stage, late)), [id.clone(), id]);
    stage.create_topic().await;
    let (load, acks) = stage.load().await;
    acks_go_on(&load, 50).await;
    stage.audit(load, &acks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_with_another_list_never_joins_and_says_why() {
    let mut stage = Stage::new().await;
    // The third believes in a cluster whose second broker lives elsewhere.
    let config = stage.cluster.broker(3).config().to_owned();
    let text = std::fs::read_to_string(&config).unwrap();
    let second = format!("127.0.0.1:{}", stage.cluster.broker(2).ports().internal);
    std::fs::write(&config, text.replace(&second, "127.0.0.1:9")).unwrap();
    stage.cluster.start_all().unwrap();
    until("somebody names the two lists", async || {
        (1..=3).any(|id| {
            let log = stage.cluster.broker(id).log_tail();
            log.contains("initial_brokers") && log.contains("127.0.0.1:9")
        })
    })
    .await;
    assert!(!stage.cluster.broker(3).data_dir().join("node.toml").exists());
}

fn cluster_id(stage: &Stage, id: u32) -> String {
    let path = stage.cluster.broker(id).data_dir().join("node.toml");
    let identity: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    identity["cluster_id"].as_str().unwrap().to_owned()
}
