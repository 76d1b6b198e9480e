//! The worst day, once everything was judged: all brokers but one are gone, and that one goes on alone.
//!
//! All replicas hold the same by then, so nothing may be missing: whoever goes on has everything that was
//! acked. In half of the cases the others come back with their disks, together a majority of what was.

use std::time::Duration;

use tidelog_client::admin::{Admin, UnsafeRecovery};
use tidelog_client::{BrokerId, Client};
use tokio::time::sleep;
use turmoil::Sim;

use crate::cluster::{Machine, host};
use crate::dice::Dice;
use crate::plan::Plan;
use crate::simulation::go_on;
use crate::workload::{Failure, LOOK, Stage, now};

/// How soon the one that is left knows that the others are gone, and leads what it goes on with.
const RECOVERS_WITHIN: Duration = Duration::from_secs(20);

/// How long those that come back have to be told, and to do harm.
const BACK_FOR: Duration = Duration::from_secs(10);

/// How long they are among themselves before: longer than an election takes.
const CUT_OFF_FOR: Duration = Duration::from_secs(6);

/// Beyond this time the day has not come to an end.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// Who is left, and whether the others come back.
#[derive(Clone, Debug)]
pub(crate) struct WorstDay {
    /// The three brokers of the cluster.
    brokers: Vec<u32>,
    /// The broker that is left.
    pub(crate) left: u32,
    /// Whether the others come back with their disks.
    pub(crate) others_return: bool,
    /// Whether they reach nobody else at first, and may elect one of theirs.
    pub(crate) cut_off: bool,
}

impl WorstDay {
    /// The worst day of a plan, if it has one.
    pub(crate) fn of(plan: &Plan) -> Option<Self> {
        let mut dice = Dice::new(plan.seed, "worst day");
        let brokers: Vec<u32> = match &plan.roster {
            None => plan.first_ids().collect(),
            Some(roster) => roster.left(plan.brokers).collect(),
        };
        // A broker that lost its disk stays out, unless another one has replaced it; with more than three
        // brokers some partitions have nothing on one.
        let are_whole = plan.roster.is_some() || !plan.wipes();
        let has_one = dice.percent(30) && brokers.len() == 3 && are_whole;
        has_one.then(|| Self {
            left: brokers[dice.within(0..3) as usize],
            brokers,
            others_return: dice.percent(50),
            cut_off: dice.percent(50),
        })
    }

    /// Takes the others away, has the one that is left go on, and reads everything once more.
    pub(crate) fn run(
        &self,
        sim: &mut Sim<'_>,
        machines: &mut [Machine],
        stage: &Stage,
    ) -> Result<(), String> {
        stage.trace.at(sim.elapsed(), format_args!("worst day {self:?}"));
        let others =
            |machine: &&mut Machine| machine.id != self.left && self.brokers.contains(&machine.id);
        machines.iter_mut().filter(others).for_each(|machine| machine.kill(sim));
        let lost = self.brokers.iter().copied().filter(|id| *id != self.left);
        let lost: Vec<_> = lost.map(BrokerId).collect();
        sim.client("rescuer", stage.clone().rescue(BrokerId(self.left), lost.clone()));
        until_all_ended(sim)?;
        if self.others_return {
            let left = host(self.left);
            let names = lost.iter().map(|id| host(id.0)).collect::<Vec<_>>();
            if self.cut_off {
                names.iter().for_each(|other| sim.hold(left.as_str(), other.as_str()));
            }
            machines.iter_mut().filter(others).for_each(|machine| machine.start(sim));
            if self.cut_off {
                go_on(sim, CUT_OFF_FOR)?;
                names.iter().for_each(|other| sim.release(left.as_str(), other.as_str()));
            }
            sim.client("auditor", stage.clone().look_again());
            until_all_ended(sim)?;
            for other in &names {
                let told = format!("broker {other} ended: Err(\"broker {} says", self.left);
                if !stage.trace.look(|text| text.contains(&told)) {
                    let what = format!("{other} came back and was not sent away");
                    stage.history.violated("the_lost_stay_out", what);
                }
            }
        }
        Ok(())
    }
}

/// Goes on until all clients have ended.
pub(crate) fn until_all_ended(sim: &mut Sim<'_>) -> Result<(), String> {
    let deadline = sim.elapsed() + ENDS_WITHIN;
    while !sim.step().map_err(|err| err.to_string())? {
        if sim.elapsed() >= deadline {
            return Err(format!("what followed is not over after {ENDS_WITHIN:?}"));
        }
    }
    Ok(())
}

impl Stage {
    /// Has `left` go on without `lost`, writes to every partition, and reads everything.
    async fn rescue(self, left: BrokerId, lost: Vec<BrokerId>) -> Result<(), Failure> {
        let client = self.client("rescuer").await;
        let address = format!("{}:7071", host(left.0));
        match self.recovered(&client.admin(), &address, left, &lost).await {
            Ok(told) => {
                let refused: Vec<_> =
                    told.groups.iter().filter(|group| group.refusal.is_some()).collect();
                if !refused.is_empty() || !told.gone.is_empty() {
                    let what = format!("{refused:?}, gone {:?}", told.gone);
                    self.history.violated("the_last_one_goes_on", what);
                }
            }
            Err(err) => self.history.violated("the_last_one_goes_on", err),
        }
        self.read_once_more(&client).await
    }

    async fn recovered(
        &self,
        admin: &Admin,
        address: &str,
        left: BrokerId,
        lost: &[BrokerId],
    ) -> Result<UnsafeRecovery, String> {
        let deadline = now() + RECOVERS_WITHIN;
        // Until it has missed them.
        while let Err(err) = admin.plan_unsafe_recovery_at(address, left, lost, &[]).await {
            if now() >= deadline {
                return Err(err.to_string());
            }
            sleep(LOOK).await;
        }
        let told = admin.unsafe_recover_at(address, left, lost, &[], RECOVERS_WITHIN).await;
        self.trace.line(format_args!("rescuer recovery: {told:?}"));
        told.map_err(|err| err.to_string())
    }

    /// Those that were lost, or removed, are back.
    pub(crate) async fn look_again(self) -> Result<(), Failure> {
        sleep(BACK_FOR).await;
        let client = self.client("auditor").await;
        self.read_once_more(&client).await
    }

    async fn read_once_more(&self, client: &Client) -> Result<(), Failure> {
        self.write_everywhere(client).await?;
        if self.plan.groups {
            self.committed_in_the_end(client).await;
        }
        self.read_in_the_end(client).await;
        Ok(())
    }
}
