//! A disk in memory that loses power, tears writes, fails, fills up and rots on demand.
//!
//! It is strict where POSIX lets a file system be: nothing is durable before the sync of the very
//! file or directory, unsynced operations survive a power cut in any combination, and after a failed
//! sync the data is gone for good though the next sync succeeds.

mod image;
mod timeline;

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

pub use image::{Image, Inode};
pub use timeline::{CrashPlan, Op, Timeline};

use crate::disk::{Disk, File, Open};

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Opening or making a file.
    Open,
    /// Reading a file.
    Read,
    /// Writing or cutting a file.
    Write,
    /// Syncing a file.
    Sync,
    /// Syncing a directory.
    SyncDir,
    /// Renaming or removing.
    Rename,
}

/// Failures to come: some calls of an action on some paths answer EIO, or ENOSPC.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which action.
    pub action: Action,
    /// Only on paths that contain this.
    pub path: String,
    /// After this many calls that succeed.
    pub after: u64,
    /// This many calls fail.
    pub times: u64,
}

/// The errno of an input/output error.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A simulated disk. Clones are the same disk. Deterministic: the same calls, the same answers.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    /// What a process sees: the page cache.
    now: Image,
    timeline: Timeline,
    recorded: Option<Vec<Op>>,
    /// With the error that each answers.
    faults: Vec<(Fault, i32)>,
    capacity_bytes: u64,
    next_inode: u64,
    /// Handles of before the last crash belong to a process that is no more.
    epoch: u64,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            now: Image::default(),
            timeline: Timeline::default(),
            recorded: None,
            faults: Vec::new(),
            capacity_bytes: u64::MAX,
            next_inode: 1,
            epoch: 0,
        }
    }
}

impl SimDisk {
    /// An empty disk without limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk with these contents, all durable, as after a power cut.
    #[must_use]
    pub fn of(image: Image) -> Self {
        Self::resume(Timeline::new(image))
    }

