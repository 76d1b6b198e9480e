//! `/metrics`, `/healthz` and `/readyz`, over HTTP/1.1.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tidelog_raft::DiskSpace;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::core::Core;
use crate::environment::Listener;
use crate::limits;

/// Serves until the task is aborted.
pub(crate) async fn serve(core: Arc<Core>, mut listener: Box<dyn Listener>) {
    let room = Arc::new(Semaphore::new(limits::HTTP_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let io = match listener.accept().await {
            Ok(io) => io,
            Err(err) => {
                warn!(%err, listener = "http", "connection was not accepted");
                crate::server::pause_after_failed_accept().await;
                continue;
            }
        };
        let core = Arc::clone(&core);
        connections.spawn(async move {
            let answer = service_fn(move |request| {
                let response = answer(&core, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits::HTTP_HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(io), answer);
            if let Err(err) = connection.await {
                debug!(%err, "an HTTP connection ended");
            }
            drop(permit);
        });
    }
}

fn answer(core: &Core, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    match request.uri().path() {
        // The process answers: that is all that a restart could mend.
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match core.not_ready() {
            None => text(StatusCode::OK, "ready\n".to_owned()),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("waits for {reason}\n")),
        },
        "/metrics" => text(StatusCode::OK, metrics(core)),
        _ => text(StatusCode::NOT_FOUND, "/metrics, /healthz and /readyz are here\n".to_owned()),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// Prometheus' text format, version 0.0.4.
fn metrics(core: &Core) -> String {
    let mut page = Page(String::new());
    let c = &core.counters;
    page.counter("produce_batches", "Batches that were acked.", c.produce_batches.value());
    page.counter("produce_records", "Records that were acked.", c.produce_records.value());
    page.counter("produce_bytes", "Bytes of batches that were acked.", c.produce_bytes.value());
    page.counter("produce_errors", "Batches answered with an error.", c.produce_errors.value());
    page.counter(
        "produce_throttled",
        "Batches that were not taken for lack of room.",
        c.produce_throttled.value(),
    );
    page.counter("fetch_batches", "Batches sent to consumers.", c.fetch_batches.value());
    page.counter("fetch_records", "Records sent to consumers.", c.fetch_records.value());
    page.counter("fetch_bytes", "Bytes of batches sent to consumers.", c.fetch_bytes.value());
    page.gauge("fetch_streams", "Open fetch streams.", c.fetch_streams.value());
    page.gauge(
        "in_flight_bytes",
        "Bytes of batches that wait for their ack.",
        core.in_flight.used() as u64,
    );
    page.gauge(
        "fetched_bytes",
        "Bytes of batches read for consumers and not taken yet.",
        core.fetched.used() as u64,
    );
    page.gauge(
        "receive_bytes",
        "Bytes of messages that have not arrived whole.",
        core.received.used() as u64,
    );
    page.gauge("calls", "Open calls of clients, streams among them.", c.calls.value());
    let replicas = core.running().map_or(0, |cluster| cluster.hosted.all().len() as u64);
    page.gauge(
        "memory_bytes_max",
        "What memory adds up to at most with this configuration and these replicas.",
        limits::memory_bytes_max(&core.config) + replicas * limits::MEMORY_PER_REPLICA,
    );
    page.counter(
        "leaderships_handed_back",
        "Leaderships handed to the replica that should lead.",
        c.rebalanced.value(),
    );
    page.gauge("ready", "1 when the broker can do its work.", core.not_ready().is_none().into());
    if let Some(cluster) = core.running() {
        let stats = cluster.node.stats();
        page.counter("fdatasync_calls", "Calls of fdatasync.", stats.fdatasync_calls);
        page.counter("synced_bytes", "Bytes made durable.", stats.synced_bytes);
        let (scrubbed, found) = (stats.scrubbed_bytes, stats.damage_found);
        page.counter("scrubbed_bytes", "Bytes read again to find damage.", scrubbed);
        page.counter("damage_found", "Damaged places found on disk.", found);
        let (freed, removed) = (stats.compacted_bytes, stats.compacted_records);
        page.counter("compacted_bytes", "Bytes by which compaction made logs smaller.", freed);
        page.counter("compacted_records", "Records that compaction has taken out.", removed);
        let repaired = stats.damage_repaired;
        page.counter("damage_repaired", "Damaged places made whole again.", repaired);
        let low = cluster.node.space() > DiskSpace::Enough;
        page.gauge("low_on_space", "1 while the disk is nearly full.", low.into());
        page.gauge("groups", "Raft groups that are open here.", stats.groups as u64);
        let asleep = stats.groups_asleep as u64;
        page.gauge("groups_asleep", "Those of them in which nothing happens.", asleep);
        let replicas = cluster.hosted.all();
        let led = replicas.iter().filter(|replica| replica.leads()).count();
        let out = replicas.iter().filter(|replica| replica.is_out_of_service()).count();
        let bytes: u64 = replicas.iter().map(|replica| replica.log_bytes()).sum();
        page.gauge("replicas", "Replicas that this broker hosts.", replicas.len() as u64);
        page.gauge("partitions_led", "Partitions that this broker leads.", led as u64);
        page.gauge("replicas_out", "Replicas that stepped out.", out as u64);
        page.gauge("log_bytes", "Bytes of all replicas on disk.", bytes);
        page.gauge("brokers_alive", "Brokers that answer.", cluster.live_brokers().len() as u64);
        let controls = cluster.controller() == Some(cluster.me);
        page.gauge("controller", "1 on the leader of the metadata group.", controls.into());
    }
    page.0
}

struct Page(String);

impl Page {
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.metric(&format!("tidelog_{name}_total"), "counter", help, value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.metric(&format!("tidelog_{name}"), "gauge", help, value);
    }

    fn metric(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")
            .expect("a string takes all that is written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_in_prometheus_text_format() {
        let mut page = Page(String::new());
        page.counter("a", "Help.", 7);
        page.gauge("b", "More.", 0);
        assert_eq!(
            page.0,
            "# HELP tidelog_a_total Help.\n# TYPE tidelog_a_total counter\ntidelog_a_total 7\n\
             # HELP tidelog_b More.\n# TYPE tidelog_b gauge\ntidelog_b 0\n"
        );
    }
}
