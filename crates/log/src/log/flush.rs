//! Bringing entries to stable storage.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use smallvec::SmallVec;
use tidelog_types::LogIndex;
use tidelog_types::batch::{CRC_FROM, STAMP_BYTES};
use tidelog_types::canary;

use super::env::Done;
use super::state::Held;
use super::{Log, file_name, lock};
use crate::entry::Kind;
use crate::envelope;
use crate::flusher::FlushJob;
use crate::room::Failure;
use crate::segment::{Head, Segment};

/// The most slices in one vectored write.
const SLICES_MAX: usize = 1024;

impl FlushJob for Log {
    fn flush(&self) {
        // Before anything is taken: what is appended from now on submits again.
        self.queued.store(false, Ordering::Release);
        let _turn = lock(&self.turn);
        // What needs the room most comes first, and what is behind it does not take it away.
        let flushed = self.flush_pending().and_then(|()| self.write_starts());
        match flushed {
            Ok(()) => {
                if std::mem::take(&mut self.state().waits) {
                    self.env.votes.room().leave(&self.as_job());
                }
                self.write_indexes();
            }
            Err(NoRoom) => self.await_room(),
        }
    }
}

/// There is no room on the disk: what could not be written is pending still.
pub(super) struct NoRoom;

impl Log {
    /// Writes and syncs all that is pending, then completes it. Under the flush lock.
    pub(super) fn flush_pending(&self) -> Result<(), NoRoom> {
        let (pending, done, segment, synced_end) = {
            let mut state = self.state();
            let done = std::mem::take(&mut state.done);
            if let Some(poison) = state.poison.clone() {
                drop(state);
                done.into_iter().for_each(|done| done(Err(Arc::clone(&poison))));
                return Ok(());
            }
            let last = Arc::clone(state.last());
            (state.pending(), done, last, state.synced.next_index())
        };

        let wrote = match self.write(&pending, segment, synced_end) {
            Ok(()) => {
                done.into_iter().for_each(|done| done(Ok(())));
                Ok(())
            }
            Err(Failure::Full(err)) => self.put_back(done, err),
            Err(Failure::Final(err)) => {
                let poison = self.poison(err);
                done.into_iter().for_each(|done| done(Err(Arc::clone(&poison))));
                return Ok(());
            }
        };
        drop(pending);
        self.flushed(synced_end);
        wrote
    }

    /// Keeps completions that must wait for room, before those that came meanwhile; or calls them, if
    /// nobody is to wait any more.
    fn put_back(&self, mut done: Vec<Done>, err: io::Error) -> Result<(), NoRoom> {
        let mut state = self.state();
        done.append(&mut state.done);
        state.done = done;
        if !state.ends {
            return Err(NoRoom);
        }
        drop(state);
        self.poison(err);
        Ok(())
    }

    /// Whether a full disk is waited out, as it is unless something else is said. If not, it ends the log
    /// like any other failure, at once where something waits: for a log that is to be closed, or not
    /// shown to anybody yet, whose completions somebody waits for.
    pub fn be_patient(&self, patient: bool) {
        self.state().ends = !patient;
        if !patient {
            self.submit();
        }
    }

    /// Whether something pending has found no room on the disk.
    #[must_use]
    pub fn waits_for_room(&self) -> bool {
        self.state().waits
    }

    /// How many entries are not on stable storage.
    #[must_use]
    pub fn unsynced(&self) -> u64 {
        let state = self.state();
        state.frontier.next_index().0 - state.synced.next_index().0
    }

    pub(super) fn await_room(&self) {
        self.state().waits = true;
        self.env.votes.room().await_by(self.as_job());
    }

    fn as_job(&self) -> Weak<dyn FlushJob> {
        self.me.clone()
    }

    /// What comes after the completions, which should not wait for it, if anything was written behind
    /// `before`.
    fn flushed(&self, before: LogIndex) {
        let (synced_end, listeners) = {
            let state = self.state();
            (state.synced.next_index(), state.listeners.clone())
        };
        if synced_end == before {
            return;
        }
        listeners.iter().for_each(|listener| listener());
        self.env.votes.raise_mark(self.group, synced_end);
        self.config.cache.flushed(self.me.clone(), synced_end);
    }

    /// Writes the index points of segments that were closed. Under the flush lock. Those that find no room
    /// are tried again with the next flush, and nobody waits for them: they are a short cut.
    fn write_indexes(&self) {
        loop {
            // A statement of its own: the lock must not be held while the file is written.
            let next = self.state().next_unindexed();
            let Some(segment) = next else { return };
            // Purged, compacted or cut meanwhile, and taking entries again.
            if !self.holds(&segment) || self.state().is_last(&segment) {
                continue;
            }
            match segment.write_index() {
                Ok(()) => self.touch(&segment),
                Err(Failure::Full(_)) => {
                    self.state().unindexed.push_front(segment);
                    return;
                }
                Err(Failure::Final(err)) => {
                    self.poison(err);
                    return;
                }
            }
        }
    }

