//! Faults of a real disk, planted while a broker runs. Only in builds with `--cfg tidelog_faults`;
//! `docs/faults.md` says how. Nothing of this file is in what ships.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidelog_log::disk::{Disk, File, Open};

/// The variable that plants faults when the broker starts, as `fdatasync-delay=500ms`.
const VARIABLE: &str = "TIDELOG_FAULTS";

/// What is wrong with a disk. It can change while the disk is in use.
#[derive(Debug, Default)]
pub struct Faults {
    fdatasync_delay_ms: AtomicU64,
}

impl Faults {
    /// The faults that the environment asks for, or none.
    ///
    /// # Errors
    /// One line that says what is wrong with the variable.
    pub fn from_environment() -> io::Result<Self> {
        match std::env::var(VARIABLE) {
            Ok(text) => Self::parse(&text).map_err(io::Error::other),
            Err(std::env::VarError::NotPresent) => Ok(Self::default()),
            Err(err) => Err(io::Error::other(format!("{VARIABLE}: {err}"))),
        }
    }

    /// Reads a list as `fdatasync-delay=500ms`, separated by commas.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let faults = Self::default();
        for fault in text.split(',').filter(|fault| !fault.is_empty()) {
            let unknown =
                || format!("{VARIABLE}: {fault:?} is no fault: expected fdatasync-delay=500ms");
            let delay = fault.strip_prefix("fdatasync-delay=").and_then(|it| it.strip_suffix("ms"));
            let ms = delay.and_then(|ms| ms.parse().ok()).ok_or_else(unknown)?;
            faults.delay_fdatasync(Duration::from_millis(ms));
        }
        Ok(faults)
    }

    /// From now on every fdatasync and fsync of a file takes this much longer.
    pub fn delay_fdatasync(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.fdatasync_delay_ms.store(ms, Ordering::Relaxed);
    }

    fn before_sync(&self) {
        let delay = Duration::from_millis(self.fdatasync_delay_ms.load(Ordering::Relaxed));
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }
}

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

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, open)?;
        Ok(Arc::new(FaultyFile { file, faults: Arc::clone(&self.faults) }))
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
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_bytes(dir)
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn File>,
    faults: Arc<Faults>,
}

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.file.write_at(slices, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.before_sync();
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.faults.before_sync();
        self.file.sync_all()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
