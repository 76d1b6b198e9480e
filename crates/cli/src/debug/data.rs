//! What a data directory holds: names and sizes, and the heads of its files. Never what is in a record.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tidelog_log::disk::OsDisk;
use tidelog_log::dump;

use super::bundle::{Bundle, json, json_list};
use crate::{Failure, chain};

/// The identity of a broker, which is no secret.
const IDENTITY: &str = "node.toml";

/// The most files that are listed; a directory with more says so.
const FILES_MAX: usize = 100_000;

/// All files below the directory, by name.
#[derive(Debug, Serialize)]
struct Files {
    /// Whether there are more than are listed.
    more: bool,
    files: Vec<File>,
}

#[derive(Debug, Serialize)]
struct File {
    path: String,
    bytes: u64,
}

/// What a segment says of itself, or why it cannot be read.
#[derive(Debug, Serialize)]
struct Segment {
    path: String,
    head: Option<Head>,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct Head {
    group: String,
    bytes: u64,
    first_index: u64,
    base_offset: u64,
    generation: String,
    chain: String,
}

pub(super) fn gather(dir: &Path, bundle: &mut Bundle) -> Result<(), Failure> {
    let listed = list(dir).map_err(|error| unreadable(dir, &error));
    let files = listed.as_ref().map_or(&[][..], |files| &files.files);
    let is_segment = |file: &&File| {
        let path = Path::new(&file.path);
        // In a folder of its own; votes.log is no segment.
        path.extension().is_some_and(|e| e == "log") && path.components().count() == 2
    };
    let segments: Vec<Segment> =
        files.iter().filter(is_segment).map(|file| head(dir, &file.path)).collect();
    bundle.put("data/segments.json".to_owned(), json_list("debug.segments", &segments))?;
    bundle
        .put("data/files.json".to_owned(), listed.and_then(|files| json("debug.files", &files)))?;
    let votes = dump::votes(&OsDisk, &dir.join("votes.log"));
    let votes = votes.map_err(|error| Failure::new(chain(&error)));
    let votes = votes.and_then(|votes| json_list("dump.votes", &crate::dump::votes(&votes)));
    bundle.put("data/votes.json".to_owned(), votes)?;
    let identity = fs::read(dir.join(IDENTITY));
    let identity = identity.map_err(|error| unreadable(&dir.join(IDENTITY), &error));
    bundle.put(format!("data/{IDENTITY}"), identity)
}

fn head(dir: &Path, path: &str) -> Segment {
    let (head, problem) = match dump::segment(&OsDisk, &dir.join(path)) {
        Ok(segment) => {
            let head = segment.head();
            let head = Head {
                group: head.group.to_string(),
                bytes: head.bytes,
                first_index: head.frontier.next_index().0,
                base_offset: head.frontier.next_offset.0,
                generation: format!("{:016x}", head.generation),
                chain: format!("{:08x}", head.frontier.chain),
            };
            (Some(head), None)
        }
        Err(error) => (None, Some(chain(&error))),
    };
    Segment { path: path.to_owned(), head, problem }
}

/// All files below a directory, links not followed.
fn list(dir: &Path) -> io::Result<Files> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    let mut more = false;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(dir.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Deleted since it was listed: its broker is running.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_dir() {
                folders.push(path);
            } else if files.len() < FILES_MAX {
                files.push(File { path: path.display().to_string(), bytes: metadata.len() });
            } else {
                more = true;
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Files { more, files })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::because(format!("read {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_with_their_folders_and_sizes() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/x"), "123").unwrap();
        fs::write(dir.path().join("node.toml"), "").unwrap();
        let files = list(dir.path()).unwrap();
        let found: Vec<_> = files.files.iter().map(|f| (f.path.as_str(), f.bytes)).collect();
        assert_eq!(found, [("a/b/x", 3), ("node.toml", 0)]);
        assert!(!files.more);
        assert!(list(&dir.path().join("nothing")).is_err());
    }

    #[test]
    fn a_file_that_is_no_segment_is_a_problem_and_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x.log"), "key and value").unwrap();
        let segment = head(dir.path(), "x.log");
        assert!(segment.head.is_none());
        let problem = segment.problem.unwrap();
        assert!(!problem.contains('\n') && !problem.contains("key and value"), "{problem}");
    }
}
