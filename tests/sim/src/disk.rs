//! The simulated disk of one broker, with every operation in the trace, and the power that it needs.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidelog_log::disk::{Disk, File, Open};
use tidelog_log::sim::{CrashPlan, Fault, Image, SimDisk};

use crate::trace::Trace;

/// A disk that tells what is done to it. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct TracedDisk {
    node: Arc<str>,
    disk: SimDisk,
    power: Arc<Mutex<Power>>,
    /// What was durable before a part of it was lost for good.
    lost: Arc<Mutex<Option<Image>>>,
    trace: Trace,
}

#[derive(Clone, Copy, Debug)]
enum Power {
    On,
    /// It fails after so many more operations that change something.
    FailsAfter(u64),
    Off,
}

impl TracedDisk {
    /// An empty disk for `node`.
    pub(crate) fn new(node: &str, trace: Trace) -> Self {
        let power = Arc::new(Mutex::new(Power::On));
        let (node, disk, lost) = (node.into(), SimDisk::new(), Arc::default());
        Self { node, disk, power, lost, trace }
    }

    /// What would be there after a power loss now.
    pub(crate) fn durable(&self) -> SimDisk {
        SimDisk::of(self.disk.look_at_durable(Image::clone))
    }

    /// Looks at what would be there after a power loss now.
    pub(crate) fn look_at_durable<T>(&self, look: impl FnOnce(&Image) -> T) -> T {
        self.disk.look_at_durable(look)
    }

    /// Whether something was durable at some time, though it may have been lost for good since.
    pub(crate) fn was_durable(&self, look: impl Fn(&Image) -> bool) -> bool {
        let lost = || self.lost().as_ref().is_some_and(&look);
        self.look_at_durable(&look) || lost()
    }

    /// The process that uses the disk is gone.
    pub(crate) fn kill(&self) {
        self.live_on();
        self.disk.kill();
    }

    /// The power is gone, and what was not synced meets `plan`.
    pub(crate) fn lose_power(&self, plan: CrashPlan) {
        self.live_on();
        self.disk.crash(plan);
    }

    /// Another disk is in its place, an empty one.
    pub(crate) fn wipe(&self) {
        self.live_on();
        *self.lost() = Some(self.look_at_durable(Image::clone));
        self.disk.wipe();
    }

    /// Flips a bit of a file, for good.
    pub(crate) fn flip(&self, path: &Path, bit: u64) -> io::Result<()> {
        *self.lost() = Some(self.look_at_durable(Image::clone));
        self.disk.flip(path, bit)
    }

    /// Lets the power fail after `operations` more.
    pub(crate) fn die_after(&self, operations: u64) {
        *self.power() = Power::FailsAfter(operations);
    }

    /// Whether the power has failed by itself.
    pub(crate) fn died(&self) -> bool {
        matches!(*self.power(), Power::Off)
    }

    /// The power does not fail after all, or is back.
    pub(crate) fn live_on(&self) {
        *self.power() = Power::On;
    }

    /// Makes calls fail.
    pub(crate) fn fail(&self, fault: Fault) {
        self.disk.fail(fault);
    }

    /// Leaves `bytes` of space.
    pub(crate) fn fill(&self, bytes: u64) {
        let used: u64 = self.disk.image().listing().iter().map(|(_, bytes)| *bytes as u64).sum();
        self.disk.limit(used + bytes);
    }

    /// Nothing fails any more, and there is space.
    pub(crate) fn heal(&self) {
        self.disk.heal();
        self.disk.limit(u64::MAX);
    }

    fn lost(&self) -> MutexGuard<'_, Option<Image>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn power(&self) -> MutexGuard<'_, Power> {
        self.power.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries an operation out that changes something, if the power is on.
    fn change<T>(
        &self,
        what: &str,
        path: &Path,
        change: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut power = self.power();
        *power = match *power {
            Power::On => Power::On,
            Power::FailsAfter(0) | Power::Off => Power::Off,
            Power::FailsAfter(left) => Power::FailsAfter(left - 1),
        };
        let off = matches!(*power, Power::Off);
        drop(power);
        let outcome = if off { Err(io::Error::other("no power")) } else { change() };
        self.done(what, path, outcome)
    }

    fn done<T>(&self, what: &str, path: &Path, outcome: io::Result<T>) -> io::Result<T> {
        let end = outcome.as_ref().err().map_or("ok".to_owned(), ToString::to_string);
        self.trace.line(format_args!("disk {} {what} {} {end}", self.node, path.display()));
        outcome
    }
}

impl Disk for TracedDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let opened = || self.disk.open(path, open);
        let what = format!("open {open:?}");
        let file = match open {
            Open::Create => self.change(&what, path, opened)?,
            Open::Write | Open::Read => self.done(&what, path, opened())?,
        };
        Ok(Arc::new(TracedFile { file, path: path.to_owned(), disk: self.clone() }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.done("exists", path, self.disk.exists(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.done("list", dir, self.disk.list(dir))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.change("mkdir", dir, || self.disk.create_dir(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change("rename to", to, || self.disk.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change("remove", path, || self.disk.remove_file(path))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.change("rmdir", dir, || self.disk.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change("syncdir", dir, || self.disk.sync_dir(dir))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_bytes(dir)
    }
}

/// A file that tells what is done to it.
#[derive(Debug)]
struct TracedFile {
    file: Arc<dyn File>,
    path: PathBuf,
    disk: TracedDisk,
}

impl TracedFile {
    fn change<T>(&self, what: &str, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.disk.change(what, &self.path, change)
    }
}

impl File for TracedFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, position);
        let crc = read.as_ref().map_or(0, |bytes| crc32c::crc32c(&buffer[..*bytes]));
        let bytes = read.as_ref().copied().unwrap_or_default();
        self.disk.done(&format!("read @{position} {bytes} {crc:08x}"), &self.path, read)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        let crc = slices.iter().fold(0, |crc, slice| crc32c::crc32c_append(crc, slice));
        let what = format!("write @{position} {bytes} {crc:08x}");
        self.change(&what, || self.file.write_at(slices, position))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change("fdatasync", || self.file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.change("fsync", || self.file.sync_all())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.change(&format!("truncate {bytes}"), || self.file.set_len(bytes))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
