//! Data directories that are not what the configuration says.

use std::fs;

use tidelog::local::{Error, LocalCluster, Setup};

use crate::command::BINARY;
use crate::stage::{PATIENCE, Stage, acks_go_on};

/// Starts one broker that must refuse; its log then has every one of these words.
async fn refuses(cluster: &mut LocalCluster, id: u32, words: &[&str]) {
    cluster.broker_mut(id).start().unwrap();
    let error = cluster.broker_mut(id).ready(PATIENCE).await.unwrap_err();
    let Error::Exited { status, tail, .. } = &error else { panic!("it did not refuse: {error}") };
    assert!(!status.success(), "{error}");
    let missing = words.iter().find(|word| !tail.contains(**word));
    assert_eq!(missing, None, "{error}");
    cluster.broker_mut(id).kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_directories_are_refused_and_work_again_when_swapped_back() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load().await;
    acks_go_on(&load, 50).await;
    let swap = |stage: &Stage| {
        let [second, third] = [2, 3].map(|id| stage.cluster.broker(id).data_dir().to_owned());
        let aside = stage.dir().join("aside");
        fs::rename(&second, &aside).unwrap();
        fs::rename(&third, &second).unwrap();
        fs::rename(&aside, &third).unwrap();
    };
    stage.cluster.kill_many(&[2, 3]).unwrap();
    swap(&stage);
    refuses(&mut stage.cluster, 2, &["belongs to broker 3", "broker_id"]).await;
    refuses(&mut stage.cluster, 3, &["belongs to broker 2"]).await;
    swap(&stage);
    stage.start_all().await;
    acks_go_on(&load, 50).await;
    stage.audit(load, &acks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wiped_directory_is_refused_under_the_old_identity() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load().await;
    acks_go_on(&load, 50).await;
    stage.cluster.broker_mut(3).kill().unwrap();
    let data = stage.cluster.broker(3).data_dir().to_owned();
    let aside = stage.dir().join("aside");
    fs::rename(&data, &aside).unwrap();
    refuses(&mut stage.cluster, 3, &["disk was wiped", "broker 3"]).await;
    acks_go_on(&load, 50).await;
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&aside, &data).unwrap();
    stage.start_all().await;
    acks_go_on(&load, 50).await;
    stage.audit(load, &acks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_without_its_identity_is_refused() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load().await;
    acks_go_on(&load, 50).await;
    stage.cluster.broker_mut(3).kill().unwrap();
    let identity = stage.cluster.broker(3).data_dir().join("node.toml");
    let aside = stage.dir().join("node.toml");
    fs::rename(&identity, &aside).unwrap();
    refuses(&mut stage.cluster, 3, &["no node.toml"]).await;
    fs::rename(&aside, &identity).unwrap();
    stage.start_all().await;
    acks_go_on(&load, 50).await;
    stage.audit(load, &acks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_of_another_cluster_is_refused() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load().await;
    acks_go_on(&load, 50).await;
    stage.cluster.broker_mut(3).kill().unwrap();

    let foreign = stage.dir().join("foreign");
    let mut setup = Setup::new(&foreign, 3).unwrap();
    setup.binary = BINARY.into();
    let mut other = LocalCluster::create(&setup).unwrap();
    other.start_all().unwrap();
    other.ready(PATIENCE).await.unwrap();
    other.kill_all().unwrap();

    let data = stage.cluster.broker(3).data_dir().to_owned();
    let aside = stage.dir().join("aside");
    fs::rename(&data, &aside).unwrap();
    fs::rename(other.broker(3).data_dir(), &data).unwrap();
    refuses(&mut stage.cluster, 3, &["cluster"]).await;
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&aside, &data).unwrap();
    stage.start_all().await;
    acks_go_on(&load, 50).await;
    stage.audit(load, &acks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_in_use_is_refused_with_the_pid() {
    let mut stage = Stage::ready().await;
    let second = stage.cluster.broker(2).config().to_owned();
    let pid = stage.cluster.broker(2).pid().unwrap().to_string();
    let ended = crate::command::run(&["server", "-c", second.to_str().unwrap()]);
    assert_ne!(ended.code, 0, "{ended:#?}");
    assert!(ended.stderr.contains("in use") && ended.stderr.contains(&pid), "{ended:#?}");
    stage.cluster.ready(PATIENCE).await.unwrap();
}
