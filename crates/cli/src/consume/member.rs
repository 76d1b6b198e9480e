//! From a group to stdout: prints as a member, and commits what was printed.

use std::time::Duration;

use tidelog_client::{Client, CommitError, ConsumeError, Consumer, ConsumerRecord, ReadError};
use tidelog_types::{ErrorCode, GroupName, TopicPartition};
use tokio::time::{MissedTickBehavior, interval};

use super::args::ConsumeArgs;
use super::begin;
use super::goal::Goal;
use super::membership::Membership;
use super::sink::Sink;
use super::stream::consumed;
use crate::interrupt::Interrupt;
use crate::moment::Zone;
use crate::{Failure, chain};

/// The most records that are printed before they are flushed and marked.
const BATCH_RECORDS_MAX: usize = 1_000;
/// Between two looks at whether the group is where it is to be.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long to wait for records: there is no reason to wake up without.
const RECORDS_WAIT: Duration = Duration::from_secs(3_600);

/// Joins the group, prints until the end that `args` ask for or an interrupt, commits and leaves.
///
/// A record is marked when it was flushed: what a crash or a broken pipe swallowed comes again.
pub(super) async fn run(
    client: &Client,
    args: &ConsumeArgs,
    membership: Membership,
    sink: Sink,
    zone: Zone,
    interrupt: &mut Interrupt,
) -> Result<(), Failure> {
    // A member may wait for a topic that is not there yet; a person has mistyped it.
    let partitions = begin::partitions(client, args).await?;
    let goal = Goal::of(client, args, partitions, zone).await?;
    let consumer = membership.consumer(client, args).build().await?;
    let group = membership.group;
    let left = args.number.unwrap_or(u64::MAX);
    let mut printer = Printer { consumer, sink, goal, left };
    let printed = printer.print(interrupt).await.map_err(|stop| stop.failure(&group));
    // Whatever ended it: what was printed is committed, and the others get the partitions.
    let closed = printer.consumer.close().await.map_err(Failure::from);
    printed.and(closed)
}

/// Prints what a member gets.
struct Printer {
    consumer: Consumer,
    sink: Sink,
    goal: Option<Goal>,
    /// How many records may still be printed.
    left: u64,
}

/// Why printing ended too early.
enum Stop {
    Consumer(ConsumeError),
    Other(Failure),
}

impl Printer {
    async fn print(&mut self, interrupt: &mut Interrupt) -> Result<(), Stop> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.left > 0 && !interrupt.was_asked() {
            let max = usize::try_from(self.left).unwrap_or(usize::MAX).min(BATCH_RECORDS_MAX);
            let received = tokio::select! {
                biased;
                () = interrupt.asked() => return Ok(()),
                _ = looks.tick(), if self.goal.is_some() => None,
                received = self.consumer.recv_batch(max, RECORDS_WAIT) => Some(received),
            };
            match received.transpose().map_err(Stop::Consumer)? {
                Some(Some(batch)) => {
                    self.write(&batch)?;
                    self.goal.iter_mut().for_each(|goal| goal.see(&self.consumer));
                }
                Some(None) => return Ok(()),
                None => {
                    if let Some(goal) = &mut self.goal {
                        goal.look(&self.consumer).await.map_err(Stop::Other)?;
                    }
                }
            }
            if self.goal.as_ref().is_some_and(Goal::is_reached) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Prints records of one partition, up to its end if it has one, and marks what was printed.
    fn write(&mut self, batch: &[ConsumerRecord]) -> Result<(), Stop> {
        let Some(first) = batch.first() else { return Ok(()) };
        let name = TopicPartition { topic: first.topic.clone(), partition: first.partition };
        let taken = |record: &&ConsumerRecord| {
            self.goal.as_ref().is_none_or(|goal| goal.takes(&name, record.offset))
        };
        let count = batch.iter().take_while(taken).count();
        let (before, behind) = batch.split_at(count);
        self.print_all(before).map_err(|error| Stop::Other(error.into()))?;
        before.iter().for_each(ConsumerRecord::mark);
        self.left = self.left.saturating_sub(before.len() as u64);
        if !behind.is_empty() {
            // Not marked, so that they come again; and until then no more of them.
            self.consumer.pause([name]);
        }
        Ok(())
    }

    fn print_all(&mut self, records: &[ConsumerRecord]) -> std::io::Result<()> {
        for record in records {
            self.sink.write(&consumed(record.clone().into_record()))?;
        }
        self.sink.flush()
    }
}

impl Stop {
    fn failure(self, group: &GroupName) -> Failure {
        let error = match self {
            Self::Other(failure) => return failure,
            Self::Consumer(error) => error,
        };
        let outer = error.to_string();
        match error {
            ConsumeError::Partition(error @ ReadError::OffsetOutOfRange { .. }) => {
                let seek =
                    format!("tidelog group seek {group} --to start --topic {}", error.partition());
                Failure::from(error)
                    .next_step(format!("move the group to where records begin: {seek}"))
            }
            ConsumeError::Partition(error) => error.into(),
            ConsumeError::Start { source, .. } | ConsumeError::Group { source, .. } => {
                Failure::from(*source).at(|message| format!("{outer}: {message}"))
            }
            error => Failure::new(chain(&error)),
        }
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        let code: Option<ErrorCode> = error.code();
        let failure = Self::new(chain(&error)).code(code);
        failure.next_step(match error {
            CommitError::Leave(_) => {
                "its partitions go to others after the session timeout of 10 s"
            }
            _ => "what was printed of it last will come again",
        })
    }
}
