//! Structured records, for scripts and languages without an encoder: any broker takes them, encodes
//! and decodes, and goes to the leader for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use prost::Message;
use tidelog_proto::v1::log_service_client::LogServiceClient;
use tidelog_proto::v1::produce_records_result::Result as Written;
use tidelog_proto::v1::{
    Error, FetchRecordsRequest, FetchRecordsResponse, FetchedRecord, ProduceRecordsRequest,
    ProduceRecordsResponse, ProduceRecordsResult, Record, RecordHeader,
};
use tidelog_types::batch::{self, Builder, Codec, NewRecord};
use tidelog_types::{ErrorCode, GroupId, Kind, Offset, Timestamp};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::Channel;

use super::fetch::{fresh_view, read_error, resolve, serving};
use super::partitioner::by_key;
use super::produce::{deadline, enqueue};
use super::{Api, at_most, invalid, size};
use crate::access::{Operation, Resource};
use crate::budget::Loan;
use crate::cluster::Cluster;
use crate::counters::Place;
use crate::environment::ListenerName;
use crate::intake::Held;
use crate::limits;

/// Pause before a leader is looked for again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What an answer may hold even when the node's budget is used up.
const RESPONSE_BYTES_LEAST: usize = 64 << 10;

/// How long a fetch may look for a leader.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// What a forwarded call gets on top, so that the leader's own answer arrives.
const FORWARD_GRACE: Duration = Duration::from_millis(500);

/// A place among the calls with structured records: each may inflate a batch.
fn enter(api: &Api) -> Result<Place, Error> {
    let calls = &api.core.counters.records_calls;
    calls.enter(limits::RECORDS_CALLS_MAX as u64).ok_or_else(|| {
        let message = "too many calls with structured records at a time";
        Error::new(ErrorCode::ResourceExhausted, message).with_retry_after(limits::RETRY_AFTER)
    })
}

// Writing.

pub(super) async fn produce(
    api: &Api,
    request: ProduceRecordsRequest,
) -> Result<ProduceRecordsResponse, Error> {
    if request.records.is_empty() {
        return Err(invalid("there is no record"));
    }
    at_most(request.records.len(), limits::PRODUCE_RECORDS_MAX, "records")?;
    let _place = enter(api)?;
    let until = Instant::now() + deadline(request.timeout_ms)?;
    api.allow(Operation::Write, Resource::Topic(&request.topic))?;
    let cluster = api.core.cluster()?;
    let first = request.partition.unwrap_or_default();
    let group = cluster.find_fresh(&request.topic, first, "").await?;
    let machine = cluster.machine();
    let partitions = machine.topic(group.topic).map_or(1, |topic| topic.partitions.len() as u32);
    let places = place(api, &request, partitions);

    let mut by_partition: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, partition) in places.iter().enumerate() {
        by_partition.entry(*partition).or_default().push(index);
    }
    let writes = by_partition.into_iter().map(|(partition, indexes)| {
        let (cluster, request) = (&cluster, &request);
        async move {
            let records: Vec<_> = indexes.iter().map(|n| &request.records[*n]).collect();
            let written = write(api, cluster, &request.topic, partition, &records, until).await;
            (indexes, written)
        }
    });
    let mut results: Vec<_> = places
        .iter()
        .map(|partition| ProduceRecordsResult { partition: *partition, result: None })
        .collect();
    for (indexes, written) in join_all(writes).await {
        for (n, index) in indexes.into_iter().enumerate() {
            let result = written.clone().map(|base| base + n as i64);
            results[index].result = Some(result.map_or_else(Written::Error, Written::Offset));
        }
    }
    Ok(ProduceRecordsResponse { results })
}

/// The partition of each record.
fn place(api: &Api, request: &ProduceRecordsRequest, partitions: u32) -> Vec<u32> {
    if let Some(partition) = request.partition {
        return vec![partition; request.records.len()];
    }
    let keyless = ((api.core.env.node.entropy)() % u64::from(partitions)) as u32;
    let keys = request.records.iter().map(|record| record.key.as_ref());
    keys.map(|key| key.map_or(keyless, |key| by_key(key, partitions))).collect()
}

