//! What goes wrong, and how it is made to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tidelog_log::sim::{Action, CrashPlan, Fault as DiskFault};
use tidelog_types::BrokerId;
use turmoil::Sim;

use crate::cluster::{Machine, host};
use crate::dice::Dice;
use crate::observer::Observer;
use crate::rot;
use crate::trace::Trace;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The process dies, the machine goes on: nothing that was written is lost.
    Kill,
    /// The machine loses power: what was not synced is lost, torn or kept, each by chance.
    PowerLoss,
    /// The same, in the middle of what the disk is asked to do.
    PowerLossAtOperation,
    /// All machines lose power at once.
    PowerLossOfAll,
    /// Nothing passes between the broker and the others; what was sent arrives when it is over.
    Cut,
    /// Nothing passes between any two brokers.
    CutAll,
    /// What the broker sends to another is lost; the other direction works.
    CutOneWay,
    /// Nothing passes between the broker and the clients.
    CutFromClients,
    /// Flushes take long.
    SlowDisk,
    /// Some flushes hang, so that one file after the other is stuck; then they go on, or the machine
    /// loses power.
    HungDisk,
    /// Some calls of the disk fail.
    DiskErrors,
    /// The disk is full, then has space again.
    FullDisk,
    /// The clock jumps, forwards or back, and stays so.
    ClockJump,
    /// Leaderships are handed over again and again.
    TransferStorm,
    /// Replicas of the topic move from broker to broker again and again.
    Moves,
    /// The disk is replaced by an empty one: the broker must stay out for good.
    Wipe,
    /// The machine loses power, and a bit of a record that was safe on it flips meanwhile: that replica
    /// must find out, and stay out until it is whole again.
    Rot,
}

impl Kind {
    /// The kinds that last: one at most in a run, for the cluster bears the loss of one copy.
    pub(crate) const LASTING: [Self; 2] = [Self::Wipe, Self::Rot];

    /// Every other kind, but moves: those need brokers to move to.
    pub(crate) const ALL: [Self; 14] = [
        Self::Kill,
        Self::PowerLoss,
        Self::PowerLossAtOperation,
        Self::PowerLossOfAll,
        Self::Cut,
        Self::CutAll,
        Self::CutOneWay,
        Self::CutFromClients,
        Self::SlowDisk,
        Self::HungDisk,
        Self::DiskErrors,
        Self::FullDisk,
        Self::ClockJump,
        Self::TransferStorm,
    ];

    /// Whether it befalls one broker.
    const fn is_of_one(self) -> bool {
        !matches!(self, Self::PowerLossOfAll | Self::CutAll | Self::TransferStorm | Self::Moves)
    }
}

/// One fault of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// When it begins.
    pub(crate) at: Duration,
    /// How long it lasts.
    pub(crate) lasts: Duration,
    /// What it is.
    pub(crate) kind: Kind,
    /// Where.
    pub(crate) broker: u32,
    /// Rather where this group is led when it begins, groups counted round and round.
    pub(crate) aim: Option<u64>,
    /// The other end of a connection.
    pub(crate) other: u32,
    /// What it draws from.
    pub(crate) dice: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, lasts, kind, broker, aim, other, .. } = self;
        let aimed = if aim.is_some() { " or a leader" } else { "" };
        write!(f, "{at:?} {kind:?} of broker {broker}{aimed} (other {other}) for {lasts:?}")
    }
}

/// Carries the faults of a plan out, between the steps of a simulation.
pub(crate) struct Injector {
    faults: Vec<Fault>,
    next: usize,
    /// What ends when: at a time, and in the order in which it began.
    ends: BTreeMap<(Duration, usize), Fault>,
    /// How often each kind was carried out.
    pub(crate) fired: BTreeMap<Kind, u32>,
    clients: Vec<String>,
    trace: Trace,
}

