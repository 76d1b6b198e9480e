//! What recorders write down: lines for the checker.

use std::time::{Duration, Instant};

use tidelog_checker::{Committed, Event, Span};
use tidelog_proto::v1::FetchOffsetsRequest;
use tokio::sync::watch;
use tokio::time::sleep;

use super::member::groups;
use super::{GROUP, TOPIC};

/// One monotonic clock for all recorders.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }

    /// From `invoke` until now.
    pub(super) fn since(self, invoke: u64) -> Span {
        Span { invoke, complete: self.now() }
    }
}

/// The lines of one recorder.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) name: String,
    pub(super) lines: Vec<u8>,
    /// Ids of the records that were delivered.
    pub(super) delivered: Vec<u64>,
}

impl Recorder {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), lines: Vec::new(), delivered: Vec::new() }
    }

    pub(super) fn record(&mut self, event: &Event<'_>) {
        serde_json::to_writer(&mut self.lines, event).unwrap();
        self.lines.push(b'\n');
    }
}

/// Reads the committed offsets again and again, by one broker after the other, until told to stop.
pub(super) async fn read_offsets(
    bootstrap: Vec<String>,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
) -> Recorder {
    let mut recorder = Recorder::new("reads");
    let mut turn = 0;
    while !*stop.borrow_and_update() {
        turn += 1;
        let mut client = groups(&bootstrap[turn % bootstrap.len()]);
        let request = FetchOffsetsRequest { group_id: GROUP.to_owned(), partitions: Vec::new() };
        let invoke = clock.now();
        if let Ok(answer) = client.fetch_offsets(request).await {
            let at = clock.since(invoke);
            for offset in answer.into_inner().offsets {
                let committed = offset.committed.map(|committed| committed.offset as u64);
                recorder.record(&Event::Committed(Committed {
                    at,
                    group: GROUP.into(),
                    topic: TOPIC.into(),
                    partition: offset.partition,
                    offset: committed,
                }));
            }
        }
        sleep(Duration::from_millis(250)).await;
    }
    recorder
}