    /// A disk in the middle of its life: a process sees everything, not all of it is durable. What a
    /// process meets that starts after another was killed.
    #[must_use]
    pub fn resume(timeline: Timeline) -> Self {
        let now = timeline.crash(CrashPlan::KeepAll);
        // Higher than any inode of before: those came from counting too.
        let inner = Inner { now, timeline, next_inode: 1 << 32, ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// The power goes: what was not synced meets the plan, and every open handle is dead.
    pub fn crash(&self, plan: CrashPlan) {
        let mut inner = self.lock();
        let mut image = inner.timeline.crash(plan);
        image.sweep();
        inner.now = image.clone();
        inner.timeline = Timeline::new(image);
        inner.epoch += 1;
    }

    /// The process is killed: nothing is lost, but every open handle is dead.
    pub fn kill(&self) {
        self.lock().epoch += 1;
    }

    /// Everything is gone for good, as when a disk is replaced, and every open handle is dead.
    pub fn wipe(&self) {
        let mut inner = self.lock();
        inner.now = Image::default();
        inner.timeline = Timeline::default();
        inner.epoch += 1;
    }

    /// The contents, as a process sees them.
    #[must_use]
    pub fn image(&self) -> Image {
        self.lock().now.clone()
    }

    /// The durable contents, and what was done since.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.lock().timeline.clone()
    }

    /// Looks at what would be there after a power loss now, without copying it.
    pub fn look_at_durable<T>(&self, look: impl FnOnce(&Image) -> T) -> T {
        look(self.lock().timeline.durable())
    }

    /// From now on every operation is kept, for [`SimDisk::recorded`].
    pub fn record(&self) {
        self.lock().recorded.get_or_insert_default();
    }

    /// The operations since [`SimDisk::record`].
    #[must_use]
    pub fn recorded(&self) -> Vec<Op> {
        self.lock().recorded.clone().unwrap_or_default()
    }

    /// Puts a mark among the recorded operations.
    pub fn note(&self, note: u64) {
        self.lock().did(Op::Note(note));
    }

    /// Makes calls fail.
    pub fn fail(&self, fault: Fault) {
        self.lock().faults.push((fault, EIO));
    }

    /// Makes calls fail for want of room: also of those that a limit lets through, for it counts the bytes
    /// of files alone.
    pub fn refuse(&self, fault: Fault) {
        self.lock().faults.push((fault, ENOSPC));
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Limits the disk; what would grow it over this is refused with ENOSPC.
    pub fn limit(&self, capacity_bytes: u64) {
        self.lock().capacity_bytes = capacity_bytes;
    }

    /// Flips a bit of a file, durably, as rot does.
    pub fn flip(&self, path: &Path, bit: u64) -> io::Result<()> {
        let mut inner = self.lock();
        let file = inner.now.find(path)?;
        let (byte, mask) = ((bit / 8) as usize, 1 << (bit % 8));
        if byte >= inner.now.file(file)?.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        inner.now.file_mut(file)[byte] ^= mask;
        if let Some(byte) = inner.timeline.durable_mut().file_mut(file).get_mut(byte) {
            *byte ^= mask;
        }
        Ok(())
    }

    /// The length of a file.
    pub fn file_len(&self, path: &Path) -> io::Result<u64> {
        let inner = self.lock();
        let file = inner.now.find(path)?;
        Ok(inner.now.file(file)?.len() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics under the lock of a simulated disk")
    }
}

impl Inner {
    fn did(&mut self, op: Op) {
        self.now.apply(&op);
        self.timeline.step(&op);
        if let Some(recorded) = &mut self.recorded {
            recorded.push(op);
        }
    }

    fn check(&mut self, action: Action, path: &Path) -> io::Result<()> {
        for (fault, error) in &mut self.faults {
            if fault.action != action || !path.to_string_lossy().contains(&fault.path) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Err(io::Error::from_raw_os_error(*error));
            }
        }
        Ok(())
    }

    fn free_bytes(&self) -> u64 {
        match self.capacity_bytes {
            // Counting them all for each write would slow long simulations down.
            u64::MAX => u64::MAX,
            capacity => capacity.saturating_sub(self.now.used()),
        }
    }

    fn new_inode(&mut self) -> Inode {
        let inode = Inode(self.next_inode);
        self.next_inode += 1;
        inode
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let mut inner = self.lock();
        inner.check(Action::Open, path)?;
        let file = match (inner.now.find(path), open) {
            (Ok(_), Open::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(inode), Open::Write | Open::Read) => {
                inner.now.file(inode)?;
                inode
            }
            (Err(err), Open::Create) if err.kind() == io::ErrorKind::NotFound => {
                let (dir, name) = inner.now.parent(path)?;
                let file = inner.new_inode();
                inner.did(Op::CreateFile { dir, name: name.to_owned(), file });
                file
            }
            (Err(err), _) => return Err(err),
        };
        let (disk, path, epoch) = (self.clone(), path.to_owned(), inner.epoch);
        Ok(Arc::new(SimFile { disk, file, path, epoch, writes: open != Open::Read }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.lock().now.find(path) {
            Ok(_) => Ok(true),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(err) => Err(err),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.lock();
        let dir = inner.now.find(dir)?;
        Ok(inner.now.dir(dir)?.keys().cloned().collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.now.find(dir).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (parent, name) = inner.now.parent(dir)?;
        let made = inner.new_inode();
        inner.did(Op::CreateDir { dir: parent, name: name.to_owned(), made });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.check(Action::Rename, from)?;
        let inode = inner.now.find(from)?;
        let (from, from_name) = inner.now.parent(from)?;
        if inner.now.find(to).is_ok_and(|to| inner.now.is_dir(to)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (to, to_name) = inner.now.parent(to)?;
        let (from_name, to_name) = (from_name.to_owned(), to_name.to_owned());
        inner.did(Op::Rename { from, from_name, to, to_name, inode });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.check(Action::Rename, path)?;
        let file = inner.now.find(path)?;
        inner.now.file(file)?;
        let (dir, name) = inner.now.parent(path)?;
        inner.did(Op::Unlink { dir, name: name.to_owned() });
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.check(Action::Rename, dir)?;
        let inode = inner.now.find(dir)?;
        if !inner.now.dir(inode)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (dir, name) = inner.now.parent(dir)?;
        inner.did(Op::Unlink { dir, name: name.to_owned() });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        let inode = inner.now.find(dir)?;
        if let Err(err) = inner.check(Action::SyncDir, dir) {
            inner.timeline.forsake(inode);
            return Err(err);
        }
        inner.did(Op::Sync { inode });
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let inner = self.lock();
        Ok(inner.free_bytes())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: Inode,
    /// The name that it was opened by; where the handle lies tells faults apart.
    path: PathBuf,
    epoch: u64,
    writes: bool,
}

impl SimFile {
    fn lock(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.lock();
        if inner.epoch != self.epoch {
            return Err(io::Error::other("the process that opened this file is dead"));
        }
        Ok(inner)
    }

    fn lock_to_write(&self, action: Action) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = self.lock()?;
        if !self.writes {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        inner.check(action, &self.path)?;
        Ok(inner)
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.lock()?;
        let inode = self.file;
        if let Err(err) = inner.check(Action::Sync, &self.path) {
            inner.timeline.forsake(inode);
            return Err(err);
        }
        inner.did(Op::Sync { inode });
        Ok(())
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut inner = self.lock()?;
        inner.check(Action::Read, &self.path)?;
        let bytes = inner.now.file(self.file)?;
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
        let read = buffer.len().min(bytes.len() - start);
        buffer[..read].copy_from_slice(&bytes[start..start + read]);
        Ok(read)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut inner = self.lock_to_write(Action::Write)?;
        let mut bytes = slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>();
        let len = inner.now.file(self.file)?.len() as u64;
        let growth = (position + bytes.len() as u64).saturating_sub(len);
        let free = inner.free_bytes();
        let full = growth > free;
        if full {
            // What fits is written, as a system does.
            bytes.truncate(bytes.len().saturating_sub((growth - free) as usize));
        }
        inner.did(Op::Write { file: self.file, position, bytes });
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut inner = self.lock_to_write(Action::Write)?;
        inner.did(Op::SetLen { file: self.file, bytes });
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let inner = self.lock()?;
        Ok(inner.now.file(self.file)?.len() as u64)
    }
}