impl Injector {
    /// Nothing has happened yet.
    pub(crate) fn new(faults: Vec<Fault>, clients: Vec<String>, trace: Trace) -> Self {
        let (ends, fired) = (BTreeMap::new(), BTreeMap::new());
        Self { faults, next: 0, ends, fired, clients, trace }
    }

    /// Begins and ends what is due at `now`.
    pub(crate) fn step(
        &mut self,
        now: Duration,
        sim: &mut Sim<'_>,
        machines: &mut [Machine],
        observer: &mut Observer,
    ) {
        // First: where power is back a moment after the operation, its process must be gone all the same.
        take_down_the_dead(now, sim, machines);
        while let Some(entry) = self.ends.first_entry().filter(|entry| entry.key().0 <= now) {
            let fault = entry.remove();
            self.trace.at(now, format_args!("fault over {fault}"));
            end(&fault, sim, machines, &self.clients);
        }
        while let Some(fault) = self.faults.get(self.next).filter(|fault| fault.at <= now) {
            let mut fault = fault.clone();
            self.next += 1;
            if let Some(BrokerId(leader)) = fault.aim.and_then(|aim| observer.leader(aim)) {
                // Both ends of a connection are never the same.
                fault.other = if fault.other == leader { fault.broker } else { fault.other };
                fault.broker = leader;
            }
            if begin(&fault, sim, machines, &self.clients, observer) {
                self.trace.at(now, format_args!("fault begins {fault}"));
                *self.fired.entry(fault.kind).or_default() += 1;
                self.ends.insert((now + fault.lasts, self.next), fault);
            }
        }
    }

    /// Ends everything, and brings every broker back that is down or that gave up.
    pub(crate) fn heal(&mut self, now: Duration, sim: &mut Sim<'_>, machines: &mut [Machine]) {
        self.trace.at(now, format_args!("healed"));
        self.next = self.faults.len();
        take_down_the_dead(now, sim, machines);
        for fault in std::mem::take(&mut self.ends).into_values() {
            end(&fault, sim, machines, &self.clients);
        }
        for machine in machines.iter_mut() {
            machine.disk.heal();
            // A replica that stopped at an error of its disk stays out until its process restarts.
            if machine.hurt || machine.has_given_up() {
                machine.restart(sim);
            }
            machine.start(sim);
        }
    }
}

/// Disks that lost power in the middle of an operation take their process with them.
fn take_down_the_dead(now: Duration, sim: &mut Sim<'_>, machines: &mut [Machine]) {
    for machine in machines.iter_mut().filter(|machine| machine.disk.died()) {
        machine.lose_power(sim, CrashPlan::Random(now.as_micros() as u64));
    }
}

/// Each two of `all`, once.
fn pairs(all: &[String]) -> impl Iterator<Item = (&str, &str)> {
    let from =
        move |n: usize| all[n + 1..].iter().map(move |other| (all[n].as_str(), other.as_str()));
    (0..all.len()).flat_map(from)
}

