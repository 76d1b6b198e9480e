//! What stands in front of every call of the client listener: calls are counted, and so are the bytes
//! of messages that have not arrived whole.
//!
//! HTTP/2 hands a message over piece by piece, and the pieces wait in memory for the last one. A
//! client that sends beginnings only would use up the broker without one valid request; so the pieces
//! take room from a budget, and who finds none, or takes too long, is refused. What an answer holds,
//! its room included, is held until HTTP/2 has passed the answer on.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, Ready, ready as at_once};
use hyper::body::{Body as HttpBody, Frame};
use tidelog_proto::v1::Error;
use tidelog_types::ErrorCode;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use crate::budget::{Budget, Lease};
use crate::core::Core;
use crate::counters::Place;
use crate::limits;

/// gRPC's head of a message: a flag, and the length in four bytes.
const HEAD_BYTES: usize = 5;

/// Puts an [`Intake`] in front of the services.
#[derive(Clone, Debug)]
pub(crate) struct IntakeLayer(pub(crate) Arc<Core>);

impl<S> Layer<S> for IntakeLayer {
    type Service = Intake<S>;

    fn layer(&self, inner: S) -> Intake<S> {
        Intake { core: Arc::clone(&self.0), inner }
    }
}

/// Lets calls in while there is a place.
#[derive(Clone, Debug)]
pub(crate) struct Intake<S> {
    core: Arc<Core>,
    inner: S,
}

/// What an answer holds until it has been passed on; services put it among its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    _held: Arc<dyn Send + Sync + std::fmt::Debug>,
}

impl Held {
    pub(crate) fn new(held: impl Send + Sync + std::fmt::Debug + 'static) -> Self {
        Self { _held: Arc::new(held) }
    }
}

impl<S> Service<Request<Body>> for Intake<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<
        Ready<Result<Response<Body>, Infallible>>,
        BoxFuture<'static, Result<Response<Body>, Infallible>>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let most = u64::from(self.core.config.limits.calls);
        let Some(place) = self.core.counters.calls.enter(most) else {
            let message = "the broker has as many calls as limits.calls allows";
            return Either::Left(at_once(Ok(exhausted(message).into_http())));
        };
        let received = &self.core.received;
        let request = request.map(|body| Body::new(Arriving::new(body, Arc::clone(received))));
        let answer = self.inner.call(request);
        Either::Right(Box::pin(async move {
            let mut answer = answer.await?;
            let held = answer.extensions_mut().remove::<Held>();
            Ok(answer.map(|body| Body::new(Leaving { body, _held: held, _place: place })))
        }))
    }
}

fn exhausted(message: &str) -> Status {
    Error::new(ErrorCode::ResourceExhausted, message).with_retry_after(limits::RETRY_AFTER).into()
}

/// The body of a request. What has arrived of a message that is not whole takes room.
struct Arriving {
    body: Body,
    place: Cursor,
    lease: Lease,
    /// Runs while a message is in pieces.
    hurry: Option<Pin<Box<Sleep>>>,
    refused: bool,
}

impl Arriving {
    fn new(body: Body, budget: Arc<Budget>) -> Self {
        let lease = Lease::new(budget);
        Self { body, place: Cursor::default(), lease, hurry: None, refused: false }
    }

    fn arrived(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let whole = self.place.advance(bytes);
        if whole {
            self.hurry = None;
        }
        if !self.lease.grow(bytes.len()) {
            return Err(exhausted(
                "messages that have not arrived whole use up limits.receive_bytes",
            ));
        }
        Ok(())
    }

