//! Subscriptions: the broker is the member of the group, for a client that has nothing but stubs.
//!
//! ```text
//! heartbeats ─> assignment ─> pullers ─> pieces ─> session ─> records ─> client
//!                                                     ^                    │
//!                                commits <────────────┴─── acks, credit ───┘
//! ```
//! One task owns everything of a subscription. It is a client of the group's coordinator and of the
//! partitions' leaders like any other, so any broker can run it.

mod held;
mod membership;
mod puller;
mod session;

use futures_util::StreamExt;
use futures_util::stream::{Stream, unfold};
use tidelog_proto::v1::offset_spec::Spec;
use tidelog_proto::v1::subscribe_request::Request as Asked;
use tidelog_proto::v1::{Error, OffsetBound, SubscribeOpen, SubscribeRequest, SubscribeResponse};
use tidelog_types::ErrorCode;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::super::{Api, invalid};
use super::group_name;
use crate::access::{Operation, Resource};
use crate::budget::Loan;
use crate::counters::Place;
use crate::limits;
use session::Session;

/// Responses that wait for HTTP/2.
const RESPONSES_MAX: usize = 1;

/// A response, and the bytes that it takes until HTTP/2 has passed it on.
type Sent = (Result<SubscribeResponse, Status>, Option<Loan>);

/// Opens a subscription: its first request must say what to receive.
pub(super) async fn open(
    api: Api,
    mut requests: Streaming<SubscribeRequest>,
    place: Place,
) -> Result<impl Stream<Item = Result<SubscribeResponse, Status>> + Send + 'static, Status> {
    let first = timeout(limits::SUBSCRIBE_OPEN_TIMEOUT, requests.next()).await;
    let first = first.map_err(|_| {
        let message = "the first request of a subscription did not come in time";
        Error::new(ErrorCode::RequestTimedOut, message)
    })?;
    let Some(Asked::Open(open)) = first.transpose()?.and_then(|first| first.request) else {
        return Err(invalid("the first request of a subscription must open it").into());
    };
    let start = check(&api, &open)?;
    let subscriptions = &api.core.counters.subscriptions;
    let one_of = subscriptions.enter(limits::SUBSCRIPTIONS_MAX as u64).ok_or_else(|| {
        let message = "the broker has as many subscriptions as it may have";
        Error::new(ErrorCode::ResourceExhausted, message).with_retry_after(limits::RETRY_AFTER)
    })?;
    let (responses, stream) = mpsc::channel(RESPONSES_MAX);
    let (joined, join) = oneshot::channel();
    let session = Session::new(api, open, start, responses.clone());
    // Spawned before it joins: whoever gives the call up must not leave a member behind.
    tokio::spawn(async move {
        let _places = (place, one_of);
        if let Err(error) = session.run(requests, joined).await {
            // Nobody may be listening any more.
            let _ = responses.send((Err(error.into()), None)).await;
        }
    });
    let ended = |_| Error::new(ErrorCode::BrokerNotAvailable, "the subscription has ended");
    join.await.map_err(ended)??;
    // The loan of a response goes when HTTP/2 asks for the next one: by then it has passed it on.
    Ok(unfold((stream, None), |(mut stream, loan): (mpsc::Receiver<Sent>, Option<Loan>)| async {
        drop(loan);
        let (response, loan) = stream.recv().await?;
        Some((response, (stream, loan)))
    }))
}

/// The start, once the request is found to make sense.
fn check(api: &Api, open: &SubscribeOpen) -> Result<Spec, Error> {
    let group = group_name(&open.group_id)?;
    api.allow(Operation::Read, Resource::Group(group.as_str()))?;
    let Some(subscription) = &open.subscription else {
        return Err(invalid("subscription is missing: topics, or a pattern"));
    };
    for topic in &subscription.topics {
        api.allow(Operation::Read, Resource::Topic(topic))?;
    }
    let start = open.start.and_then(|start| start.spec);
    match start {
        Some(Spec::Bound(bound)) if bound != i32::from(OffsetBound::Unspecified) => {
            Ok(Spec::Bound(bound))
        }
        Some(Spec::TimeMs(time)) => Ok(Spec::TimeMs(time)),
        _ => Err(invalid("start is missing: an end of the log, or a time")),
    }
}
