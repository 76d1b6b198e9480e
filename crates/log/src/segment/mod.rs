//! Segments: files of entries, in the order of the log.

mod head;
mod index;
mod scan;
mod slice;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tidelog_types::{LogIndex, Offset, Timestamp, canary};

pub(crate) use head::{Head, HeadError};
pub(crate) use index::{Index, Point};
pub(crate) use scan::{ScanError, Scanned, Scanner, find_any, find_behind};
pub use slice::SegmentSlice;

use crate::disk::{self, Disk, File, Open};
use crate::entry::Header;
use crate::error::Error;
use crate::room::Failure;

/// How much of a segment is read at a time where no caller says how much it wants.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// A segment whose file exists and has its head on stable storage.
///
/// The file and the index points of a closed segment are loaded when they are needed and let go
/// again, so that a long log costs neither handles nor memory.
#[derive(Debug)]
pub(crate) struct Segment {
    disk: Arc<dyn Disk>,
    /// The `.log` file.
    pub(crate) path: PathBuf,
    /// What the file says of itself.
    pub(crate) head: Head,
    /// While the segment takes entries.
    writer: Mutex<Option<Arc<dyn File>>>,
    file: Mutex<Option<Arc<dyn File>>>,
    index: Mutex<Option<Index>>,
    /// The newest record timestamp, once it was looked up in a closed segment.
    newest: Mutex<Option<Option<Timestamp>>>,
    /// The bytes of the file that hold entries on stable storage.
    end: AtomicU64,
    /// Where the segment was cut, each time: a slice from before may hold other bytes now.
    cuts: Mutex<Vec<u64>>,
    /// The file is gone, or is another log's now.
    dead: AtomicBool,
    /// The start point is on disk, or none is needed.
    started: AtomicBool,
}