/// Writes records of one partition, wherever its leader is; gives the offset of the first. Tries
/// again as long as nothing was written.
async fn write(
    api: &Api,
    cluster: &Arc<Cluster>,
    topic: &str,
    partition: u32,
    records: &[&Record],
    until: Instant,
) -> Result<i64, Error> {
    let batch = encode(records, api.core.env.node.clock.now())?;
    let group = cluster.find(topic, partition, "")?;
    loop {
        let written = match leader_elsewhere(api, cluster, group, Duration::ZERO) {
            None => write_here(api, cluster, group, batch.clone(), until).await,
            Some(leader) => forward(leader, topic, partition, records, until).await,
        };
        match written {
            Err(error) if may_try_again(&error, until) => sleep(AGAIN_AFTER).await,
            other => return other,
        }
    }
}

fn may_try_again(error: &Error, until: Instant) -> bool {
    let retriable = error.error_code().map_or(error.retriable, |code| {
        matches!(code.kind(), Kind::Retry | Kind::Redirect) && code != ErrorCode::ResourceExhausted
    });
    retriable && !error.maybe_written && Instant::now() + AGAIN_AFTER < until
}

async fn write_here(
    api: &Api,
    cluster: &Arc<Cluster>,
    group: GroupId,
    batch: Bytes,
    until: Instant,
) -> Result<i64, Error> {
    let appended = enqueue(api, cluster, group, batch, until)?.outcome(api).await?;
    Ok(appended.base_offset)
}

/// A connection to the leader for a call that may wait so long, when it is another broker and the call
/// may be passed on.
fn leader_elsewhere(
    api: &Api,
    cluster: &Cluster,
    group: GroupId,
    wait: Duration,
) -> Option<Channel> {
    let (leader, _) = cluster.leader_of(group)?;
    if leader == cluster.me || !api.may_forward() {
        return None;
    }
    let address = cluster.address(leader.broker, ListenerName::Internal)?;
    let others = &cluster.others;
    if wait.is_zero() {
        return others.channel(&address).ok();
    }
    others.waiting_channel(&address).ok()
}

fn client(channel: Channel) -> LogServiceClient<Channel> {
    LogServiceClient::new(channel)
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX)
}

async fn forward(
    leader: Channel,
    topic: &str,
    partition: u32,
    records: &[&Record],
    until: Instant,
) -> Result<i64, Error> {
    let left = until.saturating_duration_since(Instant::now());
    let request = ProduceRecordsRequest {
        topic: topic.to_owned(),
        partition: Some(partition),
        records: records.iter().map(|record| (*record).clone()).collect(),
        timeout_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
    };
    let unknown = |message: String| Error::new(ErrorCode::RequestTimedOut, message);
    let mut client = client(leader);
    let call = timeout_at(until + FORWARD_GRACE, client.produce_records(request)).await;
    let answer = call
        .map_err(|_| unknown("the leader did not answer in time".to_owned()))?
        // A connection that broke may have carried the records over.
        .map_err(|status| {
            Error::from_status(&status).unwrap_or_else(|| unknown(status.message().to_owned()))
        })?;
    match answer.into_inner().results.into_iter().next().and_then(|first| first.result) {
        Some(Written::Offset(base)) => Ok(base),
        Some(Written::Error(error)) => Err(error),
        None => Err(unknown("the leader's answer is empty".to_owned())),
    }
}

fn encode(records: &[&Record], now: Timestamp) -> Result<Bytes, Error> {
    let refused = |err: batch::BatchError| Error::new(err.error_code(), err.to_string());
    let mut builder = Builder::new();
    for record in records {
        let value = |header: &RecordHeader| header.value.clone();
        let values: Vec<_> = record.headers.iter().map(value).collect();
        let names = record.headers.iter().map(|header| header.name.as_str());
        let headers: Vec<_> = names.zip(values.iter().map(Option::as_deref)).collect();
        let new = NewRecord {
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
            timestamp: record.time_ms.map_or(now, Timestamp),
        };
        if builder.bytes_with(&new) > limits::BATCH_BYTES_MAX {
            let most = limits::BATCH_BYTES_MAX;
            let message = format!("records of one partition make a batch above {most} bytes");
            return Err(Error::new(ErrorCode::MessageTooLarge, message));
        }
        builder.push(&new).map_err(refused)?;
    }
    builder.finish(Codec::None, None).map_err(refused)
}

// Reading.

