//! What the log needs of a disk, so that tests and simulations can lose its power.

mod lock;
mod os;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub use lock::{DataLock, LockError};
pub use os::OsDisk;

use crate::room::Failure;

/// Bytes that are written again at a time.
const REWRITE_BYTES: usize = 1024 * 1024;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// Make a new file, to read and write. Fails with `AlreadyExists` when there is one.
    Create,
    /// Open an existing file, to read and write.
    Write,
    /// Open an existing file, to read only.
    Read,
}

/// A file system, as far as the log uses one.
///
/// Nothing but [`File::sync_data`], [`File::sync_all`] and [`Disk::sync_dir`] makes anything durable.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>>;

    /// Whether there is a file or directory at `path`.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes a directory. Fails with `AlreadyExists` when there is one; its parent must exist.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Gives a file or directory another name. A file at `to` is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Handles that are open stay readable.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable: what was created, renamed and removed in it.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// The bytes that are free for us on the file system of `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file. Positions are absolute: there is no cursor.
pub trait File: Send + Sync + Debug {
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Writes all the slices, one behind the other. After an error any part may have been written.
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()>;

    /// Makes the file's bytes durable, and its length as far as reading them needs it (fdatasync).
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the file's bytes and all that is known about it durable (fsync).
    fn sync_all(&self) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Removes a file, and says whether there was one. A directory of many segments is not listed for it.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    match disk.remove_file(path) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err),
    }
}

/// Reads a whole small file.
///
/// # Errors
/// As the disk fails.
pub fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    read_up_to(disk, path, u64::MAX)
}

/// Reads a file up to so many bytes.
///
/// # Errors
/// As the disk fails.
pub fn read_up_to(disk: &dyn Disk, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Read)?;
    let wanted = file.len()?.min(bytes_max);
    let mut bytes = vec![0; usize::try_from(wanted).map_err(io::Error::other)?];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Writes `range` of a file again, as it reads now.
pub(crate) fn rewrite(file: &dyn File, range: Range<u64>) -> io::Result<()> {
    let mut position = range.start;
    let mut chunk = vec![0; REWRITE_BYTES];
    while position < range.end {
        let wanted = (range.end - position).min(REWRITE_BYTES as u64) as usize;
        let read = file.read_at(&mut chunk[..wanted], position)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(&[IoSlice::new(&chunk[..read])], position)?;
        position += read as u64;
    }
    Ok(())
}

/// Replaces the file at `path` so that after a crash it is whole, old or new: write, fsync, rename,
/// fsync the directory.
///
/// # Errors
/// As the disk fails; then the file is as it was, or, when only the directory failed, either.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    try_replace(disk, path, bytes).map_err(io::Error::from)
}

/// The same, telling a full disk from other failures.
pub(crate) fn try_replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let dir = path.parent().ok_or_else(|| io::Error::other("file without a directory"))?;
    let temporary = path.with_extension("tmp");
    remove_if_there(disk, &temporary)?;
    write_anew(disk, &temporary, |file| {
        file.write_at(&[IoSlice::new(bytes)], 0)?;
        file.sync_all()
    })?;
    if let Err(failure) = disk.rename(&temporary, path).map_err(Failure::of_write) {
        disk.remove_file(&temporary)?;
        return Err(failure);
    }
    Ok(disk.sync_dir(dir)?)
}

/// Makes a file and has `write` fill it, and sync it if need be. On a full disk nothing of it stays, and
/// another try begins with another file: so also a sync that found no room is none that must be final.
pub(crate) fn write_anew(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&dyn File) -> io::Result<()>,
) -> Result<Arc<dyn File>, Failure> {
    let file = disk.open(path, Open::Create).map_err(Failure::of_write)?;
    match write(&*file).map_err(Failure::of_write) {
        Ok(()) => Ok(file),
        Err(full @ Failure::Full(_)) => {
            disk.remove_file(path)?;
            Err(full)
        }
        Err(failure) => Err(failure),
    }
}

/// Removes a directory and the files in it, if it is there; not durable before the parent is synced.
pub(crate) fn remove_tree(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    if !disk.exists(dir)? {
        return Ok(());
    }
    for name in disk.list(dir)? {
        disk.remove_file(&dir.join(name))?;
    }
    disk.remove_dir(dir)
}
