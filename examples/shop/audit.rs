//! Compares what was ordered with what each service did.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;

use crate::journal::{self, Entry};
use crate::process::Launcher;
use crate::services::{INITIAL_STOCK, Kind};

/// What one service did.
#[derive(Debug)]
struct Done {
    service: &'static str,
    /// Orders that it saw, each counted once.
    seen: usize,
    /// Orders that it never saw.
    missed: usize,
    /// Events that it applied more than once, or that nobody ordered.
    wrong: usize,
    /// Events that came again and were left alone.
    replays: usize,
}

/// What came of it all.
#[derive(Debug)]
pub(crate) struct Audit {
    orders: usize,
    products: usize,
    done: Vec<Done>,
    stock: i64,
    stock_expected: i64,
    /// Products whose stock is not what their orders leave.
    wrong_products: usize,
}

impl Audit {
    /// Reads the journals of services that have ended.
    pub(crate) fn read(launcher: &Launcher, consumers: &[Kind]) -> io::Result<Self> {
        let orders = journal::read(&launcher.journal(Kind::Order))?;
        let ordered: HashSet<&str> = orders.iter().map(|order| &*order.event_id).collect();
        let mut expected: BTreeMap<&str, i64> = BTreeMap::new();
        for order in &orders {
            let product = order.product_id.as_deref().unwrap_or_default();
            let stock = expected.entry(product).or_insert(INITIAL_STOCK);
            *stock -= order.quantity.unwrap_or_default();
        }
        let mut done = Vec::new();
        for kind in consumers {
            let entries = journal::read(&launcher.journal(*kind))?;
            done.push(Done::of(kind.name(), &entries, &ordered));
        }
        let inventory = journal::read(&launcher.journal(Kind::Inventory))?;
        let mut stock: BTreeMap<&str, i64> = BTreeMap::new();
        for entry in &inventory {
            if let (Some(product), Some(left)) = (&entry.product_id, entry.stock) {
                stock.insert(product, left);
            }
        }
        let is_wrong = |(product, left): &(&&str, &i64)| stock.get(**product) != Some(*left);
        Ok(Self {
            orders: orders.len(),
            products: expected.len(),
            done,
            stock: stock.values().sum(),
            stock_expected: expected.values().sum(),
            wrong_products: expected.iter().filter(is_wrong).count(),
        })
    }

    /// Whether every service did its work for every order, once.
    pub(crate) fn holds(&self) -> bool {
        let right = |done: &Done| done.missed == 0 && done.wrong == 0 && done.seen == self.orders;
        self.orders > 0
            && self.done.iter().all(right)
            && self.wrong_products == 0
            && self.stock == self.stock_expected
    }
}

impl Done {
    fn of(service: &'static str, entries: &[Entry], ordered: &HashSet<&str>) -> Self {
        let mut seen = HashSet::new();
        let (mut wrong, mut replays) = (0, 0);
        for entry in entries {
            if entry.replay {
                replays += 1;
            } else if !ordered.contains(&*entry.event_id) || !seen.insert(&*entry.event_id) {
                wrong += 1;
            }
        }
        let missed = ordered.iter().filter(|id| !seen.contains(*id)).count();
        Self { service, seen: seen.len(), missed, wrong, replays }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { orders, products, stock, stock_expected, .. } = self;
        writeln!(f, "{orders} orders of {products} products")?;
        writeln!(f, "{:<14}{:>8}{:>8}{:>8}{:>9}", "service", "seen", "missed", "wrong", "replays")?;
        for done in &self.done {
            let Done { service, seen, missed, wrong, replays } = done;
            writeln!(f, "{service:<14}{seen:>8}{missed:>8}{wrong:>8}{replays:>9}")?;
        }
        let full = INITIAL_STOCK * *products as i64;
        writeln!(
            f,
            "stock {stock}, expected {stock_expected} = {full} - {}",
            full - stock_expected
        )?;
        let verdict = if self.holds() { "holds" } else { "FAILS" };
        write!(f, "The audit {verdict}: each service does its work for each order once.")
    }
}
