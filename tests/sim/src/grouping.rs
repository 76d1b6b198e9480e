//! Consumer groups: members that come and go and commit what they have read, and clients that use the
//! offsets of a group without members as a register.

use std::time::Duration;

use tidelog_client::{Client, Consumer, Offset, PartitionId, StartPolicy, TopicPartition};
use tokio::time::{sleep, timeout};

use crate::dice::Dice;
use crate::history::{RegisterCall, Shown};
use crate::workload::{Failure, LOOK, Stage, TOPIC, now};

/// The group whose offsets are a register.
const REGISTER: &str = "register";

/// The group with members.
pub(crate) const WORKERS: &str = "workers";

/// How long one call on a group may take; the next may do better.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a member may be silent: shorter than many faults, so that partitions change hands.
const SESSION: Duration = Duration::from_secs(3);

impl Stage {
    /// Commits offsets and reads them back.
    pub(crate) async fn use_register(self, number: u32) -> Result<(), Failure> {
        self.opened().await;
        let name = format!("register-{number}");
        let client = self.client(&name).await;
        let mut dice = Dice::new(self.plan.seed, &name);
        while now() < self.plan.end {
            sleep(dice.ms(50..800)).await;
            let partition = PartitionId(dice.within(0..u64::from(self.plan.partitions)) as u32);
            let acked = self.history.lock().acked_last.get(&partition).map(|(place, _)| place.1.0);
            let Some(end) = acked else { continue };
            let commit = if dice.percent(50) { Some(dice.within(0..end + 1)) } else { None };
            self.call_register(&client, partition, commit).await;
        }
        Ok(())
    }

    async fn call_register(&self, client: &Client, partition: PartitionId, commit: Option<u64>) {
        let invoked = now();
        let call = async {
            match commit {
                Some(offset) => commit_offset(client, partition, offset).await.map(Some),
                None => committed_offset(client, REGISTER, partition).await,
            }
        };
        let shown = match timeout(PATIENCE, call).await {
            Ok(Ok(Some(offset))) => Shown::Offset(offset),
            Ok(Ok(None)) => Shown::Nothing,
            Ok(Err(err)) => {
                self.trace.line(format_args!("register of {partition} {commit:?}: {err}"));
                Shown::Unknown
            }
            Err(_) => Shown::Unknown,
        };
        self.trace.line(format_args!("register of {partition} {commit:?} shows {shown:?}"));
        let call = RegisterCall { partition, commit, invoked, completed: now(), shown };
        self.history.lock().register.push(call);
    }

    /// A member of a group, that leaves, or is dropped, and comes again.
    pub(crate) async fn work(self, number: u32) -> Result<(), Failure> {
        self.opened().await;
        let name = format!("worker-{number}");
        let client = self.client(&name).await;
        let mut dice = Dice::new(self.plan.seed, &name);
        while now() < self.plan.end {
            let consumer = client.consumer(WORKERS).topics([TOPIC]).start(StartPolicy::Earliest);
            let consumer = consumer.session_timeout(SESSION).manual_commit();
            match timeout(PATIENCE, consumer.build()).await {
                Ok(Ok(consumer)) => self.work_for_a_while(consumer, &name, &mut dice).await?,
                Ok(Err(err)) => self.trace.line(format_args!("{name} {err}")),
                Err(_) => {}
            }
            sleep(dice.ms(50..2_000)).await;
        }
        Ok(())
    }

    async fn work_for_a_while(
        &self,
        mut consumer: Consumer,
        name: &str,
        dice: &mut Dice,
    ) -> Result<(), Failure> {
        let until = self.plan.end.min(now() + dice.ms(1_000..20_000));
        while now() < until {
            match timeout(LOOK, consumer.recv()).await {
                Ok(Ok(Some(record))) => {
                    let value = record.value.clone().unwrap_or_default();
                    let value = String::from_utf8(value.to_vec())?;
                    let place = (record.partition, record.offset);
                    self.was_read(place, value);
                    self.history.lock().delivered.insert(place);
                    consumer.mark(&record);
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(err)) => self.trace.line(format_args!("{name} {err}")),
                Err(_) => {}
            }
            if dice.percent(2) {
                let committed = timeout(PATIENCE, consumer.commit()).await;
                self.trace.line(format_args!("{name} commits: {committed:?}"));
            }
        }
        if dice.percent(50) {
            let closed = timeout(PATIENCE, consumer.close()).await;
            self.trace.line(format_args!("{name} leaves: {closed:?}"));
        }
        Ok(())
    }

    /// What the group with members has committed in the end.
    pub(crate) async fn committed_in_the_end(&self, client: &Client) {
        for partition in (0..self.plan.partitions).map(PartitionId) {
            match committed_offset(client, WORKERS, partition).await {
                Ok(Some(offset)) => {
                    self.history.lock().committed.insert(partition, offset);
                }
                Ok(None) => {}
                Err(err) => {
                    let what = format!("partition {partition}: {err}");
                    self.history.violated("healed_groups_answer", what);
                }
            }
        }
    }
}

fn place(partition: PartitionId) -> TopicPartition {
    TopicPartition { topic: TOPIC.parse().expect("a name"), partition }
}

/// Commits `offset` and gives what holds then.
async fn commit_offset(
    client: &Client,
    partition: PartitionId,
    offset: u64,
) -> Result<Offset, tidelog_client::Error> {
    let commits = [(place(partition), Offset(offset))];
    let admin = client.admin();
    let committed = admin.commit_group_offsets(REGISTER, commits).await?;
    let (_, committed) = committed.into_iter().next().expect("one outcome for each offset");
    Ok(committed?.offset)
}

/// What `group` has committed; nothing when there is no such group yet.
async fn committed_offset(
    client: &Client,
    group: &str,
    partition: PartitionId,
) -> Result<Option<Offset>, tidelog_client::Error> {
    use tidelog_client::ErrorCode::GroupIdNotFound;
    let facts = match client.admin().describe_group(group).await {
        Ok(facts) => facts,
        Err(err) if err.code() == Some(GroupIdNotFound) => return Ok(None),
        Err(err) => return Err(err),
    };
    let of = facts.partitions.into_iter().find(|of| of.partition.partition == partition);
    Ok(of.and_then(|of| of.committed).map(|committed| committed.offset))
}
