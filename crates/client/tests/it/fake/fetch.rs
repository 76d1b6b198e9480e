//! Reading: pushed as far as the credit goes.

use std::time::Duration;

use bytes::Bytes;
use tidelog_proto::v1::fetch_request::Request;
use tidelog_proto::v1::fetch_until::Until;
use tidelog_proto::v1::offset_spec::Spec;
use tidelog_proto::v1::{Error, FetchOpen, FetchRequest, FetchResponse};
use tidelog_types::{ErrorCode, batch};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use super::Broker;

type Answers = mpsc::UnboundedSender<Result<FetchResponse, Status>>;

impl Broker {
    pub(super) async fn fetch_all(self, mut requests: Streaming<FetchRequest>, answers: Answers) {
        let Some(Ok(FetchRequest { request: Some(Request::Open(open)) })) = requests.next().await
        else {
            return;
        };
        if let Err(error) = self.push(open, &mut requests, &answers).await {
            // Whoever reads may be gone.
            let _ = answers.send(Err(error.into()));
        }
    }

    async fn push(
        &self,
        open: FetchOpen,
        requests: &mut Streaming<FetchRequest>,
        answers: &Answers,
    ) -> Result<(), Error> {
        let (mut next, until) = self.begin(&open)?;
        self.trim_under(&open, next)?;
        let mut credit = open.credit_bytes as i64;
        let mut granted = open.credit_bytes;
        let mut changed = self.world.changed.subscribe();
        let max_wait = Duration::from_millis(open.max_wait_ms.into());
        let mut first = true;
        loop {
            self.world.thaw(self.id).await;
            changed.borrow_and_update();
            let (batches, mut response) = self.look(&open, next, if first { 0 } else { credit })?;
            let bytes = batches.iter().map(Bytes::len).sum::<usize>();
            credit -= bytes as i64;
            if let Some(last) = batches.last() {
                next = batch::Info::read(last).unwrap().next_offset().0;
            }
            response.next_offset = next as i64;
            response.end_of_range = until.is_some_and(|until| next >= until);
            let (done, empty) = (response.end_of_range, batches.is_empty());
            response.batches = batches;
            self.world.change(|state| {
                let ahead = (granted as i64 - credit) as u64;
                state.fetched_ahead_max = state.fetched_ahead_max.max(ahead);
            });
            changed.borrow_and_update();
            if answers.send(Ok(response)).is_err() || done {
                return Ok(());
            }
            if !empty || std::mem::take(&mut first) {
                continue;
            }
            let late = Instant::now() + max_wait;
            tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(FetchRequest { request: Some(Request::Credit(more)) })) => {
                        credit += more.bytes as i64;
                        granted = granted.max(credit as u64);
                    }
                    _ => return Ok(()),
                },
                _ = changed.changed() => {}
                () = sleep_until(late) => {}
            }
        }
    }

    /// Retention that is faster than a reader's first read.
    fn trim_under(&self, open: &FetchOpen, next: u64) -> Result<(), Error> {
        let mut state = self.world.state();
        let partition = state.partition(&open.topic, open.partition as usize).unwrap();
        let Some(start) = partition.trim_on_fetch.take() else { return Ok(()) };
        partition.log_start = start;
        partition.log.retain(|(base, _)| *base >= start);
        if next >= start {
            return Ok(());
        }
        Err(Error::new(ErrorCode::OffsetOutOfRange, format!("{next} is before {start}")))
    }

    /// Where to begin and to stop.
    fn begin(&self, open: &FetchOpen) -> Result<(u64, Option<u64>), Error> {
        let mut state = self.world.state();
        let at = open.partition as usize;
        state.check_leader(self.id, &open.topic, &open.topic_id, at)?;
        let partition = state.partition(&open.topic, at).unwrap();
        if open.leader_epoch.is_some_and(|epoch| epoch > partition.epoch) {
            return Err(Error::new(ErrorCode::NotLeader, "deposed"));
        }
        let next = match open.start.as_ref().and_then(|start| start.spec) {
            Some(Spec::Offset(offset)) => offset as u64,
            Some(Spec::TimeMs(time)) => partition.find(time).0,
            Some(Spec::Bound(1)) => partition.log_start,
            _ => partition.next_offset,
        };
        if !(partition.log_start..=partition.next_offset).contains(&next) {
            let (start, end) = (partition.log_start, partition.next_offset);
            let message = format!("the partition holds {start} to {end}");
            return Err(Error::new(ErrorCode::OffsetOutOfRange, message));
        }
        let until = match open.until.as_ref().and_then(|until| until.until) {
            Some(Until::Offset(offset)) => Some(offset as u64),
            Some(Until::End(true)) => Some(partition.next_offset),
            _ => None,
        };
        Ok((next, until))
    }

    /// The batches that can go now.
    fn look(
        &self,
        open: &FetchOpen,
        next: u64,
        credit: i64,
    ) -> Result<(Vec<Bytes>, FetchResponse), Error> {
        let mut state = self.world.state();
        let at = open.partition as usize;
        state.check_leader(self.id, &open.topic, &open.topic_id, at)?;
        let partition = state.partition(&open.topic, at).unwrap();
        let mut batches = Vec::new();
        let mut bytes = 0;
        for (_, batch) in &partition.log {
            let behind = batch::Info::read(batch).unwrap().next_offset().0;
            if credit <= 0 || (bytes > 0 && bytes + batch.len() > open.max_bytes as usize) {
                break;
            }
            if behind > next {
                bytes += batch.len();
                batches.push(batch.clone());
            }
        }
        let response = FetchResponse {
            high_watermark: partition.next_offset as i64,
            log_start: partition.log_start as i64,
            leader_epoch: partition.epoch,
            ..FetchResponse::default()
        };
        Ok((batches, response))
    }
}