/// Whether it could begin: a broker that is down cannot be killed.
fn begin(
    fault: &Fault,
    sim: &mut Sim<'_>,
    machines: &mut [Machine],
    clients: &[String],
    observer: &mut Observer,
) -> bool {
    let mut dice = Dice::new(fault.dice, "fault");
    let all: Vec<String> = machines.iter().map(|machine| host(machine.id)).collect();
    let name = host(fault.broker);
    let others = || all.iter().filter(|other| **other != name);
    let machine = &mut machines[fault.broker as usize - 1];
    if !machine.is_there && fault.kind.is_of_one() {
        return false;
    }
    match fault.kind {
        Kind::Kill if machine.runs => machine.kill(sim),
        Kind::PowerLoss if machine.runs => {
            machine.lose_power(sim, CrashPlan::Random(fault.dice));
        }
        Kind::PowerLossAtOperation if machine.runs => {
            machine.disk.die_after(dice.within(1..60));
        }
        Kind::PowerLossOfAll => {
            for machine in machines.iter_mut().filter(|machine| machine.runs) {
                let plan = CrashPlan::Random(fault.dice ^ u64::from(machine.id));
                machine.lose_power(sim, plan);
            }
        }
        Kind::Kill | Kind::PowerLoss | Kind::PowerLossAtOperation => return false,
        Kind::Cut => others().for_each(|other| sim.hold(name.as_str(), other.as_str())),
        Kind::CutAll => pairs(&all).for_each(|(one, other)| sim.hold(one, other)),
        Kind::CutOneWay => sim.partition_oneway(name, host(fault.other)),
        Kind::CutFromClients => {
            for client in clients {
                sim.hold(name.as_str(), client.as_str());
            }
        }
        Kind::SlowDisk => machine.flusher.slow(dice.ms(20..1_500)),
        Kind::HungDisk => machine.flusher.hang(dice.within(5..60)),
        Kind::DiskErrors => {
            let action = dice.pick(&[Action::Write, Action::Sync, Action::Read, Action::Open]);
            let path = dice.pick(&[".log", "votes.log", ""]).to_owned();
            machine.disk.fail(DiskFault { action, path, after: dice.within(0..30), times: 1 });
            machine.hurt = true;
        }
        Kind::FullDisk => {
            machine.disk.fill(dice.within(0..20_000));
        }
        Kind::ClockJump => machine.clock.jump(dice.within(0..600_000) as i64 - 300_000),
        Kind::TransferStorm => machine.storms.transfers.begin(),
        Kind::Moves => machine.storms.moves.begin(),
        Kind::Wipe => {
            observer.wipes(fault.broker);
            machine.lose_disk(sim);
        }
        Kind::Rot => {
            machine.lose_power(sim, CrashPlan::Random(fault.dice));
            let Some(group) = rot::flip(&machine.disk, &mut dice) else {
                machine.start(sim);
                return false;
            };
            observer.rotted(fault.broker, group);
        }
    }
    true
}

fn end(fault: &Fault, sim: &mut Sim<'_>, machines: &mut [Machine], clients: &[String]) {
    let all: Vec<String> = machines.iter().map(|machine| host(machine.id)).collect();
    let name = host(fault.broker);
    let machine = &mut machines[fault.broker as usize - 1];
    match fault.kind {
        Kind::Kill | Kind::PowerLoss | Kind::Wipe | Kind::Rot => machine.start(sim),
        Kind::PowerLossAtOperation => {
            // It may not have come to the operation yet.
            machine.disk.live_on();
            machine.start(sim);
        }
        Kind::PowerLossOfAll => machines.iter_mut().for_each(|machine| machine.start(sim)),
        Kind::Cut => {
            for other in all.iter().filter(|other| **other != name) {
                sim.release(name.as_str(), other.as_str());
            }
        }
        Kind::CutAll => pairs(&all).for_each(|(one, other)| sim.release(one, other)),
        Kind::CutOneWay => sim.repair_oneway(name, host(fault.other)),
        Kind::CutFromClients => {
            for client in clients {
                sim.release(name.as_str(), client.as_str());
            }
        }
        Kind::SlowDisk => machine.flusher.slow(Duration::ZERO),
        Kind::HungDisk => {
            if machine.runs && fault.dice.is_multiple_of(2) {
                machine.lose_power(sim, CrashPlan::Random(fault.dice));
                machine.start(sim);
            }
            machine.flusher.hang(0);
        }
        Kind::DiskErrors => {
            machine.disk.heal();
            machine.restart(sim);
        }
        Kind::FullDisk => {
            machine.disk.heal();
            // Who was running goes on by itself; who was to start may not have been able to.
            if machine.has_given_up() {
                machine.restart(sim);
            }
        }
        Kind::ClockJump => {}
        Kind::TransferStorm => machine.storms.transfers.end(),
        Kind::Moves => machine.storms.moves.end(),
    }
}
