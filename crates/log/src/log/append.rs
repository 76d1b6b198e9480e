//! Taking entries in: into memory, and into the queue of what to flush.

use std::io;
use std::sync::Arc;

use super::Log;
use super::env::Done;
use super::state::{Held, State};
use crate::entry::{Header, NewEntry};
use crate::error::Error;
use crate::frontier::{Frontier, Inspected, Placed};
use crate::segment::Head;

impl Log {
    /// Appends entries: all of them or none. No I/O: they can be read from memory on return.
    ///
    /// `done` is called exactly once, after the fsync that covers them, in the order of appends;
    /// also when they are refused, or the log is poisoned, before this returns.
    pub fn append(&self, entries: Vec<NewEntry>, done: Done) -> Result<Vec<Header>, Error> {
        let mut done = Some(done);
        let appended = self.try_append(entries, &mut done);
        match &appended {
            Ok(_) => self.submit(),
            Err(err) => {
                if let Some(done) = done {
                    done(Err(as_io(err)));
                }
            }
        }
        appended
    }

    /// Calls `done` once everything appended so far is on stable storage.
    pub fn after_flush(&self, done: Done) {
        let poison = {
            let mut state = self.state();
            match &state.poison {
                Some(poison) => Arc::clone(poison),
                None => {
                    state.done.push(done);
                    drop(state);
                    self.submit();
                    return;
                }
            }
        };
        done(Err(poison));
    }

    fn try_append(
        &self,
        entries: Vec<NewEntry>,
        done: &mut Option<Done>,
    ) -> Result<Vec<Header>, Error> {
        // Bodies are looked at before the lock is taken: that is where the work is.
        let bodies = entries.iter().map(|e| self.inspect(e)).collect::<Result<Vec<_>, _>>()?;

        let mut state = self.state();
        if let Some(source) = state.poison.clone() {
            return Err(Error::Poisoned { source });
        }
        let placed = place_all(state.frontier, &entries, &bodies)?;
        let headers = placed.iter().map(|placed| placed.header).collect();
        let mut cost = 0;
        for ((entry, body), placed) in entries.into_iter().zip(bodies).zip(placed) {
            let held = state.hold(entry, body, placed, self.config.segment_bytes);
            cost += held;
        }
        self.config.cache.take(cost);
        state.done.extend(done.take());
        Ok(headers)
    }

    fn inspect(&self, entry: &NewEntry) -> Result<Inspected, Error> {
        let body = Inspected::of(entry)?;
        if body.appended_bytes > self.config.entry_bytes_max {
            return Err(Error::BadBody {
                index: entry.position.index,
                reason: format!(
                    "{} bytes, at most {}",
                    body.appended_bytes, self.config.entry_bytes_max
                ),
            });
        }
        Ok(body)
    }
}

fn place_all(
    mut frontier: Frontier,
    entries: &[NewEntry],
    bodies: &[Inspected],
) -> Result<Vec<Placed>, Error> {
    entries
        .iter()
        .zip(bodies)
        .map(|(entry, body)| {
            let placed = frontier.place(entry, body)?;
            frontier = placed.header.frontier();
            Ok(placed)
        })
        .collect()
}

impl State {
    /// Takes one entry in; returns what it costs. Segments are divided here, not in the flush, so
    /// that apply, which may come first, knows where one begins.
    fn hold(
        &mut self,
        entry: NewEntry,
        body: Inspected,
        placed: Placed,
        segment_bytes: u64,
    ) -> u64 {
        let Placed { header, batches } = placed;
        let bytes = body.table.entry_bytes();
        let is_full = self.rolls || self.fill + bytes > segment_bytes;
        let begins = self.fill > Head::BYTES as u64 && is_full;
        if begins {
            self.rolls = false;
            self.planned.push_back(self.frontier);
            self.fill = Head::BYTES as u64;
        }
        let position = self.fill;
        self.fill += bytes;
        self.frontier = header.frontier();
        let held = Held { header, batches, table: body.table, body: entry.body, position, begins };
        let cost = held.cost();
        self.tail.push_back(held);
        cost
    }
}

fn as_io(err: &Error) -> Arc<io::Error> {
    match err {
        Error::Poisoned { source } => Arc::clone(source),
        err => Arc::new(io::Error::new(io::ErrorKind::InvalidInput, err.clone())),
    }
}
