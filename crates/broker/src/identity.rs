//! Who a data directory belongs to: `<data>/node.toml`.
//!
//! ```toml
//! format = 1
//! cluster_id = "6f1c…"
//! broker_id = 1
//! incarnation = 1
//! forming = true      # only between the choice of the cluster's id and its formation
//! ```
//! It is written once, before anything else, and a directory that does not fit the configuration or
//! the cluster is refused: a Raft node must never come back with less than it had.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidelog_log::disk::{self, Disk};
use tidelog_types::{BrokerId, Incarnation, NodeId};

/// The newest format that this build reads and writes.
pub(crate) const FORMAT: u32 = 1;

const FILE: &str = "node.toml";

/// What a broker without an id asks for one with, until it has one.
const JOINING: &str = "joining";

/// No identity is larger; what is, is damaged.
const BYTES_MAX: u64 = 4096;

/// What stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    format: u32,
    /// The cluster that the directory belongs to.
    pub cluster_id: String,
    broker_id: u32,
    incarnation: u32,
    /// This broker chose the cluster's id and has not seen the cluster form yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forming: bool,
}

/// Why a data directory is refused.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The directory or the file cannot be read or written.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is damaged. It is never guessed: a wrong identity could vote twice.
    #[error(
        "{} is damaged: {reason}; put the file back, or empty the directory and bring the broker \
         back as a new incarnation", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer version wrote the file.
    #[error(
        "{} has format {format}, this build reads up to {FORMAT}: use a newer tidelog",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The directory is another broker's.
    #[error(
        "data directory {} belongs to broker {found}, but broker_id is {expected}: wrong disk or \
         wrong configuration", data.display()
    )]
    OtherBroker {
        /// The directory.
        data: PathBuf,
        /// Whose it is.
        found: BrokerId,
        /// Who was to start.
        expected: BrokerId,
    },
    /// There is data, but nothing that tells whose.
    #[error(
        "data directory {} holds {what} but no {FILE}: it is no broker's, or its identity is lost; \
         give an empty directory, or put {FILE} back", data.display()
    )]
    NoIdentity {
        /// The directory.
        data: PathBuf,
        /// Something in it.
        what: String,
    },
}

impl Identity {
    /// The identity of a node.
    #[must_use]
    pub fn new(cluster_id: String, node: NodeId, forming: bool) -> Self {
        let (broker_id, incarnation) = (node.broker.0, node.incarnation.0);
        Self { format: FORMAT, cluster_id, broker_id, incarnation, forming }
    }

    /// The Raft node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        NodeId { broker: BrokerId(self.broker_id), incarnation: Incarnation(self.incarnation) }
    }

    /// The same, now that the cluster has formed.
    #[must_use]
    pub fn formed(self) -> Self {
        Self { forming: false, ..self }
    }

    /// Reads the identity in `data`, which is to be the `expected` broker's, if one is expected; `None`
    /// when the directory is empty.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn read(
        disk: &dyn Disk,
        data: &Path,
        expected: Option<BrokerId>,
    ) -> Result<Option<Self>, IdentityError> {
        let names = disk.list(data).map_err(io_error("list", data))?;
        if !names.iter().any(|name| name == FILE) {
            // What a start leaves behind before it has an identity, and a file system in its root.
            let ours = |name: &&String| {
                !matches!(name.as_str(), "lock" | "lost+found" | JOINING) && !name.ends_with(".tmp")
            };
            return match names.iter().find(ours) {
                None => Ok(None),
                Some(what) => Err(IdentityError::NoIdentity {
                    data: data.to_owned(),
                    what: format!("{what:?}"),
                }),
            };
        }
        let path = data.join(FILE);
        let bytes = disk::read_up_to(disk, &path, BYTES_MAX).map_err(io_error("read", &path))?;
        let identity = Self::parse(&path, &bytes)?;
        let found = BrokerId(identity.broker_id);
        match expected.filter(|expected| *expected != found) {
            None => Ok(Some(identity)),
            Some(expected) => {
                Err(IdentityError::OtherBroker { data: data.to_owned(), found, expected })
            }
        }
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, IdentityError> {
        /// What every format has.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let damaged = |reason: String| IdentityError::Damaged { path: path.to_owned(), reason };
        let one_line = |err: toml::de::Error| damaged(err.message().trim().replace('\n', ", "));
        let text = std::str::from_utf8(bytes).map_err(|err| damaged(err.to_string()))?;
        let head: Head = toml::from_str(text).map_err(one_line)?;
        if head.format > FORMAT {
            return Err(IdentityError::NewerFormat { path: path.to_owned(), format: head.format });
        }
        let identity: Self = toml::from_str(text).map_err(one_line)?;
        if identity.broker_id == 0 || identity.incarnation == 0 || identity.cluster_id.is_empty() {
            return Err(damaged("broker_id, incarnation or cluster_id is missing".to_owned()));
        }
        Ok(identity)
    }

    /// Writes the identity so that after a crash the file is whole, old or new, and there for good
    /// before anything that depends on it.
    ///
    /// # Errors
    /// The disk failed.
    pub fn write(&self, disk: &dyn Disk, data: &Path) -> Result<(), IdentityError> {
        let text = toml::to_string(self).expect("every field has a form in TOML");
        let path = data.join(FILE);
        disk::replace(disk, &path, text.as_bytes()).map_err(io_error("write", &path))
    }
}

