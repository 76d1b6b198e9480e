//! Where exports go: a file that has its name only when it is whole.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};
use tidelog_types::TopicName;

use super::contents::Contents;
use super::format::End;
use crate::{Failure, chain};

/// What follows the topic in the name of a file.
const SUFFIX: &str = ".backup.jsonl";

/// The file of each topic. None of them is there yet.
///
/// # Errors
/// When one is, or the directory cannot be made.
pub(super) fn files(to: &Path, topics: &[TopicName]) -> Result<Vec<PathBuf>, Failure> {
    let directory =
        to.is_dir() || topics.len() > 1 || to.as_os_str().as_encoded_bytes().ends_with(b"/");
    if directory {
        fs::create_dir_all(to).map_err(|error| failed("create", to, &error))?;
    }
    let file = |topic: &TopicName| match directory {
        true => to.join(format!("{topic}{SUFFIX}")),
        false => to.to_owned(),
    };
    let files: Vec<PathBuf> = topics.iter().map(file).collect();
    match files.iter().find(|file| file.symlink_metadata().is_ok()) {
        Some(file) => Err(Failure::usage(format!("{} is there already", file.display()))
            .next_step("nothing was exported: delete it, or name another with --to")),
        None => Ok(files),
    }
}

/// A file that is written beside its place, and goes when it is dropped.
#[derive(Debug)]
pub(super) struct Draft {
    file: NamedTempFile,
    place: PathBuf,
}

impl Draft {
    /// Begins a file for `place`.
    pub(super) fn create(place: &Path) -> Result<Self, Failure> {
        let name = place.file_name().unwrap_or_default();
        let draft = Builder::new().prefix(".").suffix(name).tempfile_in(directory(place));
        let file = draft.map_err(|error| failed("write", place, &error))?;
        Ok(Self { file, place: place.to_owned() })
    }

    /// What is written to.
    pub(super) fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Reads everything back, which must come to `end`, and gives the file its name, durably.
    pub(super) fn publish(self, end: &End) -> Result<(), Failure> {
        let Self { file, place } = self;
        let sync = file.as_file().sync_all();
        sync.map_err(|error| failed("sync", &place, &error))?;
        let again = File::open(file.path()).map_err(|error| failed("read", &place, &error))?;
        let contents = Contents::check(BufReader::new(again));
        let contents = contents.map_err(|damage| failed("read", &place, &damage))?;
        assert!(contents.end == *end, "what was written reads back");
        let persisted = file.persist_noclobber(&place);
        persisted.map_err(|error| failed("name", &place, &error.error))?;
        let synced = File::open(directory(&place)).and_then(|directory| directory.sync_all());
        synced.map_err(|error| failed("sync the directory of", &place, &error))
    }
}

fn directory(place: &Path) -> &Path {
    let directory = place.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}

/// `doing` something to `path` failed.
pub(super) fn failed(
    doing: &str,
    path: &Path,
    error: &(dyn std::error::Error + 'static),
) -> Failure {
    Failure::new(format!("{doing} {}: {}", path.display(), chain(error)))
}

/// The same for an error while a draft is written.
pub(super) fn unwritten(place: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| failed("write", place, &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(names: &[&str]) -> Vec<TopicName> {
        names.iter().map(|name| TopicName::new(name).unwrap()).collect()
    }

    #[test]
    fn one_topic_goes_to_a_file_and_several_to_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let to =
            |name: &str, names: &[&str]| files(&dir.path().join(name), &topics(names)).unwrap();
        assert_eq!(to("x", &["a"]), [dir.path().join("x")]);
        assert_eq!(to("y/", &["a"]), [dir.path().join("y/a.backup.jsonl")]);
        assert_eq!(to("y", &["a"]), [dir.path().join("y/a.backup.jsonl")], "it is there now");
        let both = ["z/a.backup.jsonl", "z/b.backup.jsonl"].map(|name| dir.path().join(name));
        assert_eq!(to("z", &["a", "b"]), both);
        fs::write(&both[1], "").unwrap();
        let refused = files(&dir.path().join("z"), &topics(&["a", "b"])).unwrap_err().to_string();
        assert!(refused.contains("z/b.backup.jsonl is there already"), "{refused}");
    }

    #[test]
    fn a_draft_that_is_dropped_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(Draft::create(&dir.path().join("x")).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
