//! The view follows the machine, and comes back after any loss.

use tidelog_log::disk::OsDisk;
use tidelog_log::flusher::InlineFlusher;
use tidelog_raft::{InlineExecutor, SystemClock, TcpConnector};
use tidelog_state::metadata::{BrokerSpec, ClusterId, Command};
use tidelog_types::{BrokerId, FeatureLevel, Incarnation, Timestamp, TopicId};

use super::*;
use crate::environment::TcpNetwork;

fn environment(maps: Arc<dyn OpenMap>) -> Environment {
    let node = tidelog_raft::Environment {
        disk: Arc::new(OsDisk),
        flusher: Arc::new(InlineFlusher::default()),
        executor: Arc::new(InlineExecutor),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(|| 7),
        connector: Arc::new(TcpConnector),
    };
    let network = Arc::new(TcpNetwork);
    let software = crate::software("");
    Environment { node, network, maps, log_filter: None, lock_data_dir: false, software }
}

fn machine(commands: &[Command]) -> Arc<Machine> {
    let mut machine = Machine::new();
    for (n, command) in commands.iter().enumerate() {
        let position = LogPosition { term: Term(1), index: LogIndex(n as u64) };
        machine.apply(position, command, Timestamp(5)).reply.unwrap();
    }
    Arc::new(machine)
}

fn script() -> Vec<Command> {
    let broker = BrokerSpec {
        id: BrokerId(1),
        incarnation: Incarnation(1),
        rack: Some("r".to_owned()),
        addresses: Vec::new(),
        software: None,
    };
    let topic = |id: u128, name: &str| Command::CreateTopic {
        topic: TopicId(id),
        name: name.to_owned(),
        partitions: Some(2),
        replication_factor: None,
        configs: vec![("retention.ms".to_owned(), "60000".to_owned())],
        rotation: 0,
        unreachable: Vec::new(),
    };
    vec![
        Command::FormCluster {
            cluster: ClusterId(9),
            level: FeatureLevel::FIRST,
            brokers: vec![broker],
        },
        topic(1 << 100, "orders"),
        topic(2 << 100, "payments"),
        Command::DeleteTopic { topic: TopicId(1 << 100) },
    ]
}

async fn names(view: &View) -> Vec<String> {
    let page = view.page(String::new(), 10).await.unwrap();
    page.into_iter().map(|topic| topic.name).collect()
}

async fn check(maps: Arc<dyn OpenMap>, prepare: impl Fn(&std::path::Path)) {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("view");
    let script = script();
    let (sender, receiver) = watch::channel(Arc::default());
    let view = View::open(environment(Arc::clone(&maps)), at.clone(), receiver).await.unwrap();
    for length in 1..=script.len() {
        sender.send_replace(machine(&script[..length]));
        view.reach(LogIndex(length as u64 - 1)).await;
    }
    assert_eq!(names(&view).await, ["payments"]);
    drop((sender, view));
    // The writer holds the map until it has seen the end.
    tokio::task::yield_now().await;

    prepare(&at);
    // Behind what was written, then at it, then one entry further.
    for length in [2, 3, 4, 4] {
        let (sender, receiver) = watch::channel(machine(&script[..length]));
        let view = View::open(environment(Arc::clone(&maps)), at.clone(), receiver).await.unwrap();
        view.reach(LogIndex(length as u64 - 1)).await;
        let expected: &[&str] = match length {
            2 => &["orders"],
            3 => &["orders", "payments"],
            _ => &["payments"],
        };
        assert_eq!(names(&view).await, expected, "after {length} entries");
        assert_eq!(view.cluster().await.unwrap(), Some(ClusterId(9).to_string()));
        assert_eq!(view.brokers().await.unwrap()[0].rack, "r");
        let found = view.topics(vec!["payments".to_owned(), "none".to_owned()]).await.unwrap();
        assert!(found[1].is_none());
        if let Some(topic) = &found[0] {
            let retention = topic.configs.iter().find(|entry| entry.name == "retention.ms");
            assert_eq!(retention.unwrap().value, "60000");
            assert_eq!(topic.partitions.len(), 2);
        }
        drop((sender, view));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_view_in_memory_follows_the_machine() {
    check(Arc::new(MemoryMaps), |_| {}).await;
}

#[tokio::test]
async fn the_view_on_disk_is_made_anew_when_it_does_not_fit() {
    check(Arc::new(SledMaps), |_| {}).await;
}

#[tokio::test]
async fn deleting_the_view_loses_nothing() {
    check(Arc::new(SledMaps), |dir| std::fs::remove_dir_all(dir).unwrap()).await;
}

#[tokio::test]
async fn a_damaged_view_loses_nothing() {
    let overwrite = |dir: &std::path::Path| {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::write(path, [0xa5; 700]).unwrap();
            }
        }
    };
    check(Arc::new(SledMaps), overwrite).await;
}