/// The token with which the broker in `data` asks for an id: the one that it has asked with before, or
/// `fresh`. It is written down first, so that who is stopped in between is given the same id again.
///
/// # Errors
/// The disk failed.
pub(crate) fn joining(disk: &dyn Disk, data: &Path, fresh: u128) -> Result<u128, IdentityError> {
    let path = data.join(JOINING);
    match disk::read_up_to(disk, &path, BYTES_MAX) {
        Ok(bytes) => {
            let text = std::str::from_utf8(&bytes).ok();
            if let Some(token) = text.and_then(|text| u128::from_str_radix(text.trim(), 16).ok()) {
                return Ok(token);
            }
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) => return Err(io_error("read", &path)(err)),
    }
    let text = format!("{fresh:032x}\n");
    disk::replace(disk, &path, text.as_bytes()).map_err(io_error("write", &path))?;
    Ok(fresh)
}

/// Forgets the token, for the broker in `data` has an id: with an empty disk it must not come back under
/// that as if nothing had happened.
///
/// # Errors
/// The disk failed.
pub(crate) fn joined(disk: &dyn Disk, data: &Path) -> Result<(), IdentityError> {
    let path = data.join(JOINING);
    match disk.remove_file(&path) {
        Ok(()) => disk.sync_dir(data).map_err(io_error("sync", data)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(io_error("remove", &path)(err)),
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidelog_log::disk::OsDisk;

    fn identity() -> Identity {
        Identity::new("c-1".to_owned(), NodeId::new(2, 1), false)
    }

    #[test]
    fn an_identity_reads_back_and_an_empty_directory_has_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(&OsDisk, dir.path(), Some(BrokerId(2))).unwrap(), None);
        std::fs::write(dir.path().join("lock"), "1").unwrap();
        assert_eq!(Identity::read(&OsDisk, dir.path(), Some(BrokerId(2))).unwrap(), None);
        let forming = Identity { forming: true, ..identity() };
        for identity in [forming, identity()] {
            identity.write(&OsDisk, dir.path()).unwrap();
            for expected in [Some(BrokerId(2)), None] {
                let read = Identity::read(&OsDisk, dir.path(), expected).unwrap();
                assert_eq!(read.as_ref(), Some(&identity));
            }
        }
    }

    #[test]
    fn who_asks_for_an_id_again_asks_with_the_same_token_until_it_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let ask = |fresh| joining(&OsDisk, dir.path(), fresh).unwrap();
        assert_eq!((ask(7), ask(8)), (7, 7));
        assert_eq!(Identity::read(&OsDisk, dir.path(), None).unwrap(), None);
        std::fs::write(dir.path().join(JOINING), "not a number").unwrap();
        assert_eq!((ask(9), ask(10)), (9, 9));
        identity().write(&OsDisk, dir.path()).unwrap();
        joined(&OsDisk, dir.path()).unwrap();
        joined(&OsDisk, dir.path()).unwrap();
        assert_eq!(ask(11), 11);
    }

    #[test]
    fn foreign_damaged_and_newer_directories_are_refused_with_the_reason() {
        let check = |file: &str, text: &str, expected: &str| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(file), text).unwrap();
            let err =
                Identity::read(&OsDisk, dir.path(), Some(BrokerId(2))).unwrap_err().to_string();
            assert!(err.contains(expected) && !err.contains('\n'), "{err}");
        };
        check("votes.log", "", "holds \"votes.log\" but no node.toml");
        check(FILE, "", "is damaged: missing field `format`");
        check(FILE, "format = 2\nwhat = 1", "has format 2, this build reads up to 1");
        check(FILE, "format = 1\nbroker_id = 2", "is damaged");
        let other = "format = 1\ncluster_id = \"c\"\nbroker_id = 3\nincarnation = 1\n";
        check(FILE, other, "belongs to broker 3, but broker_id is 2");
        check(FILE, &other.replace('3', "0"), "is damaged: broker_id");
        check(FILE, &format!("{other}more = 1"), "is damaged: unknown field `more`");
    }
}
