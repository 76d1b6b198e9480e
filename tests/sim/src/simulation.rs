//! One run: load under faults, then everything healed, and the verdict.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use turmoil::Sim;

use crate::cluster::{Machine, Storms};
use crate::faults::{Injector, Kind};
use crate::figures::Figures;
use crate::history::{Changes, Shared, Violation};
use crate::invariants::{self, replicas_agree, rot_is_found};
use crate::observer::Observer;
use crate::plan::Plan;
use crate::recovering::WorstDay;
use crate::trace::Trace;
use crate::workload::Stage;

/// Beyond the end of the load a run hangs.
const OVERTIME_MAX: Duration = Duration::from_secs(180);

/// How long replicas may take to agree once nothing is written any more.
const AGREE_WITHIN: Duration = Duration::from_secs(60);

/// How often they are compared.
const COMPARE_EVERY: Duration = Duration::from_secs(1);

/// A seed that acked less proves nothing.
const ACKED_MIN: usize = 1_000;

/// A seed with fewer faults proves nothing.
const FAULTS_MIN: u32 = 3;

/// What a run did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    acked: usize,
    read: usize,
    fired: BTreeMap<Kind, u32>,
    /// How brokers came and went, and how many should.
    changes: Changes,
    to_join: usize,
    to_leave: usize,
    /// How often a majority was lost for good.
    worst_days: u64,
    simulated: Duration,
}

impl Report {
    /// Why the run proves nothing, if it does not.
    pub(crate) fn void(&self) -> Option<String> {
        let fired: u32 = self.fired.values().sum();
        let why = |few: bool, what: &str| few.then(|| format!("too few {what}"));
        why(self.acked < ACKED_MIN, "acks").or_else(|| why(fired < FAULTS_MIN, "faults"))
    }
}

impl Report {
    /// The same, to be added up over many runs.
    pub(crate) fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        figures.count("records acked", self.acked as u64);
        figures.count("records read", self.read as u64);
        figures.count("simulated ms", self.simulated.as_millis() as u64);
        figures.count("majorities lost for good", self.worst_days);
        for (what, count) in [
            ("brokers to join", self.to_join),
            ("brokers joined", self.changes.joined.len()),
            ("brokers to leave", self.to_leave),
            ("brokers drained", self.changes.drained.len()),
            ("brokers removed", self.changes.removed.len()),
            ("drains called off", self.changes.called_off as usize),
        ] {
            figures.count(what, count as u64);
        }
        for (kind, times) in &self.fired {
            figures.count(format!("fault {kind:?}"), u64::from(*times));
        }
        figures
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acked, read, fired, changes, to_join, to_leave, worst_days, simulated } = self;
        write!(f, "{acked} acked, {read} read, faults {fired:?}")?;
        if to_join + to_leave > 0 {
            let Changes { joined, called_off, drained, removed } = changes;
            let (joined, drained, removed) = (joined.len(), drained.len(), removed.len());
            write!(f, ", {joined} of {to_join} brokers joined, {drained} of {to_leave} drained")?;
            write!(f, " ({called_off} times called off), {removed} removed")?;
        }
        let day = if *worst_days > 0 { " and the worst day" } else { "" };
        write!(f, "{day} in {simulated:?}")
    }
}

/// What a run showed.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// What was broken.
    pub(crate) violations: Vec<Violation>,
    /// What was done.
    pub(crate) report: Report,
}

