//! Opening a log after a restart: telling torn from corrupt.
//!
//! The entries from the newest start point on are read and checked. One that is bad is either *torn*
//! (it was being written when the power went; nobody was told that it is safe; it is cut) or
//! *corrupt* (it was safe and is not any more: the replica must be quarantined, never truncated).
//! An entry at index `i` is corrupt
//! - in a segment that is not the last: the next one was begun after all of it was synced;
//! - if `i` lies below the durable mark in the votes;
//! - if behind it lies an entry of this file (same generation, higher index) that says that
//!   everything up to and with `i` was synced when it was written.
//!
//! Otherwise it is torn. That valid entries merely *lie* behind it proves nothing: one flush writes
//! many entries with one fsync, and a power cut may keep the last sectors and lose the first.
//! Damage to what the very last flush wrote, before the mark was raised over it, is taken for torn:
//! nothing on this disk can tell the two apart.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tidelog_types::{GroupId, LogIndex, canary};

use super::compacted::Compacted;
use super::create::finish_switch;
use super::env::{Config, Env, Opened};
use super::rewrite::REWRITTEN;
use super::salvage::UNFINISHED;
use super::state::State;
use super::{Log, directory, file_name};
use crate::disk::{self, Open};
use crate::entry::Kind;
use crate::envelope::Flaw;
use crate::error::OpenError;
use crate::frontier::Frontier;
use crate::room::Failure;
use crate::segment::{self, Head, HeadError, Index, ScanError, Scanner, Segment};
use crate::start::{MalformedStart, StartPoint};

/// How much of a segment is read at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

impl Log {
    /// Opens the log of a group after a restart: recovers it, cuts a torn tail. Blocks.
    ///
    /// What it finds is on stable storage when it returns, even if the process before us was killed
    /// between a write and its fsync.
    pub fn open(env: Env, group: GroupId, config: Config) -> Result<Opened, OpenError> {
        let unfinished = directory(&env.data, group).join(UNFINISHED);
        let is_unfinished = env.disk.exists(&unfinished);
        if is_unfinished.map_err(OpenError::io("look for", unfinished))? {
            return Err(OpenError::Unfinished { group });
        }
        let mark = env.votes.get(group).map_or(LogIndex::ZERO, |record| record.mark);
        Self::recover(env, group, config, mark)
    }

    /// Opens the log; entries below `mark` were on stable storage.
    pub(super) fn recover(
        env: Env,
        group: GroupId,
        config: Config,
        mark: LogIndex,
    ) -> Result<Opened, OpenError> {
        let dir = directory(&env.data, group);
        if env.votes.get(group).is_none_or(|record| record.deleted) {
            return Err(OpenError::Missing { group, reason: "it has no vote record" });
        }
        // A creation that found no room for its vote record must not be finished without it.
        let noted = env.votes.settle_pending(group);
        noted.map_err(OpenError::failed("write vote record of", dir.clone()))?;
        if !finish_switch(&env, group).map_err(OpenError::io("open", dir.clone()))? {
            return Err(OpenError::Missing { group, reason: "it has no directory" });
        }
        let mut recovery = Recovery {
            env: &env,
            group,
            config: &config,
            dir,
            mark,
            torn_bytes: 0,
            starts_ignored: Vec::new(),
        };
        let state = recovery.run()?;
        let Recovery { torn_bytes, starts_ignored, .. } = recovery;
        env.votes.raise_mark(group, state.synced.next_index());
        Ok(Opened { log: Self::new(env, group, config, state), torn_bytes, starts_ignored })
    }
}

struct Recovery<'a> {
    env: &'a Env,
    group: GroupId,
    config: &'a Config,
    dir: PathBuf,
    mark: LogIndex,
    torn_bytes: u64,
    starts_ignored: Vec<LogIndex>,
}

/// The files of a log, by first index.
#[derive(Default)]
struct Names {
    logs: BTreeSet<LogIndex>,
    starts: BTreeSet<LogIndex>,
    indexes: BTreeSet<LogIndex>,
}

