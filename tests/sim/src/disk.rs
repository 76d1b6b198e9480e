//! The simulated disk of one broker, with every operation in the trace.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_log::disk::{Disk, File, Open};
use tidelog_log::sim::SimDisk;

use crate::trace::Trace;

/// A disk that tells what is done to it.
#[derive(Clone, Debug)]
pub(crate) struct TracedDisk {
    node: Arc<str>,
    disk: SimDisk,
    trace: Trace,
}

impl TracedDisk {
    /// An empty disk for `node`.
    pub(crate) fn new(node: &str, trace: Trace) -> Self {
        Self { node: node.into(), disk: SimDisk::new(), trace }
    }

    fn done<T>(&self, what: &str, path: &Path, outcome: io::Result<T>) -> io::Result<T> {
        let end = outcome.as_ref().err().map_or("ok".to_owned(), |err| err.kind().to_string());
        self.trace.line(format_args!("disk {} {what} {} {end}", self.node, path.display()));
        outcome
    }
}

impl Disk for TracedDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, open);
        let file = self.done(&format!("open {open:?}"), path, file)?;
        Ok(Arc::new(TracedFile { file, path: path.to_owned(), disk: self.clone() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.done("list", dir, self.disk.list(dir))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.done("mkdir", dir, self.disk.create_dir(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.done("rename to", to, self.disk.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.done("remove", path, self.disk.remove_file(path))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.done("rmdir", dir, self.disk.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.done("syncdir", dir, self.disk.sync_dir(dir))
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
    fn done<T>(&self, what: &str, outcome: io::Result<T>) -> io::Result<T> {
        self.disk.done(what, &self.path, outcome)
    }
}

impl File for TracedFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, position);
        let crc = read.as_ref().map_or(0, |bytes| crc32c::crc32c(&buffer[..*bytes]));
        let bytes = read.as_ref().copied().unwrap_or_default();
        self.done(&format!("read @{position} {bytes} {crc:08x}"), read)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        let crc = slices.iter().fold(0, |crc, slice| crc32c::crc32c_append(crc, slice));
        let written = self.file.write_at(slices, position);
        self.done(&format!("write @{position} {bytes} {crc:08x}"), written)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.done("fdatasync", self.file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.done("fsync", self.file.sync_all())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.done(&format!("truncate {bytes}"), self.file.set_len(bytes))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
