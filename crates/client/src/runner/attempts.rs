//! Calls a handler until it is done, in vain, or not to be called any more.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tidelog_types::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::breaker::Breaker;
use super::handler::{HandlerError, HandlerErrorKind};
use super::stats::Tally;
use crate::Clock;

/// How a failed call is tried again: after pauses that grow by a factor.
///
/// ```
/// use std::time::Duration;
/// use tidelog_client::Retry;
///
/// // After 1 s, 2 s and 4 s, which is also the default.
/// let retry = Retry::new(Duration::from_secs(1), 3).factor(2.0);
/// # let _ = retry;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    first: Duration,
    factor: f32,
    times: Option<usize>,
    max: Option<Duration>,
}

impl Retry {
    /// So many more tries, the first of them after this pause, each after twice the pause before.
    #[must_use]
    pub fn new(first: Duration, times: usize) -> Self {
        Self { first, factor: 2.0, times: Some(times), max: None }
    }

    /// Pauses grow by this; at least 1.
    #[must_use]
    pub fn factor(mut self, factor: f32) -> Self {
        self.factor = factor.max(1.0);
        self
    }

    /// No pause is longer than this.
    #[must_use]
    pub fn max(mut self, pause: Duration) -> Self {
        self.max = Some(pause);
        self
    }

    /// For what has to come back some day.
    pub(super) fn for_ever(self) -> Self {
        Self { times: None, ..self }
    }

    fn pauses(self) -> impl Iterator<Item = Duration> + Send {
        let builder = ExponentialBuilder::new().with_min_delay(self.first).with_factor(self.factor);
        let builder = match self.max {
            Some(max) => builder.with_max_delay(max),
            None => builder.without_max_delay(),
        };
        match self.times {
            Some(times) => builder.with_max_times(times).build(),
            None => builder.without_max_times().build(),
        }
    }
}

/// What calls share.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) retry: Retry,
    /// Pauses between the calls while something is down.
    pub(super) probe: Retry,
    pub(super) breaker: Breaker,
    /// As many calls as may run at once.
    pub(super) slots: Semaphore,
    pub(super) tally: Tally,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is done.
    Done,
    /// It is not going to be.
    Dead(Death),
    /// It is not to be called any more.
    Dropped,
}

/// Why records are put aside.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) error: HandlerError,
    pub(super) attempts: u32,
    pub(super) first_failure: Timestamp,
}

impl Rules {
    /// Calls by `call` until it is done. `enter` gives leave for each call, or none any more.
    pub(super) async fn attempt<P, F>(
        &self,
        clock: &dyn Clock,
        enter: impl Fn() -> Option<P>,
        call: impl Fn() -> F,
    ) -> Verdict
    where
        F: Future<Output = Result<(), HandlerError>>,
    {
        let mut pauses = self.retry.pauses();
        let mut probes = self.probe.for_ever().pauses();
        let (mut attempts, mut first_failure, mut probe) = (0, None, None);
        loop {
            if probe.is_none() {
                self.breaker.closed().await;
            }
            let slot = self.slots.acquire().await;
            if probe.is_none() && self.breaker.is_open() {
                continue;
            }
            let Some(pass) = enter() else { return Verdict::Dropped };
            self.tally.call(probe.is_some());
            let answer = call().await;
            drop((pass, slot));
            let error = match answer {
                Ok(()) => return Verdict::Done,
                Err(error) => error,
            };
            if error.kind() == HandlerErrorKind::Unavailable {
                if probe.is_none() {
                    // Whoever is not the first waits with the others.
                    probe = self.breaker.trip();
                    probes = self.probe.for_ever().pauses();
                }
                if probe.is_some() {
                    sleep(probes.next().unwrap_or(self.probe.first)).await;
                }
                continue;
            }
            // Whatever it was, what all need is there.
            probe = None;
            attempts += 1;
            let first_failure = *first_failure.get_or_insert_with(|| clock.now());
            let pause = match error.kind() {
                HandlerErrorKind::Poison => None,
                _ => pauses.next(),
            };
            match pause {
                Some(pause) => sleep(pause).await,
                None => return Verdict::Dead(Death { error, attempts, first_failure }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;
    use crate::SystemClock;

    fn rules(slots: usize) -> Rules {
        Rules {
            retry: Retry::new(Duration::from_secs(1), 3),
            probe: Retry::new(Duration::from_secs(1), 0).max(Duration::from_secs(8)),
            breaker: Breaker::new(),
            slots: Semaphore::new(slots),
            tally: Tally::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retries_come_after_one_two_and_four_seconds() {
        let (rules, began) = (rules(1), Instant::now());
        let calls = Mutex::new(Vec::new());
        let call = || async {
            calls.lock().unwrap().push(began.elapsed().as_secs_f64());
            Err(HandlerError::transient("no"))
        };
        let Verdict::Dead(death) = rules.attempt(&SystemClock, || Some(()), call).await else {
            panic!("not dead");
        };
        assert_eq!(death.attempts, 4);
        let times = calls.into_inner().unwrap();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>();
        for (gap, expected) in gaps.iter().zip([1.0, 2.0, 4.0]) {
            // Timers go by milliseconds.
            assert!((gap - expected).abs() < 0.005, "{gaps:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn poison_is_not_tried_again() {
        let rules = rules(1);
        let call = || async { Err(HandlerError::poison("bad")) };
        let verdict = rules.attempt(&SystemClock, || Some(()), call).await;
        assert!(matches!(verdict, Verdict::Dead(Death { attempts: 1, .. })), "{verdict:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_longer_wanted_is_dropped() {
        let rules = rules(1);
        let verdict = rules.attempt(&SystemClock, || None::<()>, || async { Ok(()) }).await;
        assert!(matches!(verdict, Verdict::Dropped), "{verdict:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn while_something_is_down_one_tries_and_none_dies() {
        const DOWN: Duration = Duration::from_secs(30);
        let (rules, began) = (rules(10), Instant::now());
        let (failed, done) = (Mutex::new(0), Mutex::new(0));
        let call = || async {
            // As a call does that finds out over the network.
            sleep(Duration::from_millis(20)).await;
            if began.elapsed() < DOWN {
                *failed.lock().unwrap() += 1;
                return Err(HandlerError::unavailable("down"));
            }
            *done.lock().unwrap() += 1;
            Ok(())
        };
        let attempts = (0..1_000).map(|_| rules.attempt(&SystemClock, || Some(()), call));
        let verdicts = futures_util::future::join_all(attempts).await;
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Done)));
        let (failed, done) = (failed.into_inner().unwrap(), done.into_inner().unwrap());
        assert!((10..=20).contains(&failed), "{failed} calls while it was down");
        assert_eq!(done, 1_000);
        // Back within 8 s, and then 10 at a time.
        assert!(began.elapsed() < DOWN + Duration::from_secs(11), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_tries_hands_that_on_when_it_goes() {
        let rules = rules(2);
        let call = || async { Err(HandlerError::unavailable("down")) };
        let first = rules.attempt(&SystemClock, || Some(()), call);
        assert!(tokio::time::timeout(Duration::from_secs(2), first).await.is_err());
        assert!(!rules.breaker.is_open());
        let second = rules.attempt(&SystemClock, || Some(()), || async { Ok(()) });
        assert!(matches!(second.await, Verdict::Done));
    }
}