    fn late(&mut self, cx: &mut Context<'_>) -> Option<Status> {
        if self.place.pending == 0 {
            return None;
        }
        let timer = || Box::pin(sleep(limits::MESSAGE_TIMEOUT));
        self.hurry.get_or_insert_with(timer).as_mut().poll(cx).is_ready().then(|| {
            let message = "a message did not arrive whole in time";
            Error::new(ErrorCode::RequestTimedOut, message).with_maybe_written(false).into()
        })
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.refused {
            return Poll::Ready(None);
        }
        // More is asked for only when nothing whole is left: the rest was taken over.
        this.lease.shrink_to(this.place.pending);
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending() {
            let Some(late) = this.late(cx) else { return Poll::Pending };
            this.refused = true;
            return Poll::Ready(Some(Err(late)));
        }
        let Some(frame) = ready!(polled).transpose()? else { return Poll::Ready(None) };
        if let Some(bytes) = frame.data_ref()
            && let Err(refused) = this.arrived(bytes)
        {
            this.refused = true;
            return Poll::Ready(Some(Err(refused)));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.refused || self.body.is_end_stream()
    }
}

/// Where in a stream of messages we are.
#[derive(Debug, Default)]
struct Cursor {
    head: [u8; HEAD_BYTES],
    /// Bytes that have come of a message that is not whole, its head included.
    pending: usize,
}

impl Cursor {
    /// Goes over what has come; tells whether a message was completed.
    fn advance(&mut self, mut bytes: &[u8]) -> bool {
        let mut completed = false;
        while !bytes.is_empty() {
            if self.pending < HEAD_BYTES {
                self.head[self.pending] = bytes[0];
                self.pending += 1;
                bytes = &bytes[1..];
            } else {
                let step = bytes.len().min(self.left());
                self.pending += step;
                bytes = &bytes[step..];
            }
            if self.pending >= HEAD_BYTES && self.left() == 0 {
                self.pending = 0;
                completed = true;
            }
        }
        completed
    }

    /// Bytes that are still to come of the message whose head is there.
    fn left(&self) -> usize {
        let [_, length @ ..] = self.head;
        (u32::from_be_bytes(length) as usize + HEAD_BYTES).saturating_sub(self.pending)
    }
}

/// The body of an answer, with what must not be given back before it has left.
struct Leaving {
    body: Body,
    _held: Option<Held>,
    _place: Place,
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        // Never before it was polled to its end: HTTP/2 would drop it, and what it holds, at once.
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_util::future::poll_fn;

    use super::*;

    /// A body that comes in these pieces and then neither goes on nor ends.
    struct Pieces(VecDeque<Vec<u8>>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.0.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
                None => Poll::Pending,
            }
        }
    }

    fn message(length: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(length.to_be_bytes());
        bytes.resize(HEAD_BYTES + length as usize, 7);
        bytes
    }

    fn arriving(pieces: &[&[u8]], budget: &Arc<Budget>) -> Arriving {
        let pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
        Arriving::new(Body::new(Pieces(pieces)), Arc::clone(budget))
    }

    async fn next(body: &mut Arriving) -> Result<usize, Status> {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        Ok(frame.expect("a frame")?.data_ref().expect("data").len())
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_not_whole_takes_room_and_for_a_time_only() {
        let budget = Budget::new(100);
        let stream = [message(20), message(0), message(30)].concat();
        let mut body = arriving(&[&stream[..3], &stream[3..35], &stream[35..]], &budget);
        next(&mut body).await.unwrap();
        assert_eq!(budget.used(), 3);
        // Here the first two messages are whole, and five bytes of the third have come.
        next(&mut body).await.unwrap();
        assert_eq!(budget.used(), 35);
        next(&mut body).await.unwrap();
        assert_eq!(budget.used(), 5 + 30);
        let nothing = poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await;
        assert!(nothing.is_pending());
        assert_eq!(budget.used(), 0);
        drop(body);

        let mut body = arriving(&[&stream[..24]], &budget);
        next(&mut body).await.unwrap();
        let late = next(&mut body).await.unwrap_err();
        let code = Error::from_status(&late).unwrap().error_code();
        assert_eq!(code, Ok(ErrorCode::RequestTimedOut));
        drop(body);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn beginnings_beyond_the_budget_are_refused() {
        let budget = Budget::new(50);
        let half = &message(100)[..40];
        let mut first = arriving(&[half], &budget);
        next(&mut first).await.unwrap();
        let mut second = arriving(&[half, half], &budget);
        let refused = Error::from_status(&next(&mut second).await.unwrap_err()).unwrap();
        assert_eq!(refused.error_code(), Ok(ErrorCode::ResourceExhausted));
        assert!(refused.retry_after().is_some());
        assert!(poll_fn(|cx| Pin::new(&mut second).poll_frame(cx)).await.is_none());
        drop(first);
        next(&mut arriving(&[half], &budget)).await.unwrap();
    }
}