/// An answer, and the room that it takes.
type Fetched = (FetchRecordsResponse, Room);

/// Bytes, and a place among the calls with structured records where there are any records.
type Room = (Loan, Option<Place>);

/// An answer, and the room that it takes until the client has it.
pub(super) async fn fetch(
    api: &Api,
    request: FetchRecordsRequest,
) -> Result<(FetchRecordsResponse, Held), Error> {
    let (answer, room) = fetch_of(api, request, "").await?;
    Ok((answer, Held::new(room)))
}

/// An answer out of the topic that has this name and id. How long it stays in memory is for the caller
/// to count.
pub(super) async fn fetch_piece(
    api: &Api,
    request: FetchRecordsRequest,
    topic_id: &str,
) -> Result<FetchRecordsResponse, Error> {
    fetch_of(api, request, topic_id).await.map(|(answer, _)| answer)
}

async fn fetch_of(
    api: &Api,
    request: FetchRecordsRequest,
    topic_id: &str,
) -> Result<Fetched, Error> {
    let wanted = Wanted::of(&request)?;
    api.allow(Operation::Read, Resource::Topic(&request.topic))?;
    let cluster = api.core.cluster()?;
    let group = cluster.find_fresh(&request.topic, request.partition, topic_id).await?;
    let until = Instant::now() + FETCH_TIMEOUT;
    loop {
        let read = match leader_elsewhere(api, &cluster, group, wanted.wait) {
            None => read_here(api, &cluster, group, &request, &wanted).await,
            Some(leader) => {
                let read = fetch_there(api, leader, &request, &wanted, until + wanted.wait).await;
                // The leader was asked by name: it must not have answered for a namesake.
                read.and_then(|read| {
                    cluster.find(&request.topic, request.partition, topic_id).map(|_| read)
                })
            }
        };
        match read {
            Err(error) if may_try_again(&error, until) => sleep(AGAIN_AFTER).await,
            other => return other,
        }
    }
}

async fn fetch_there(
    api: &Api,
    leader: Channel,
    request: &FetchRecordsRequest,
    wanted: &Wanted,
    until: Instant,
) -> Result<Fetched, Error> {
    // Whoever just waits takes nobody's place.
    let mut place = if wanted.wait.is_zero() { Some(enter(api)?) } else { None };
    let mut request = request.clone();
    // As much as there would be room for, here too.
    let room = api.core.fetched.take_some(wanted.bytes, RESPONSE_BYTES_LEAST).bytes();
    request.max_bytes = u32::try_from(room).unwrap_or(u32::MAX);
    let lost = |message: &str| Error::new(ErrorCode::BrokerNotAvailable, message);
    let mut client = client(leader);
    let call = timeout_at(until, client.fetch_records(request)).await;
    let answer = call.map_err(|_| lost("the leader did not answer in time"))?;
    let answer = answer
        .map(tonic::Response::into_inner)
        .map_err(|status| Error::from_status(&status).unwrap_or_else(|| lost(status.message())))?;
    if place.is_none() && !answer.records.is_empty() {
        // Without one the answer goes: reading it again costs less than memory without bound.
        place = Some(enter(api)?);
    }
    let bytes = answer.encoded_len();
    let loan = api.core.fetched.take_some(bytes, bytes);
    Ok((answer, (loan, place)))
}

/// The bounds of a call.
struct Wanted {
    records: usize,
    bytes: usize,
    wait: Duration,
}

impl Wanted {
    fn of(request: &FetchRecordsRequest) -> Result<Self, Error> {
        let (default, most) =
            (limits::FETCH_RESPONSE_BYTES_DEFAULT, limits::FETCH_RESPONSE_BYTES_MAX);
        let records = size(
            request.max_records,
            limits::FETCH_RECORDS_DEFAULT,
            limits::FETCH_RECORDS_MAX,
            "max_records",
        )?;
        let bytes = size(request.max_bytes, default, most, "max_bytes")?;
        let wait = super::time(
            request.max_wait_ms,
            Duration::ZERO,
            limits::FETCH_WAIT_MAX,
            "max_wait_ms",
        )?;
        Ok(Self { records, bytes, wait })
    }
}

