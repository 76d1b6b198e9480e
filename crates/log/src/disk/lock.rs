//! The lock of a data directory: one process at a time.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Why a data directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("data directory {} is in use by pid {pid}", data.display())]
    InUse {
        /// The data directory.
        data: PathBuf,
        /// The process that holds it, as it wrote it down; `unknown` when it has not yet.
        pid: String,
    },
    /// The lock file could not be opened, locked or written.
    #[error("lock data directory {}", data.display())]
    Io {
        /// The data directory.
        data: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A held lock (`flock`) on `<data>/lock`. The system drops it when the process ends, however it ends.
#[derive(Debug)]
pub struct DataLock {
    _file: fs::File,
}

impl DataLock {
    /// Locks `data`, which must exist, and writes our pid into the lock file.
    pub fn acquire(data: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { data: data.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(data.join("lock"))
            .map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).map_err(io)?;
                let pid = match pid.trim() {
                    "" => "unknown".to_owned(),
                    pid => pid.to_owned(),
                };
                return Err(LockError::InUse { data: data.to_owned(), pid });
            }
            Err(err) => return Err(io(err.into())),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_lock_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataLock::acquire(dir.path()).unwrap();
        let err = DataLock::acquire(dir.path()).unwrap_err().to_string();
        assert!(err.ends_with(&format!("is in use by pid {}", std::process::id())), "{err}");
        drop(held);
        DataLock::acquire(dir.path()).unwrap();
    }
}
