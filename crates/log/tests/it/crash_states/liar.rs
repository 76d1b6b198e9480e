//! A disk that leaves out one kind of fsync.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidelog_log::disk::{Disk, File, Open};
use tidelog_log::sim::SimDisk;

use crate::support::data;

/// Which fsync a disk leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    /// fdatasync after entries.
    Entries,
    /// fsync of the head of a new segment.
    NewSegment,
    /// fsync of a segment that was cut.
    Truncation,
    /// fsync of the group's directory.
    Directory,
    /// fsync of the data directory.
    DataDirectory,
    /// fdatasync of the votes.
    Votes,
    /// fsync of a start point before it gets its name.
    StartPoint,
}

/// A disk that says that it synced, and did not, once it is armed.
#[derive(Debug)]
pub(super) struct Liar {
    pub(super) disk: SimDisk,
    pub(super) armed: Arc<AtomicBool>,
    pub(super) skipped: Skipped,
}

impl Liar {
    fn skips(&self, skipped: Skipped) -> bool {
        self.skipped == skipped && self.armed.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(super) struct LyingFile {
    file: Arc<dyn File>,
    armed: Arc<AtomicBool>,
    skips_data: bool,
    /// The next fsync is left out.
    skips_all: AtomicBool,
    skips_cut: bool,
}

impl Disk for Liar {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, open)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_log = name.ends_with(".log") && name != "votes.log";
        let made = open == Open::Create;
        let new_segment = made && is_log && self.skips(Skipped::NewSegment);
        let start = made && name.ends_with(".tmp") && self.skips(Skipped::StartPoint);
        Ok(Arc::new(LyingFile {
            file,
            armed: Arc::clone(&self.armed),
            skips_data: is_log && self.skipped == Skipped::Entries
                || name == "votes.log" && self.skipped == Skipped::Votes,
            skips_all: AtomicBool::new(new_segment || start),
            skips_cut: is_log && self.skipped == Skipped::Truncation,
        }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let skipped = if dir == data() { Skipped::DataDirectory } else { Skipped::Directory };
        let skipped = self.skips(skipped);
        if skipped { Ok(()) } else { self.disk.sync_dir(dir) }
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_bytes(dir)
    }
}

impl File for LyingFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.file.write_at(slices, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        let skips = self.skips_data && self.armed.load(Ordering::Relaxed);
        if skips { Ok(()) } else { self.file.sync_data() }
    }

    fn sync_all(&self) -> io::Result<()> {
        let skips = self.skips_all.swap(false, Ordering::Relaxed);
        if skips { Ok(()) } else { self.file.sync_all() }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.skips_all.fetch_or(self.skips_cut, Ordering::Relaxed);
        self.file.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