    /// Writes entries, segment by segment: each is synced before the next one is begun, so that
    /// nothing in a new segment is ever completed before all of the old one is safe.
    fn write(
        &self,
        mut pending: &[Held],
        mut segment: Arc<Segment>,
        mut synced_end: LogIndex,
    ) -> Result<(), Failure> {
        while let Some(first) = pending.first() {
            // Its file may be there already, from a try that found no room for what is in it.
            if first.begins && segment.first_index() != first.header.position.index {
                let new = self.roll()?;
                segment.close();
                segment = new;
            }
            let run =
                pending[1..].iter().position(|held| held.begins).map_or(pending.len(), |n| n + 1);
            let (now, later) = pending.split_at(run);
            self.write_run(now, &segment, synced_end)?;
            synced_end = now[now.len() - 1].header.position.index.next();
            pending = later;
        }
        Ok(())
    }

    /// Makes the file of the next planned segment.
    fn roll(&self) -> Result<Arc<Segment>, Failure> {
        let frontier =
            *self.state().planned.front().expect("an entry that begins a segment planned it");
        let generation = (self.env.generations)();
        let path = self.dir.join(file_name(frontier.next_index(), "log"));
        let head = Head { group: self.group, generation, frontier };
        let segment = Arc::new(Segment::create(&self.env.disk, path, head)?);
        self.env.votes.stats().count(Head::BYTES as u64);
        let mut state = self.state();
        state.planned.pop_front();
        let closed = Arc::clone(state.last());
        state.unindexed.push_back(closed);
        state.segments.push_back(Arc::clone(&segment));
        Ok(segment)
    }

    /// Writes and syncs entries of one segment.
    fn write_run(
        &self,
        run: &[Held],
        segment: &Segment,
        synced_end: LogIndex,
    ) -> Result<(), Failure> {
        let file = segment.writer()?;
        let start = segment.end();
        let encoded = Encoded::of(run, start, segment.head.generation, synced_end);
        match encoded.write(&*file, start).map_err(Failure::of_write) {
            Err(Failure::Full(_)) if canary!(FullDiskAcked) => {}
            Err(full @ Failure::Full(_)) => {
                // What got in takes room that something else may need more.
                file.set_len(start)?;
                return Err(full);
            }
            written => written?,
        }
        if !canary!(AckBeforeFsync) {
            file.sync_data()?;
        }
        self.env.votes.stats().count(encoded.bytes);

        let last = &run[run.len() - 1];
        let points = run.iter().map(|held| (&held.header, held.max_timestamp(), held.position));
        segment.extend(points, self.config.index_every_bytes, start + encoded.bytes);
        self.state().synced = last.header.frontier();
        Ok(())
    }
}

/// Entries as slices to write: our own bytes in one arena, bodies where they lie.
pub(super) struct Encoded {
    arena: Vec<u8>,
    pieces: Vec<Piece>,
    bytes: u64,
}

enum Piece {
    Ours(Range<usize>),
    Body(Bytes),
}

impl Encoded {
    pub(super) fn of(run: &[Held], start: u64, generation: u64, synced_end: LogIndex) -> Self {
        let mut encoded =
            Self { arena: Vec::with_capacity(run.len() * 128), pieces: Vec::new(), bytes: 0 };
        for held in run {
            assert_eq!(
                held.position,
                start + encoded.bytes,
                "an entry is written where it was planned"
            );
            encoded.push(held, generation, synced_end);
        }
        encoded
    }

    fn push(&mut self, held: &Held, generation: u64, synced_end: LogIndex) {
        let header = &held.header;
        let from = self.arena.len();
        envelope::encode(header, &held.table, &mut self.arena);
        let heads: SmallVec<[[u8; CRC_FROM]; 1]> = held
            .batches
            .iter()
            .zip(&held.body)
            .map(|(info, part)| {
                envelope::stamped_head(part, info.base_offset, header.position.term)
            })
            .collect();
        let sealed = heads.iter().map(|head| head.as_slice());
        envelope::seal(&mut self.arena[from..], synced_end, sealed, generation);

        let mut ours = from;
        for (n, part) in held.body.iter().enumerate() {
            let rest = match header.kind {
                Kind::Records => {
                    self.arena.extend_from_slice(&heads[n][..STAMP_BYTES]);
                    part.slice(STAMP_BYTES..)
                }
                _ => part.clone(),
            };
            self.pieces.push(Piece::Ours(ours..self.arena.len()));
            self.pieces.push(Piece::Body(rest));
            ours = self.arena.len();
        }
        let bytes = held.table.entry_bytes();
        let unpadded = held.table.envelope_bytes() + held.table.body_bytes() as usize;
        self.arena.resize(self.arena.len() + bytes as usize - unpadded, 0);
        self.pieces.push(Piece::Ours(ours..self.arena.len()));
        self.bytes += bytes;
    }

    pub(super) fn write(&self, file: &dyn crate::disk::File, start: u64) -> io::Result<()> {
        let slices: Vec<IoSlice<'_>> = self
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Ours(range) => IoSlice::new(&self.arena[range.clone()]),
                Piece::Body(bytes) => IoSlice::new(bytes),
            })
            .filter(|slice| !slice.is_empty())
            .collect();
        let mut position = start;
        for slices in slices.chunks(SLICES_MAX) {
            file.write_at(slices, position)?;
            position += slices.iter().map(|slice| slice.len() as u64).sum::<u64>();
        }
        assert_eq!(position, start + self.bytes, "what was planned is what was written");
        Ok(())
    }
}