impl Recovery<'_> {
    fn run(&mut self) -> Result<State, OpenError> {
        let mut names = self.names()?;
        let segments = self.segments(&mut names)?;
        self.sweep(&names, segments[0].first_index())?;
        let base = self.load_starts(&names, &segments)?;
        let synced = self.scan(&segments, base)?;
        if synced.next_index() < self.mark && !canary!(CorruptTakenForTorn) {
            let last = &segments[segments.len() - 1];
            let reason = format!("ends, but entries below {} were on stable storage", self.mark);
            return Err(self.corrupt(last, last.end(), Some(synced.next_index()), reason));
        }
        self.env.disk.sync_dir(&self.dir).map_err(self.io("sync directory", &self.dir))?;
        let mut state = State::new(segments, synced);
        let compacted = Compacted::load(&*self.env.disk, &self.dir);
        state.compacted = compacted.map_err(self.io("read", &self.dir))?;
        Ok(state)
    }

    fn names(&self) -> Result<Names, OpenError> {
        let mut names = Names::default();
        let disk = &*self.env.disk;
        for name in disk.list(&self.dir).map_err(self.io("list", &self.dir))? {
            let path = self.dir.join(&name);
            let Some((stem, extension)) = name.rsplit_once('.') else { continue };
            if extension == REWRITTEN {
                disk.remove_file(&path).map_err(self.io("remove", &path))?;
                continue;
            }
            let Ok(index) = stem.parse().map(LogIndex) else { continue };
            match extension {
                "log" => names.logs.insert(index),
                "start" => names.starts.insert(index),
                "idx" => names.indexes.insert(index),
                "tmp" => {
                    disk.remove_file(&path).map_err(self.io("remove", &path))?;
                    continue;
                }
                _ => continue,
            };
        }
        Ok(names)
    }

    /// Opens the segments, oldest first. The last may be one whose making was cut short.
    fn segments(&self, names: &mut Names) -> Result<VecDeque<Arc<Segment>>, OpenError> {
        let mut segments = VecDeque::with_capacity(names.logs.len());
        for index in names.logs.clone() {
            let is_last = names.logs.last() == Some(&index);
            match self.segment(index, is_last)? {
                Some(segment) => segments.push_back(Arc::new(segment)),
                // Its head is written and synced before any entry, so none was in it.
                None if is_last && names.logs.len() > 1 && index >= self.mark => {
                    let path = self.dir.join(file_name(index, "log"));
                    self.env.disk.remove_file(&path).map_err(self.io("remove", &path))?;
                    names.logs.remove(&index);
                }
                None => return Err(self.bad_head(index, "no whole segment head".to_owned())),
            }
        }
        if segments.is_empty() {
            return Err(OpenError::Missing { group: self.group, reason: "it has no segment" });
        }
        // One may have been removed: then the one before takes entries again.
        let last = &segments[segments.len() - 1];
        last.writer().map_err(self.io("open", &last.path))?;
        Ok(segments)
    }

    /// Opens one segment; `None` when not even a whole head was ever written.
    fn segment(&self, index: LogIndex, is_last: bool) -> Result<Option<Segment>, OpenError> {
        let disk = &self.env.disk;
        let path = self.dir.join(file_name(index, "log"));
        let file = disk.open(&path, if is_last { Open::Write } else { Open::Read });
        let file = file.map_err(self.io("open", &path))?;
        let bytes = file.len().map_err(self.io("open", &path))?;
        let mut head = [0; Head::BYTES];
        let read = file.read_at(&mut head, 0).map_err(self.io("read", &path))?;
        let head = match Head::decode(&head[..read]) {
            Ok(head) => head,
            Err(HeadError::NewerFormat(format)) => {
                return Err(OpenError::NewerFormat { path, format, supported: Head::FORMAT });
            }
            Err(HeadError::Bad(_)) if bytes <= Head::BYTES as u64 => return Ok(None),
            Err(HeadError::Bad(reason)) => return Err(self.bad_head(index, reason.to_owned())),
        };
        if head.group != self.group {
            return Err(self.bad_head(index, format!("belongs to group {}", head.group)));
        }
        if head.frontier.next_index() != index {
            let first = head.frontier.next_index();
            return Err(self.bad_head(index, format!("begins at {first}")));
        }
        let writer = is_last.then_some(file);
        Ok(Some(Segment::new(Arc::clone(disk), path, head, writer, bytes)))
    }

    /// Removes what a purge left behind; refuses start points without their segment.
    fn sweep(&self, names: &Names, first: LogIndex) -> Result<(), OpenError> {
        let remove = |index: LogIndex, extension| {
            let path = self.dir.join(file_name(index, extension));
            self.env.disk.remove_file(&path).map_err(self.io("remove", &path))
        };
        for index in names.indexes.difference(&names.logs) {
            remove(*index, "idx")?;
        }
        for index in names.starts.difference(&names.logs) {
            if *index > first {
                return Err(
                    self.bad_head(*index, "segment is missing, its start point is there".into())
                );
            }
            remove(*index, "start")?;
        }
        Ok(())
    }

    /// Reads all start points; the place of the newest one in `segments`.
    fn load_starts(
        &mut self,
        names: &Names,
        segments: &VecDeque<Arc<Segment>>,
    ) -> Result<usize, OpenError> {
        let mut base = 0;
        for (n, segment) in segments.iter().enumerate() {
            let index = segment.first_index();
            if index == LogIndex::ZERO {
                segment.set_started();
                continue;
            }
            if names.starts.contains(&index) {
                match self.load_start(segment)? {
                    Ok(()) => {
                        segment.set_started();
                        base = n;
                        continue;
                    }
                    // Derived again by apply, from the older one.
                    Err(_) if n > 0 => self.starts_ignored.push(index),
                    Err(reason) => {
                        let path = segment.beside("start");
                        let index = Some(index);
                        return Err(OpenError::Corrupt { path, position: 0, index, reason });
                    }
                }
            } else if n == 0 {
                let reason = "the log's first start point is missing".to_owned();
                return Err(self.corrupt(segment, 0, Some(index), reason));
            }
        }
        Ok(base)
    }

    fn load_start(&self, segment: &Segment) -> Result<Result<(), String>, OpenError> {
        let path = segment.beside("start");
        let bytes = disk::read_all(&*self.env.disk, &path).map_err(self.io("read", &path))?;
        Ok(match StartPoint::decode(&Bytes::from(bytes)) {
            Ok(start) if start.frontier == segment.head.frontier => Ok(()),
            Ok(_) => Err("start point of another log".to_owned()),
            Err(MalformedStart::NewerFormat(format)) => {
                let supported = StartPoint::FORMAT;
                return Err(OpenError::NewerFormat { path, format, supported });
            }
            Err(MalformedStart::Damaged(reason)) => Err(reason.to_owned()),
        })
    }

    /// Checks everything from segment `base` on and cuts a torn tail; the frontier of what is left.
    fn scan(
        &mut self,
        segments: &VecDeque<Arc<Segment>>,
        base: usize,
    ) -> Result<Frontier, OpenError> {
        let mut frontier = segments[base].head.frontier;
        for (n, segment) in segments.iter().enumerate().skip(base) {
            let next = segments.get(n + 1);
            frontier = self.scan_segment(segment, next.is_none())?;
            let Some(next) = next else { break };
            if frontier != next.head.frontier {
                let reason = format!("ends before {}", next.first_index());
                let index = Some(frontier.next_index());
                return Err(self.corrupt(segment, segment.end(), index, reason));
            }
            match segment.write_index() {
                // It is a short cut, and there is a longer way; a log on a full disk can be read.
                Ok(()) | Err(Failure::Full(_)) => {}
                Err(Failure::Final(err)) => {
                    return Err(self.io("write index of", &segment.path)(err));
                }
            }
            segment.release();
        }
        Ok(frontier)
    }

    fn scan_segment(&mut self, segment: &Segment, is_last: bool) -> Result<Frontier, OpenError> {
        let file = if is_last {
            segment.writer().map_err(self.io("open", &segment.path))?
        } else {
            self.env.disk.open(&segment.path, Open::Read).map_err(self.io("open", &segment.path))?
        };
        let generation = segment.head.generation;
        let start = Head::BYTES as u64;
        let end = segment.end();
        let mut scanner = Scanner::new(Arc::clone(&file), generation, start, end, CHUNK_BYTES);
        let mut frontier = segment.head.frontier;
        let mut position = start;
        let mut safe_end = 0;
        let mut index = Index::default();
        loop {
            let flaw = match scanner.next() {
                Ok(None) => break,
                Ok(Some(entry)) if entry.follows(&frontier) => {
                    let header = &entry.envelope.header;
                    let every = self.config.index_every_bytes;
                    index.note(header, entry.max_timestamp(), entry.position, every);
                    frontier = header.frontier();
                    position = entry.end;
                    if frontier.next_index() <= self.mark {
                        safe_end = position;
                    }
                    continue;
                }
                Ok(Some(_)) => "does not follow the entry before it".to_owned(),
                Err(ScanError::Io(err)) => return Err(self.io("read", &segment.path)(err)),
                Err(ScanError::Flaw(_, Flaw::NewerKind(kind))) => {
                    let path = segment.path.clone();
                    let (format, supported) = (u32::from(kind), Kind::ON_DISK_MAX);
                    return Err(OpenError::NewerFormat { path, format, supported });
                }
                Err(ScanError::Flaw(_, flaw)) => flaw.to_string(),
            };
            let bad = frontier.next_index();
            if !is_last {
                return Err(self.corrupt(segment, position, Some(bad), flaw));
            }
            if bad < self.mark && !canary!(CorruptTakenForTorn) {
                let reason = format!("{flaw}, though entries below {} were safe", self.mark);
                return Err(self.corrupt(segment, position, Some(bad), reason));
            }
            let witness = segment::find_behind(&*file, generation, position, end, bad)
                .map_err(self.io("read", &segment.path))?;
            if let Some(witness) = witness.filter(|_| !canary!(CorruptTakenForTorn)) {
                let reason = format!("{flaw}, though entry {witness} says it was safe");
                return Err(self.corrupt(segment, position, Some(bad), reason));
            }
            self.torn_bytes += end - position;
            file.set_len(position).map_err(self.io("cut", &segment.path))?;
            segment.cut(position);
            break;
        }
        segment.set_index(index);
        if is_last {
            // What a killed process wrote may be in the page cache only. If it died of a failed sync
            // the system takes those pages for clean, and only a new write makes them dirty.
            disk::rewrite(&*file, safe_end..position).map_err(self.io("rewrite", &segment.path))?;
            file.sync_all().map_err(self.io("sync", &segment.path))?;
        }
        Ok(frontier)
    }

    fn bad_head(&self, index: LogIndex, reason: String) -> OpenError {
        let path = self.dir.join(file_name(index, "log"));
        OpenError::Corrupt { path, position: 0, index: Some(index), reason }
    }

    fn corrupt(
        &self,
        segment: &Segment,
        position: u64,
        index: Option<LogIndex>,
        reason: String,
    ) -> OpenError {
        OpenError::Corrupt { path: segment.path.clone(), position, index, reason }
    }

    fn io(&self, action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError + use<> {
        OpenError::io(action, path.to_owned())
    }
}
