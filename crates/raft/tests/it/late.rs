//! Messages between brokers that come late or twice, which no TCP connection shows by itself.

use tidelog_proto::v1::raft_request::Body as Ask;
use tidelog_proto::v1::raft_response::Body as Answer;
use tidelog_proto::v1::raft_service_client::RaftServiceClient;
use tidelog_proto::v1::{
    AppendRequest, ExchangeRequest, RaftEntry, RaftLogId, RaftRequest, RaftVote, StreamHello,
};
use tidelog_types::{LogPosition, NodeId, Offset, Term};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::transport::Endpoint;

use crate::cluster::{CLUSTER_ID, Cluster, PATIENCE, Timings, batch, until};

fn wire(at: LogPosition) -> RaftLogId {
    RaftLogId { term: at.term.0, index: at.index.0 }
}

/// An append as `leader` may have sent it in `term`: one record entry that follows `prev`.
fn append(leader: NodeId, term: Term, prev: LogPosition, at: LogPosition, n: usize) -> Ask {
    let entry = RaftEntry {
        term: at.term.0,
        index: at.index.0,
        kind: 2,
        ordinal: n as u64,
        parts: vec![batch(n as i32, &[text(n)])],
        ..RaftEntry::default()
    };
    Ask::Append(AppendRequest {
        vote: Some(RaftVote { term: term.0, node: leader.to_u64(), committed: true }),
        prev: Some(wire(prev)),
        commit: None,
        entries: vec![entry],
    })
}

fn text(n: usize) -> String {
    format!("record {n}")
}

/// Sends `ask` to `to` on a connection of its own and gives the answer.
async fn ask(cluster: &Cluster, from: NodeId, to: NodeId, ask: Ask) -> Answer {
    let (cluster_id, address) = (CLUSTER_ID.to_owned(), String::new());
    let hello = StreamHello { cluster_id, from: from.to_u64(), to: to.to_u64(), address };
    let group = cluster.group.to_bytes().to_vec().into();
    let request = RaftRequest { group, stream: 1, body: Some(ask) };
    let message = ExchangeRequest { hello: Some(hello), requests: Vec::new() };
    let second = ExchangeRequest { hello: None, requests: vec![request] };
    // The stream stays open until the answer is there.
    let messages = tokio_stream::iter([message, second]).chain(tokio_stream::pending());
    let channel = Endpoint::from_shared(cluster.address(to)).unwrap().connect().await.unwrap();
    let mut client = RaftServiceClient::new(channel);
    let mut answers = client.exchange(messages).await.unwrap().into_inner();
    let answer = timeout(PATIENCE, answers.next()).await.unwrap().unwrap().unwrap();
    answer.responses.into_iter().next().unwrap().body.unwrap()
}

/// Hazard H10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_and_repeated_appends_change_nothing() {
    let cluster = Cluster::simulated(3, Timings::Usual).await;
    let old = cluster.leader().await;
    let last = |id| cluster.partition(id).raft_status().last.unwrap();
    let mut places = vec![last(old)];
    for n in 0..3 {
        cluster.produce(n, &[text(n as usize)]).await;
        places.push(last(old));
    }
    let old_term = places[3].term;
    let next = *cluster.ids().iter().find(|id| **id != old).unwrap();
    cluster.partition(old).transfer_leader(next).await.unwrap();
    cluster.produce(3, &[text(3)]).await;
    let leader = cluster.leader().await;
    let term = last(leader).term;
    assert!(term > old_term);
    let to = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    until("the follower has all", || last(to) == last(leader)).await;

    // Of the present leader, and long since followed by more: nothing behind it may be cut.
    let repeated = append(leader, term, places[1], places[2], 1);
    let answer = ask(&cluster, leader, to, repeated).await;
    assert!(matches!(answer, Answer::Append(_)), "{answer:?}");
    // Of a leader that is none any more, for a place that was never its own.
    let end = last(to);
    let behind = LogPosition { term: old_term, index: end.index.next() };
    let late = append(old, old_term, places[3], behind, 3);
    let answer = ask(&cluster, old, to, late).await;
    assert!(matches!(answer, Answer::HigherVote(_)), "{answer:?}");

    assert_eq!(last(to), end);
    let all: Vec<String> = (0..4).map(text).collect();
    assert_eq!(cluster.read(to, Offset(4)).await, all);
    cluster.produce(4, &[text(4)]).await;
    assert_eq!(cluster.read(to, Offset(5)).await.len(), 5);
}
