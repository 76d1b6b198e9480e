//! The contents of a simulated disk.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use super::timeline::Op;

/// A file or directory, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode(pub(super) u64);

pub(super) const ROOT: Inode = Inode(0);

/// The contents of a disk: directories, and the bytes of files. Cheap to clone.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Image {
    dirs: BTreeMap<Inode, BTreeMap<String, Inode>>,
    files: BTreeMap<Inode, Arc<Vec<u8>>>,
}

impl Default for Image {
    fn default() -> Self {
        Self { dirs: BTreeMap::from([(ROOT, BTreeMap::new())]), files: BTreeMap::new() }
    }
}

impl Image {
    /// Follows a path from the root.
    pub(super) fn find(&self, path: &Path) -> io::Result<Inode> {
        let mut at = ROOT;
        for name in names(path)? {
            at = *self.dir(at)?.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    /// The directory that a path lies in, and its name there.
    pub(super) fn parent<'p>(&self, path: &'p Path) -> io::Result<(Inode, &'p str)> {
        let name = names(path)?.last().copied().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.find(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        self.dir(dir)?;
        Ok((dir, name))
    }

    pub(super) fn dir(&self, dir: Inode) -> io::Result<&BTreeMap<String, Inode>> {
        self.dirs.get(&dir).ok_or_else(|| io::ErrorKind::NotADirectory.into())
    }

    pub(super) fn is_dir(&self, inode: Inode) -> bool {
        self.dirs.contains_key(&inode)
    }

    pub(super) fn file(&self, file: Inode) -> io::Result<&Arc<Vec<u8>>> {
        self.files.get(&file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn file_mut(&mut self, file: Inode) -> &mut Vec<u8> {
        Arc::make_mut(self.files.entry(file).or_default())
    }

    /// The bytes that a name leads to.
    pub(super) fn used(&self) -> u64 {
        let named = |inode: &Inode| self.files.get(inode).map_or(0, |bytes| bytes.len() as u64);
        self.dirs.values().flat_map(BTreeMap::values).map(named).sum()
    }

    /// Lets an operation take effect. What it needs and a crash has lost, it makes up for, as a
    /// file system does: a hole is zeros, a renamed file has its new name.
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { file, position, bytes } => {
                let contents = self.file_mut(*file);
                let start = *position as usize;
                if contents.len() < start + bytes.len() {
                    contents.resize(start + bytes.len(), 0);
                }
                contents[start..start + bytes.len()].copy_from_slice(bytes);
            }
            Op::SetLen { file, bytes } => self.file_mut(*file).resize(*bytes as usize, 0),
            Op::CreateFile { dir, name, file } => {
                self.files.entry(*file).or_default();
                self.link(*dir, name, *file);
            }
            Op::CreateDir { dir, name, made } => {
                self.dirs.entry(*made).or_default();
                self.link(*dir, name, *made);
            }
            Op::Rename { from, from_name, to, to_name, inode } => {
                if let Some(names) = self.dirs.get_mut(from)
                    && names.get(from_name) == Some(inode)
                {
                    names.remove(from_name);
                }
                self.link(*to, to_name, *inode);
            }
            Op::Unlink { dir, name } => {
                if let Some(names) = self.dirs.get_mut(dir) {
                    names.remove(name);
                }
            }
            Op::Sync { .. } | Op::Note(_) => {}
        }
    }

    /// Drops what no name leads to.
    pub(super) fn sweep(&mut self) {
        let named: BTreeSet<Inode> =
            self.dirs.values().flat_map(BTreeMap::values).copied().chain([ROOT]).collect();
        self.files.retain(|inode, _| named.contains(inode));
        self.dirs.retain(|inode, _| named.contains(inode));
    }

    fn link(&mut self, dir: Inode, name: &str, inode: Inode) {
        self.dirs.entry(dir).or_default().insert(name.to_owned(), inode);
    }

    /// Makes sure that a file or directory is there, with no name of its own.
    pub(super) fn ensure(&mut self, op: &Op) {
        match op {
            Op::CreateFile { file, .. } => {
                self.files.entry(*file).or_default();
            }
            Op::CreateDir { made, .. } => {
                self.dirs.entry(*made).or_default();
            }
            _ => {}
        }
    }

    /// The names in a directory, in their order; none when it is not there.
    pub fn names(&self, dir: &Path) -> impl DoubleEndedIterator<Item = &str> {
        let dir = self.find(dir).ok().and_then(|dir| self.dirs.get(&dir));
        dir.into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    /// The bytes of a file, if it is there.
    #[must_use]
    pub fn bytes(&self, file: &Path) -> Option<&[u8]> {
        let file = self.find(file).ok()?;
        self.files.get(&file).map(|bytes| bytes.as_slice())
    }

    /// A fingerprint of all that can be reached by name: equal for disks that no reader can tell
    /// apart.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash_dir(ROOT, &mut hasher);
        hasher.finish()
    }

    fn hash_dir(&self, dir: Inode, hasher: &mut DefaultHasher) {
        for (name, inode) in self.dirs.get(&dir).into_iter().flatten() {
            name.hash(hasher);
            match self.files.get(inode) {
                Some(bytes) => bytes.hash(hasher),
                None => self.hash_dir(*inode, hasher),
            }
        }
        0xff_u8.hash(hasher);
    }

    /// Every file's path and length, for messages.
    #[must_use]
    pub fn listing(&self) -> Vec<(String, usize)> {
        let mut out = Vec::new();
        self.list_dir(ROOT, "", &mut out);
        out
    }

    fn list_dir(&self, dir: Inode, prefix: &str, out: &mut Vec<(String, usize)>) {
        for (name, inode) in self.dirs.get(&dir).into_iter().flatten() {
            let path = format!("{prefix}/{name}");
            match self.files.get(inode) {
                Some(bytes) => out.push((path, bytes.len())),
                None => self.list_dir(*inode, &path, out),
            }
        }
    }
}

/// The names on a path, from the root.
fn names(path: &Path) -> io::Result<Vec<&str>> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => {
                Some(name.to_str().ok_or_else(|| io::ErrorKind::InvalidInput.into()))
            }
            Component::RootDir | Component::CurDir => None,
            Component::ParentDir | Component::Prefix(_) => {
                Some(Err(io::ErrorKind::InvalidInput.into()))
            }
        })
        .collect()
}