/// Runs `plan`; what clients see goes into `history`.
pub(crate) fn run(plan: &Plan, trace: &Trace, history: &Shared) -> Verdict {
    trace.at(Duration::ZERO, format_args!("plan {plan}"));
    let mut sim = turmoil::Builder::new()
        .rng_seed(plan.seed)
        .simulation_duration(plan.end + OVERTIME_MAX)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(plan.latency_ms_max))
        .tcp_capacity(4096)
        .build();
    let storms = Storms::default();
    let mut machines = Machine::all(plan, &mut sim, &storms, trace);
    let stage = Stage {
        plan: Arc::new(plan.clone()),
        history: history.clone(),
        disks: Arc::new(machines.iter().map(|machine| machine.disk.clone()).collect()),
        storms,
        trace: trace.clone(),
        open: Arc::default(),
        done: Arc::default(),
    };
    let clients = add_clients(&stage, &mut sim);
    let mut injector = Injector::new(plan.faults.clone(), clients, trace.clone());
    let disks = stage.disks.to_vec();
    let mut observer = Observer::new(trace.clone(), stage.history.clone(), disks);
    let worst_day = WorstDay::of(plan);
    let hung = |err| ("clients_come_to_an_end", err);
    let mut held =
        run_load(&stage, &mut sim, &mut machines, &mut injector, &mut observer).map_err(hung);
    held = held.and_then(|()| settle(&mut sim, &stage).map_err(|err| ("replicas_agree", err)));
    if let (Ok(()), Some(roster)) = (&held, &plan.roster) {
        held = roster.turn_away(&mut sim, &mut machines, &stage).map_err(hung);
    }
    let comes = held.is_ok() && worst_day.is_some();
    if let (Ok(()), Some(day)) = (&held, worst_day) {
        held = day.run(&mut sim, &mut machines, &stage).map_err(hung);
    }
    if let Err((invariant, what)) = held {
        stage.history.violated(invariant, what);
    }
    let found = trace.look(|text| rot_is_found::check(observer.rotten(), text));
    stage.history.note("rot_is_found", found);
    let history = stage.history.lock();
    let report = Report {
        acked: history.acks.len(),
        read: history.end.as_ref().map_or(0, BTreeMap::len),
        fired: injector.fired,
        changes: history.changes.clone(),
        to_join: plan.roster.as_ref().map_or(0, |roster| roster.joins.len()),
        to_leave: plan.roster.as_ref().map_or(0, |roster| roster.leaves.len()),
        worst_days: u64::from(comes),
        simulated: sim.elapsed(),
    };
    Verdict { violations: invariants::check(&history, trace), report }
}

/// Adds the clients and gives their names.
fn add_clients(stage: &Stage, sim: &mut Sim<'_>) -> Vec<String> {
    sim.client("operator", stage.clone().operate());
    sim.client("reader", stage.clone().read());
    sim.client("glancer", stage.clone().glance());
    let mut names: Vec<_> = ["operator", "reader", "glancer"].map(str::to_owned).into();
    if let Some(roster) = &stage.plan.roster {
        sim.client("steward", stage.clone().change_brokers(roster.clone()));
        names.push("steward".to_owned());
    }
    for number in 1..=stage.plan.producers {
        let name = format!("producer-{number}");
        sim.client(name.as_str(), stage.clone().produce(number));
        names.push(name);
    }
    if stage.plan.groups {
        for number in 1..=2 {
            let (register, worker) = (format!("register-{number}"), format!("worker-{number}"));
            sim.client(register.as_str(), stage.clone().use_register(number));
            sim.client(worker.as_str(), stage.clone().work(number));
            names.extend([register, worker]);
        }
    }
    if stage.plan.views {
        sim.client("view-writer", stage.clone().write_views());
        sim.client("view-reader", stage.clone().read_views());
        names.extend(["view-writer", "view-reader"].map(str::to_owned));
    }
    names
}

fn run_load(
    stage: &Stage,
    sim: &mut Sim<'_>,
    machines: &mut [Machine],
    injector: &mut Injector,
    observer: &mut Observer,
) -> Result<(), String> {
    let plan = &stage.plan;
    let mut healed = false;
    loop {
        let now = sim.elapsed();
        observer.step(now);
        if !healed && now < plan.heal {
            injector.step(now, sim, machines, observer);
        } else if !healed {
            injector.heal(now, sim, machines);
            healed = true;
        }
        if let Some(roster) = &plan.roster {
            roster.step(now, sim, machines, stage);
        }
        if sim.step().map_err(|err| err.to_string())? {
            return Ok(());
        }
    }
}

/// Goes on for some time, whoever ends meanwhile.
pub(crate) fn go_on(sim: &mut Sim<'_>, time: Duration) -> Result<(), String> {
    let until = sim.elapsed() + time;
    while sim.elapsed() < until {
        sim.step().map_err(|err| err.to_string())?;
    }
    Ok(())
}

/// Goes on until the replicas agree.
fn settle(sim: &mut Sim<'_>, stage: &Stage) -> Result<(), String> {
    let deadline = sim.elapsed() + AGREE_WITHIN;
    let disks = stage.disks_left();
    loop {
        go_on(sim, COMPARE_EVERY)?;
        match replicas_agree::check(&disks) {
            Ok(()) => return Ok(()),
            Err(_) if sim.elapsed() < deadline => {}
            Err(what) => return Err(what),
        }
    }
}