impl Segment {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        head: Head,
        writer: Option<Arc<dyn File>>,
        end: u64,
    ) -> Self {
        let index = writer.is_some().then(Index::default);
        Self {
            disk,
            path,
            head,
            writer: Mutex::new(writer),
            file: Mutex::default(),
            index: Mutex::new(index),
            newest: Mutex::default(),
            end: AtomicU64::new(end),
            cuts: Mutex::default(),
            dead: AtomicBool::new(false),
            started: AtomicBool::new(false),
        }
    }

    /// Makes the file of a new segment: nothing is written behind the head before file and name are
    /// durable, so a file with entries and a bad head is damaged, never torn.
    pub(crate) fn create(disk: &Arc<dyn Disk>, path: PathBuf, head: Head) -> Result<Self, Failure> {
        let dir = path.parent().ok_or_else(|| io::Error::other("segment without a directory"))?;
        let file = disk::write_anew(&**disk, &path, |file| {
            file.write_at(&[io::IoSlice::new(&head.encode())], 0)?;
            file.sync_all()
        })?;
        if !canary!(SegmentNotInDirectory) {
            disk.sync_dir(dir)?;
        }
        Ok(Self::new(Arc::clone(disk), path, head, Some(file), Head::BYTES as u64))
    }

    pub(crate) fn first_index(&self) -> LogIndex {
        self.head.frontier.next_index()
    }

    pub(crate) fn base_offset(&self) -> Offset {
        self.head.frontier.next_offset
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    pub(crate) fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }

    pub(crate) fn set_unstarted(&self) {
        self.started.store(false, Ordering::Release);
    }

    /// The file beside this one with another extension.
    pub(crate) fn beside(&self, extension: &str) -> PathBuf {
        self.path.with_extension(extension)
    }

    /// The file, opened to read if need be. May block.
    pub(crate) fn file(&self) -> Result<Arc<dyn File>, Error> {
        for held in [&self.writer, &self.file] {
            if let Some(file) = &*lock(held) {
                return Ok(Arc::clone(file));
            }
        }
        // Not under the lock: two readers may both open it, and one handle is dropped.
        let opened = self.disk.open(&self.path, Open::Read);
        self.alive()?;
        let file = opened.map_err(Error::io("open segment", &self.path))?;
        *lock(&self.file) = Some(Arc::clone(&file));
        Ok(file)
    }

    /// The file, open to write. The flush lock is held.
    pub(crate) fn writer(&self) -> io::Result<Arc<dyn File>> {
        if let Some(file) = &*lock(&self.writer) {
            return Ok(Arc::clone(file));
        }
        let file = self.disk.open(&self.path, Open::Write)?;
        *lock(&self.writer) = Some(Arc::clone(&file));
        Ok(file)
    }

    /// The segment takes no more entries.
    pub(crate) fn close(&self) {
        let file = lock(&self.writer).take();
        *lock(&self.file) = file;
    }

    /// Lets go of file and index points, which are loaded again when needed.
    pub(crate) fn release(&self) {
        if lock(&self.writer).is_some() {
            return;
        }
        *lock(&self.file) = None;
        *lock(&self.index) = None;
    }

    /// Looks something up in the index points, loading or rebuilding them first. May block.
    pub(crate) fn with_index<T>(&self, look: impl FnOnce(&Index) -> T) -> Result<T, Error> {
        if let Some(index) = &*lock(&self.index) {
            return Ok(look(index));
        }
        let cuts = self.cuts();
        let index = self.load_index()?;
        let found = look(&index);
        let mut held = lock(&self.index);
        // Cut meanwhile, and holding the points of what is left: these are of before.
        if held.is_none() && cuts == self.cuts() {
            *held = Some(index);
        }
        Ok(found)
    }

    /// Changes the index points of the segment that takes entries.
    pub(crate) fn set_index(&self, index: Index) {
        *lock(&self.index) = Some(index);
    }

    /// Notes entries that are on stable storage now.
    pub(crate) fn extend<'a>(
        &self,
        entries: impl Iterator<Item = (&'a Header, Option<Timestamp>, u64)>,
        every_bytes: u64,
        end: u64,
    ) {
        if let Some(index) = &mut *lock(&self.index) {
            for (header, max_timestamp, position) in entries {
                index.note(header, max_timestamp, position, every_bytes);
            }
        }
        self.end.store(end, Ordering::Release);
    }

    fn load_index(&self) -> Result<Index, Error> {
        let path = self.beside("idx");
        let stored = match disk::read_all(&*self.disk, &path) {
            Ok(bytes) => Index::decode(&bytes, self.head.generation, self.end()),
            Err(err) if err.kind() == io::ErrorKind::NotFound => None,
            Err(err) => return Err(Error::io("read index", path)(err)),
        };
        match stored {
            Some(index) => Ok(index),
            // Damaged, missing or of an earlier length: only a short cut, so it is derived again.
            None => self.rebuild_index(),
        }
    }

    fn rebuild_index(&self) -> Result<Index, Error> {
        let mut index = Index::default();
        let mut scanner = self.scan(1024 * 1024)?;
        while let Some(entry) = self.next(&mut scanner)? {
            index.note(
                &entry.envelope.header,
                entry.max_timestamp(),
                entry.position,
                crate::segment::index::REBUILD_EVERY_BYTES,
            );
        }
        Ok(index)
    }

    /// Writes the index points of a segment that was closed. Not synced: it can be rebuilt.
    pub(crate) fn write_index(&self) -> Result<(), Failure> {
        let Some(bytes) =
            lock(&self.index).as_ref().map(|i| i.encode(self.head.generation, self.end()))
        else {
            return Ok(());
        };
        let path = self.beside("idx");
        disk::remove_if_there(&*self.disk, &path)?;
        disk::write_anew(&*self.disk, &path, |file| file.write_at(&[io::IoSlice::new(&bytes)], 0))
            .map(drop)
    }

    /// A scan that begins at the index point that `look` finds, or at the first entry; `chunk` bytes
    /// are read at a time. May block.
    pub(crate) fn seek(
        &self,
        chunk: usize,
        look: impl FnOnce(&Index) -> Option<Point>,
    ) -> Result<Scanner, Error> {
        // Before anything is read: what a later cut takes away must not pass for what was read.
        let cuts = self.cuts();
        let point = self.with_index(look)?;
        let position = point.map_or(Head::BYTES as u64, |point| point.position);
        Ok(self.scanner(position, chunk)?.since(cuts))
    }

    /// A scan from the first entry on. May block.
    pub(crate) fn scan(&self, chunk: usize) -> Result<Scanner, Error> {
        let cuts = self.cuts();
        Ok(self.scanner(Head::BYTES as u64, chunk)?.since(cuts))
    }

    fn scanner(&self, position: u64, chunk: usize) -> Result<Scanner, Error> {
        Ok(Scanner::new(self.file()?, self.head.generation, position, self.end(), chunk))
    }

    /// A scan from the first entry on, through a file handle of its own: it leaves what readers use
    /// as it is. May block.
    pub(crate) fn scan_apart(&self, chunk: usize) -> Result<Scanner, Error> {
        let cuts = self.cuts();
        let file = self.disk.open(&self.path, Open::Read);
        let file = file.map_err(Error::io("open segment", &self.path))?;
        let (start, end) = (Head::BYTES as u64, self.end());
        Ok(Scanner::new(file, self.head.generation, start, end, chunk).since(cuts))
    }

    /// Whether the head on disk is the one that was written. May block.
    pub(crate) fn head_holds(&self) -> Result<bool, Error> {
        let mut head = [0; Head::BYTES];
        let read = self.file()?.read_at(&mut head, 0);
        let read = read.map_err(Error::io("read segment", &self.path))?;
        Ok(Head::decode(&head[..read]) == Ok(self.head))
    }

    /// The next entry of a scan of this segment.
    pub(crate) fn next(&self, scanner: &mut Scanner) -> Result<Option<Scanned>, Error> {
        match scanner.next() {
            Ok(entry) => Ok(entry),
            Err(err) => {
                self.unmoved(scanner)?;
                Err(match err {
                    ScanError::Io(err) => Error::io("read segment", &self.path)(err),
                    ScanError::Flaw(position, flaw) => self.corrupt(position, flaw.to_string()),
                })
            }
        }
    }

    /// What to say of an entry that does not follow the one before it: purged or cut while it was
    /// read, then the two were never neighbours; or corrupt.
    pub(crate) fn broken(&self, scanner: &Scanner, position: u64) -> Error {
        match self.unmoved(scanner) {
            Ok(()) => self.corrupt(position, "the chain is broken".to_owned()),
            Err(gone) => gone,
        }
    }

    pub(crate) fn corrupt(&self, position: u64, reason: String) -> Error {
        Error::Corrupt { path: self.path.clone(), position, reason }
    }

    /// Declares the file gone: whoever still holds a slice of it is told so.
    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::Release);
        self.close();
        self.release();
    }

    /// Declares everything from `end` on gone.
    pub(crate) fn cut(&self, end: u64) {
        lock(&self.cuts).push(end);
        self.end.store(end, Ordering::Release);
        *lock(&self.newest) = None;
    }

    /// The newest record timestamp of the segment; of a closed one only the head of the index file
    /// is read. May block.
    pub(crate) fn newest(&self) -> Result<Option<Timestamp>, Error> {
        if let Some(index) = &*lock(&self.index) {
            return Ok(index.newest());
        }
        if let Some(newest) = *lock(&self.newest) {
            return Ok(newest);
        }
        let newest = match self.read_newest()? {
            Some(newest) => newest,
            None => self.with_index(Index::newest)?,
        };
        *lock(&self.newest) = Some(newest);
        Ok(newest)
    }

    fn read_newest(&self) -> Result<Option<Option<Timestamp>>, Error> {
        let path = self.beside("idx");
        let file = match self.disk.open(&path, Open::Read) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(Error::io("open index", path)(err)),
        };
        let mut head = [0; Index::HEAD_BYTES];
        file.read_at(&mut head, 0).map_err(Error::io("read index", path))?;
        Ok(Index::decode_newest(&head, self.head.generation, self.end()))
    }

    /// Whether the segment is as it was when a scan of it began; what the scan met counts only then.
    pub(crate) fn unmoved(&self, scanner: &Scanner) -> Result<(), Error> {
        self.alive()?;
        if scanner.cuts() != self.cuts() {
            return Err(Error::Gone { index: self.first_index() });
        }
        Ok(())
    }

    /// Whether it was never cut since there were `cuts` cuts.
    pub(crate) fn is_uncut_since(&self, cuts: usize) -> bool {
        self.cuts() == cuts
    }

    /// How often it was cut.
    pub(crate) fn cuts(&self) -> usize {
        lock(&self.cuts).len()
    }

    /// Whether nothing below `end` was cut since there were `cuts` cuts.
    fn intact(&self, cuts: usize, end: u64) -> bool {
        !self.dead.load(Ordering::Acquire) && lock(&self.cuts)[cuts..].iter().all(|cut| *cut >= end)
    }

    fn alive(&self) -> Result<(), Error> {
        if self.dead.load(Ordering::Acquire) {
            return Err(Error::Gone { index: self.first_index() });
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under a lock of a segment")
}
