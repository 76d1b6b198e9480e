//! Malformed and oversized requests: refused with a code, and the broker goes on.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use rand::Rng;
use tidelog_proto::v1;
use tidelog_proto::v1::log_service_client::LogServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::stage::{PARTITIONS, PATIENCE, Stage, TOPIC, acks_go_on};

/// Resident memory that nonsense must not push a broker of these tests over.
const RESIDENT_BYTES_MAX: u64 = 512 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_any_port_harms_nobody() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load().await;
    let ports = stage.cluster.broker(1).ports();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    for port in [ports.client, ports.internal, ports.http] {
        let mut random = vec![0; 100_000];
        stage.rng.fill(&mut random[..]);
        // A preface, then a frame that claims 16 MiB, then one of an unknown kind on stream 0.
        let mut frames = preface.clone();
        frames.extend([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]);
        frames.extend([0, 0, 1, 0xee, 0xff, 0, 0, 0, 0, 7]);
        let mut long = b"GET / HTTP/1.1\r\n".to_vec();
        long.extend(vec![b'x'; 1 << 20]);
        for bytes in [random, frames, long, preface.clone(), b"GET /metrics HTTP/1.1\r\n".to_vec()]
        {
            throw(port, &bytes);
        }
    }
    // And some that say nothing at all, kept open until the end.
    let connect = |_| TcpStream::connect((Ipv4Addr::LOCALHOST, ports.client)).unwrap();
    let silent: Vec<TcpStream> = (0..50).map(connect).collect();
    acks_go_on(&load, 50).await;
    drop(silent);
    unharmed(&mut stage).await;
    stage.audit(load, &acks).await;
}

/// Writes all that is taken and reads what comes, without expecting any of it to work.
fn throw(port: u16, bytes: &[u8]) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 1024]);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_batches_and_names_get_typed_errors() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load().await;
    let mut log = log_service(&stage).await;

    let mut random = vec![0; 500];
    stage.rng.fill(&mut random[..]);
    let batches = [Vec::new(), vec![0; 60], vec![0xff; 61], random, vec![0; 2 << 20]];
    for partition in 0..PARTITIONS {
        for batch in &batches {
            let answer = produce(&mut log, TOPIC, partition, batch.clone()).await;
            refused(
                answer,
                &["CORRUPT_MESSAGE", "INVALID_RECORD", "MESSAGE_TOO_LARGE", "NOT_LEADER"],
            );
        }
    }
    let unknown = ["UNKNOWN_TOPIC_OR_PARTITION", "INVALID_TOPIC_EXCEPTION", "INVALID_REQUEST"];
    refused(produce(&mut log, TOPIC, 99, vec![0; 100]).await, &unknown);
    for name in ["nobody", "", "..", "a/b", "\u{1f30a}", &"x".repeat(100_000)] {
        refused(produce(&mut log, name, 0, vec![0; 100]).await, &unknown);
    }
    acks_go_on(&load, 50).await;
    unharmed(&mut stage).await;
    stage.audit(load, &acks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_messages_are_refused_before_they_are_held() {
    let mut stage = Stage::ready().await;
    let (load, acks) = stage.load().await;
    let mut log = log_service(&stage).await;
    for mib in [17, 18, 64] {
        let answer = produce(&mut log, TOPIC, 0, vec![7; mib << 20]).await;
        let Err(status) = answer else { panic!("{mib} MiB were taken: {answer:?}") };
        let codes = [Code::OutOfRange, Code::ResourceExhausted, Code::InvalidArgument];
        assert!(codes.contains(&status.code()), "{mib} MiB: {status:?}");
    }
    let value = Some(vec![7; 2 << 20].into());
    let record = v1::Record { value, ..v1::Record::default() };
    let request = v1::ProduceRecordsRequest {
        topic: TOPIC.to_owned(),
        records: vec![record],
        ..v1::ProduceRecordsRequest::default()
    };
    assert!(refuses_records(log.produce_records(request).await.map(tonic::Response::into_inner)));
    acks_go_on(&load, 50).await;
    unharmed(&mut stage).await;
    stage.audit(load, &acks).await;
}

async fn log_service(stage: &Stage) -> LogServiceClient<Channel> {
    let address = format!("http://{}", stage.cluster.broker(1).ports().client_address());
    LogServiceClient::new(Channel::from_shared(address).unwrap().connect().await.unwrap())
}

/// One batch on a stream of its own.
async fn produce(
    log: &mut LogServiceClient<Channel>,
    topic: &str,
    partition: u32,
    batch: Vec<u8>,
) -> Result<Option<v1::ProduceResponse>, Status> {
    let request = v1::ProduceRequest {
        correlation_id: 1,
        topic: topic.to_owned(),
        partition,
        batch: batch.into(),
        ..v1::ProduceRequest::default()
    };
    let answers = log.produce(tokio_stream::iter([request]));
    let mut answers =
        tokio::time::timeout(PATIENCE, answers).await.expect("an answer")?.into_inner();
    tokio::time::timeout(PATIENCE, answers.message()).await.expect("an answer")
}

/// The answer, or the end of the stream, names one of these codes.
#[track_caller]
fn refused(answer: Result<Option<v1::ProduceResponse>, Status>, codes: &[&str]) {
    match answer {
        Ok(Some(v1::ProduceResponse {
            result: Some(v1::produce_response::Result::Error(error)),
            ..
        })) => assert!(codes.iter().any(|code| error.name.contains(code)), "{error:?}"),
        Ok(other) => panic!("not refused: {other:?}"),
        Err(status) => assert_ne!(status.code(), Code::Internal, "{status:?}"),
    }
}

fn refuses_records(answer: Result<v1::ProduceRecordsResponse, Status>) -> bool {
    match answer {
        Err(status) => status.code() != Code::Internal,
        Ok(answer) => format!("{answer:?}").contains("MESSAGE_TOO_LARGE"),
    }
}

/// The same processes still run, within their memory, and none of them panicked.
async fn unharmed(stage: &mut Stage) {
    stage.cluster.ready(PATIENCE).await.unwrap();
    for broker in stage.cluster.brokers() {
        let resident = broker.resident_bytes().unwrap_or_default();
        assert!(resident < RESIDENT_BYTES_MAX, "broker {} holds {resident} bytes", broker.id());
        let log = std::fs::read_to_string(broker.log()).unwrap();
        assert!(!log.contains("panicked"), "broker {} panicked:\n{log}", broker.id());
    }
}
