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
use futures_util::stream::Stream;
use tidelog_proto::v1::offset_spec::Spec;
use tidelog_proto::v1::subscribe_request::Request as Asked;
use tidelog_proto::v1::{Error, OffsetBound, SubscribeOpen, SubscribeRequest, SubscribeResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::super::{Api, invalid};
use super::group_name;
use crate::access::{Operation, Resource};
use crate::counters::Place;
use session::Session;

/// Responses that wait for HTTP/2.
const RESPONSES_MAX: usize = 4;

/// Opens a subscription: its first request must say what to receive.
pub(super) async fn open(
    api: Api,
    mut requests: Streaming<SubscribeRequest>,
    place: Place,
) -> Result<impl Stream<Item = Result<SubscribeResponse, Status>> + Send + 'static, Status> {
    let first = requests.next().await.transpose()?;
    let Some(Asked::Open(open)) = first.and_then(|first| first.request) else {
        return Err(invalid("the first request of a subscription must open it").into());
    };
    let start = check(&api, &open)?;
    let (responses, stream) = mpsc::channel(RESPONSES_MAX);
    let session = Session::open(api, open, start, responses.clone()).await?;
    tokio::spawn(async move {
        let _place = place;
        if let Err(error) = session.run(requests).await {
            // Nobody may be listening any more.
            let _ = responses.send(Err(error.into())).await;
        }
    });
    Ok(ReceiverStream::new(stream))
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
