//! Calls that any broker takes, one broker after the other: what goes wrong at one is tried at the next.

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::{Backoff, Cluster, locked, one_of};
use crate::Error;

/// The broker that answered last. Asking it again saves looking for one that lives.
#[derive(Debug, Default)]
pub(crate) struct Preferred(Mutex<Option<String>>);

/// How long calls may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// One broker, until the next is asked.
    pub(crate) each: Duration,
    /// All of them together.
    pub(crate) all: Duration,
}

impl Cluster {
    /// Calls one broker at a time until one answers; a refusal that will not pass is an answer too.
    /// The call may be carried out more than once.
    ///
    /// Not at several brokers at once, as [`Cluster::ask_any`] does: these calls change something, or
    /// wait on purpose.
    pub(crate) async fn ask_in_turn<T, F>(
        &self,
        preferred: &Preferred,
        patience: Patience,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + patience.all;
        let mut backoff = Backoff::long();
        let mut failed = Vec::<(String, Error)>::new();
        loop {
            let first = locked(&preferred.0).clone();
            let mut addresses = self.addresses(None);
            if let Some(first) = first {
                addresses.retain(|address| *address != first);
                addresses.insert(0, first);
            }
            let mut pause = backoff.next();
            for address in addresses {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(one_of(failed));
                }
                match self.ask(&address, left.min(patience.each), &call).await {
                    Err(error) if error.is_retriable() => {
                        if let Error::Refused(refusal) = &error {
                            pause = pause.max(refusal.retry_after.unwrap_or_default());
                        }
                        failed.retain(|(tried, _)| *tried != address);
                        failed.push((address, error));
                    }
                    answer => {
                        *locked(&preferred.0) = Some(address);
                        return answer;
                    }
                }
            }
            *locked(&preferred.0) = None;
            if Instant::now() + pause >= deadline {
                return Err(one_of(failed));
            }
            sleep(pause).await;
        }
    }
}
