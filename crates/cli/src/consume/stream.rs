//! From a reader to stdout.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tidelog_client::{ErrorCode, ReadError, ReadRecord};

use super::bounded::Bounded;
use super::sink::Sink;
use crate::interrupt::Interrupt;
use crate::record::{Consumed, Content};
use crate::{Failure, chain};

/// Writes what `reader` gives, at most `number` records, until its end or an interrupt.
///
/// Whatever is ready is written as one batch: the sink is flushed before waiting, and at the end.
pub(crate) async fn pour(
    mut reader: Bounded,
    mut sink: Sink,
    number: Option<u64>,
    interrupt: &mut Interrupt,
) -> Result<(), Failure> {
    let mut left = number.unwrap_or(u64::MAX);
    while left > 0 && !interrupt.was_asked() {
        let received = {
            let mut receive = pin!(reader.recv());
            match poll_fn(|context| Poll::Ready(receive.as_mut().poll(context))).await {
                Poll::Ready(received) => received,
                Poll::Pending => {
                    sink.flush()?;
                    tokio::select! {
                        biased;
                        () = interrupt.asked() => break,
                        received = receive => received,
                    }
                }
            }
        };
        match received {
            Ok(Some(record)) => sink.write(&consumed(record))?,
            Ok(None) => break,
            Err(error) => {
                sink.flush()?;
                return Err(error.into());
            }
        }
        left -= 1;
    }
    sink.flush()?;
    Ok(())
}

/// The record as it is shown.
pub(crate) fn consumed(record: ReadRecord) -> Consumed {
    let headers = record.headers.into_iter();
    Consumed {
        topic: record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        content: Content {
            key: record.key,
            value: record.value,
            headers: headers.map(|header| (header.name.to_string(), header.value)).collect(),
        },
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let failure = Self::new(chain(&error));
        match error {
            ReadError::OffsetOutOfRange { .. } => failure
                .code(Some(ErrorCode::OffsetOutOfRange))
                .next_step("read from where records begin: --from start"),
            ReadError::Unavailable { .. } => {
                failure.next_step("look at `tidelog cluster health`, then try again")
            }
            ReadError::Gap { .. } | ReadError::Corrupt { .. } => {
                failure.next_step("this is never right: look at the brokers' logs")
            }
            _ => failure,
        }
    }
}
