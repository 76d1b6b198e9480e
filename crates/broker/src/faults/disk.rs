//! A disk whose every step can fail, take long, or be the last of its process.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use tidelog_log::disk::{Disk, File, Open};
use tidelog_types::failpoint::{self, Phase};

use super::Faults;
use super::target::Target;

/// A disk with faults.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    disk: Arc<dyn Disk>,
    faults: Arc<Faults>,
}

impl FaultyDisk {
    /// `disk`, with `faults`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, faults: Arc<Faults>) -> Self {
        Self { disk, faults }
    }
}

impl Faults {
    /// One step, between its two failpoints.
    fn step<T>(
        &self,
        target: Target,
        step: &str,
        made: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        failpoint::reached(target.name(), step, Phase::Before);
        self.check(target, step)?;
        let made = made()?;
        failpoint::reached(target.name(), step, Phase::After);
        Ok(made)
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let target = Target::of(path);
        let opened = || self.disk.open(path, open);
        let file = match open {
            Open::Create => self.faults.step(target, "create", opened)?,
            Open::Write | Open::Read => opened()?,
        };
        Ok(Arc::new(FaultyFile { file, target, faults: Arc::clone(&self.faults) }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.faults.step(Target::Directory, "create", || self.disk.create_dir(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.step(Target::of(to), "rename", || self.disk.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        // Nothing is made where nothing is: a failpoint there would be one that proves nothing.
        if self.disk.open(path, Open::Read).is_err_and(|err| err.kind() == io::ErrorKind::NotFound)
        {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.faults.step(Target::of(path), "remove", || self.disk.remove_file(path))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.faults.step(Target::Directory, "remove", || self.disk.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.faults.step(Target::Directory, "sync", || self.disk.sync_dir(dir))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_bytes(dir)
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn File>,
    /// What it was opened as; a rename does not change it.
    target: Target,
    faults: Arc<Faults>,
}

impl FaultyFile {
    fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.faults.step(self.target, "sync", || {
            self.faults.before_sync();
            sync()
        })
    }
}

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.faults.step(self.target, "write", || {
            if let Some(site) = failpoint::due(self.target.name(), "write", Phase::Half) {
                let bytes: Vec<u8> =
                    slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                // An odd number of them, so that it never ends where a record does.
                let half = (bytes.len() / 2) | 1;
                self.file.write_at(&[IoSlice::new(&bytes[..half.min(bytes.len())])], position)?;
                failpoint::die(site);
            }
            self.file.write_at(slices, position)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(|| self.file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(|| self.file.sync_all())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.faults.step(self.target, "cut", || self.file.set_len(bytes))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        for (name, target) in [
            ("votes.log", Target::Votes),
            ("votes.tmp", Target::VotesCopy),
            ("node.toml", Target::Identity),
            ("node.toml.tmp", Target::Identity),
            ("00000000000000000012.log", Target::Segment),
            ("00000000000000000012.idx", Target::Index),
            ("00000000000000000012.start", Target::Start),
            ("00000000000000000012.tmp", Target::Start),
            ("00000000000000000012.mended", Target::Mend),
            ("00000000000000000012.rotten", Target::Aside),
            ("00000000000000000012.aside", Target::Aside),
            ("unfinished", Target::Aside),
            ("8c1f-2-7", Target::Directory),
            ("8c1f-2-7.new", Target::Directory),
            ("8c1f-2-7.old", Target::Directory),
        ] {
            assert_eq!(Target::of(Path::new(name)), target, "{name}");
        }
    }

    #[test]
    fn a_step_that_is_to_fail_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::parse("eio=segment/write:2").unwrap());
        let disk = FaultyDisk::new(Arc::new(tidelog_log::disk::OsDisk), faults);
        let file = disk.open(&dir.path().join("1.log"), Open::Create).unwrap();
        file.write_at(&[IoSlice::new(b"one")], 0).unwrap();
        assert!(file.write_at(&[IoSlice::new(b"two")], 3).is_err());
        assert_eq!(file.len().unwrap(), 3);
        file.write_at(&[IoSlice::new(b"three")], 3).unwrap();
        assert_eq!(file.len().unwrap(), 8);
    }
}
