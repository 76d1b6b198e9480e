//! What handlers are, and what they answer.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::ReadRecord;

/// What a handler answers when it could not do its work. Any error becomes one by `?`, as
/// [`HandlerError::transient`].
///
/// It is no [`std::error::Error`] itself, since then it could not be made from all of them.
///
/// ```
/// use tidelog_client::{HandlerError, ReadRecord};
///
/// async fn handle(record: ReadRecord) -> Result<(), HandlerError> {
///     let value = record.value.ok_or_else(|| HandlerError::poison("a tombstone"))?;
///     let amount: u64 = std::str::from_utf8(&value)?.parse().map_err(HandlerError::poison)?;
///     charge(amount).await.map_err(HandlerError::unavailable)
/// }
/// # async fn charge(_: u64) -> Result<(), std::io::Error> { Ok(()) }
/// ```
pub struct HandlerError {
    kind: HandlerErrorKind,
    source: Box<dyn StdError + Send + Sync>,
}

/// What to do about a [`HandlerError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandlerErrorKind {
    /// It may pass: try again, and after some tries put the record aside.
    Transient,
    /// Something that all records need is down: call no handler until it is back. No record is put
    /// aside for that, however long it takes.
    Unavailable,
    /// It will not pass: put the record aside at once.
    Poison,
}

impl HandlerError {
    /// It may pass, see [`HandlerErrorKind::Transient`].
    pub fn transient(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind: HandlerErrorKind::Transient, source: source.into() }
    }

    /// Something that all records need is down, see [`HandlerErrorKind::Unavailable`].
    pub fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind: HandlerErrorKind::Unavailable, source: source.into() }
    }

    /// It will not pass, see [`HandlerErrorKind::Poison`].
    pub fn poison(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind: HandlerErrorKind::Poison, source: source.into() }
    }

    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> HandlerErrorKind {
        self.kind
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::transient(error)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.kind)
    }
}

/// Handles one record at a time. Implemented by async functions.
pub trait Handler: Send + Sync + 'static {
    /// Handles a record; it may come again, after a crash or a rebalance. Dropped, when the runner is
    /// stopped and it takes too long, it counts as not done.
    fn handle(&self, record: ReadRecord) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

impl<F, R> Handler for F
where
    F: Fn(ReadRecord) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), HandlerError>> + Send,
{
    fn handle(&self, record: ReadRecord) -> impl Future<Output = Result<(), HandlerError>> + Send {
        self(record)
    }
}

/// Handles records of one partition, several at a time. Implemented by async functions.
pub trait BatchHandler: Send + Sync + 'static {
    /// Handles records, in the order of their offsets: all of them or, with an error, none. When that
    /// is not going to pass, they come again one by one, so that only those are put aside that have to
    /// be.
    fn handle(
        &self,
        records: Vec<ReadRecord>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

impl<F, R> BatchHandler for F
where
    F: Fn(Vec<ReadRecord>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), HandlerError>> + Send,
{
    fn handle(
        &self,
        records: Vec<ReadRecord>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        self(records)
    }
}

/// A call in progress.
pub(super) type Calling = BoxFuture<'static, Result<(), HandlerError>>;

/// Either kind of handler. A panic in it is poison: it is the record's, or comes again with it.
#[derive(Clone)]
pub(super) struct Call(Arc<dyn Fn(Vec<ReadRecord>) -> Calling + Send + Sync>);

impl Call {
    pub(super) fn records(handler: impl Handler) -> Self {
        let handler = Arc::new(handler);
        Self::new(move |mut records| {
            let handler = Arc::clone(&handler);
            async move {
                // One record at a time is what was asked for.
                match records.pop() {
                    Some(record) => handler.handle(record).await,
                    None => Ok(()),
                }
            }
            .boxed()
        })
    }

    pub(super) fn batches(handler: impl BatchHandler) -> Self {
        let handler = Arc::new(handler);
        Self::new(move |records| {
            let handler = Arc::clone(&handler);
            async move { handler.handle(records).await }.boxed()
        })
    }

    pub(super) fn new(call: impl Fn(Vec<ReadRecord>) -> Calling + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }

    pub(super) async fn call(&self, records: Vec<ReadRecord>) -> Result<(), HandlerError> {
        let calling = AssertUnwindSafe(async { (self.0)(records).await }).catch_unwind();
        calling.await.unwrap_or_else(|_| Err(HandlerError::poison("the handler panicked")))
    }
}