async fn read_here(
    api: &Api,
    cluster: &Arc<Cluster>,
    group: GroupId,
    request: &FetchRecordsRequest,
    wanted: &Wanted,
) -> Result<Fetched, Error> {
    let partition = serving(api, cluster, group, None)?;
    let view = fresh_view(api, cluster, &partition).await?;
    let spec = request.start.as_ref().and_then(|start| start.spec.as_ref());
    let spec = spec.ok_or_else(|| invalid("start is missing: an offset, a time or a bound"))?;
    let start = resolve(&partition, view, spec).await?;

    let mut changes = partition.view();
    let wait = Instant::now() + wanted.wait;
    // Nothing in time is no error: the answer is empty.
    let _ = timeout_at(wait, changes.wait_for(|view| view.readable > start)).await;
    // Only now: whoever just waits takes nobody's place.
    let place = enter(api)?;
    let mut loan = api.core.fetched.take_some(wanted.bytes, RESPONSE_BYTES_LEAST);
    let read = partition.read(start, loan.bytes()).await.map_err(|err| read_error(&err))?;
    let view = *changes.borrow();
    let bytes_max = loan.bytes();
    let next = read.next;
    let batches = read.batches.len();
    let inflating = Arc::clone(&api.core.inflating).acquire_owned().await;
    // On threads of its own: a batch that inflates to much keeps a core busy for longer than the
    // heartbeats of its groups can wait.
    let records_max = wanted.records;
    let decoded = move || {
        // Work that was begun goes on when its caller goes away, so the place goes with it.
        let _inflating = inflating;
        decode(&read.batches, start, records_max, bytes_max)
    };
    let decoded = api.core.env.blocking(decoded).await;
    let decoded = decoded
        .map_err(|err| Error::new(ErrorCode::UnknownServerError, err.to_string()))?
        .map_err(|err| Error::new(err.error_code(), err.to_string()))?;
    let counters = &api.core.counters;
    counters.fetch_batches.add(batches as u64);
    counters.fetch_records.add(decoded.records.len() as u64);
    counters.fetch_bytes.add(decoded.bytes as u64);
    loan.settle(decoded.bytes);
    let response = FetchRecordsResponse {
        records: decoded.records,
        next_offset: decoded.next.unwrap_or(next).to_wire(),
        high_watermark: view.progress.high_watermark.to_wire(),
        log_start: view.progress.log_start.to_wire(),
    };
    Ok((response, (loan, Some(place))))
}

/// What an answer holds.
#[derive(Default)]
struct Decoded {
    records: Vec<FetchedRecord>,
    bytes: usize,
    /// The first record that found no room.
    next: Option<Offset>,
}

/// The records of `batches` from `start` on, as many as there may be, and at least one.
fn decode(
    batches: &[Bytes],
    start: Offset,
    records_max: usize,
    bytes_max: usize,
) -> Result<Decoded, batch::BatchError> {
    let mut decoded = Decoded::default();
    for batch in batches {
        for record in batch::records(batch, limits::INFLATE_BYTES_MAX)? {
            let record = record?;
            if record.offset < start {
                continue;
            }
            let bytes = decoded.bytes + record_bytes(&record);
            let full = decoded.records.len() >= records_max || bytes > bytes_max;
            if full && !decoded.records.is_empty() {
                decoded.next = Some(record.offset);
                return Ok(decoded);
            }
            decoded.bytes = bytes;
            decoded.records.push(spell_out(record));
        }
    }
    Ok(decoded)
}

fn record_bytes(record: &batch::Record) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let header = |header: &batch::Header| header.name.len() + length(&header.value);
    length(&record.key) + length(&record.value) + record.headers.iter().map(header).sum::<usize>()
}

/// The record on its own: a slice of its batch would keep all that the batch inflated to in memory
/// for as long as the client takes to read the answer.
fn spell_out(record: batch::Record) -> FetchedRecord {
    let own = |bytes: Option<Bytes>| bytes.map(|bytes| Bytes::copy_from_slice(&bytes));
    let header = |header: batch::Header| RecordHeader {
        name: header.name.as_str().to_owned(),
        value: own(header.value),
    };
    FetchedRecord {
        offset: record.offset.to_wire(),
        record: Some(Record {
            key: own(record.key),
            value: own(record.value),
            headers: record.headers.into_iter().map(header).collect(),
            time_ms: Some(record.timestamp.0),
        }),
    }
}
