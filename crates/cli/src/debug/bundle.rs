//! `tidelog debug bundle`: the parts of a bundle, one after the other.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::HumanBytes;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::timeout;

use super::archive::Archive;
use super::{cluster, data};
use crate::args::Globals;
use crate::output::{json_item, json_items, plural};
use crate::progress::Teller;
use crate::{Exit, Failure, Page, version};

/// How long a part may take: a broker that hangs must not hold up the others.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// What whoever opens a bundle reads first.
const README: &str = "\
Made by `tidelog debug bundle`. There are no keys, values or headers of records in it.

version.json           what made this: version, commit, feature levels, formats
cluster/info.json      as `tidelog cluster info -o json`, and so on:
cluster/health.json    cluster health
cluster/brokers.json   cluster brokers
cluster/topics.json    topic describe, of all topics: configs, partitions, offsets
cluster/raft.json      partition raft, of all partitions
cluster/groups.json    group describe, of all groups, with and without --lag
brokers/ID/            of each broker: its effective configuration, its page of metrics
data/                  of --data: names and sizes of all files, heads of segments, votes, identity

A part that could not be had is a file NAME.error.txt, which says why.
Brokers keep no log lines, they write them to stderr: ask for what caught that (journalctl -u tidelog).
";

/// Arguments of `debug bundle`.
#[derive(Args, Debug)]
pub(crate) struct BundleArgs {
    /// The file to write [default: tidelog-bundle-TIME.tar.gz]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Take the heads of the files of this data directory, too; its broker may be running
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// What became of it.
#[derive(Debug, Serialize)]
struct Bundled {
    file: String,
    bytes: u64,
    parts: u64,
    /// The parts that could not be had, and why.
    missing: Vec<Missing>,
}

#[derive(Debug, Serialize)]
struct Missing {
    part: String,
    reason: String,
}

pub(super) async fn run(globals: &Globals, args: &BundleArgs) -> Result<ExitCode, Failure> {
    let path = args.file.clone().unwrap_or_else(|| {
        PathBuf::from(format!(
            "tidelog-bundle-{}.tar.gz",
            Timestamp::now().strftime("%Y%m%dT%H%M%SZ")
        ))
    });
    let archive = Archive::create(&path).map_err(|error| not_written(&path, &error))?;
    let mut bundle = Bundle { archive, path, parts: 0, missing: Vec::new(), teller: Teller::new() };
    bundle.put("README.txt".to_owned(), Ok(README.into()))?;
    bundle.put("version.json".to_owned(), version::json().map_err(Failure::from))?;
    cluster::gather(globals, &mut bundle).await?;
    if let Some(dir) = &args.data {
        data::gather(dir, &mut bundle)?;
    }
    bundle.finish(globals)
}

/// A bundle in the making.
pub(super) struct Bundle {
    archive: Archive,
    path: PathBuf,
    parts: u64,
    missing: Vec<Missing>,
    teller: Teller,
}

impl Bundle {
    /// Waits for a part, but not for ever, and puts it in.
    pub(super) async fn take(
        &mut self,
        name: impl Into<String>,
        part: impl Future<Output = Result<Vec<u8>, Failure>>,
    ) -> Result<(), Failure> {
        let late = || Failure::new(format!("no answer within {} s", PART_TIMEOUT.as_secs()));
        let part = timeout(PART_TIMEOUT, part).await.unwrap_or_else(|_| Err(late()));
        self.put(name.into(), part)
    }

    /// Puts a part in, or why it is not there; only a disk that takes no more ends it all.
    pub(super) fn put(
        &mut self,
        name: String,
        part: Result<Vec<u8>, Failure>,
    ) -> Result<(), Failure> {
        let not_written = |error: io::Error| not_written(&self.path, &error);
        match part {
            Ok(bytes) => {
                self.archive.add(&name, &bytes).map_err(not_written)?;
                self.teller.say(&format!("{name}: {}", HumanBytes(bytes.len() as u64)));
                self.parts += 1;
            }
            Err(failure) => {
                let reason = failure.to_string();
                let line = format!("{reason}\n");
                self.archive
                    .add(&format!("{name}.error.txt"), line.as_bytes())
                    .map_err(not_written)?;
                self.teller.say(&format!("{name}: missing: {reason}"));
                self.missing.push(Missing { part: name, reason });
            }
        }
        Ok(())
    }

    fn finish(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let Self { archive, path, parts, missing, .. } = self;
        let bytes = archive.finish().map_err(|error| not_written(&path, &error))?;
        let file = path.display().to_string();
        let bundled = Bundled { file, bytes, parts, missing };
        globals.output().item("debug.bundle", &bundled, |_| bundled.page())?;
        Ok(if bundled.missing.is_empty() { ExitCode::SUCCESS } else { Exit::Partial.into() })
    }
}

impl Bundled {
    fn page(&self) -> Page {
        let size = HumanBytes(self.bytes);
        let parts = plural(self.parts, "part");
        let sentence = format!("{}: {parts}, {size}", self.file);
        match self.missing.len() as u64 {
            0 => Page::new().verdict(true, sentence),
            missing => Page::new().verdict(
                false,
                format!("{sentence}; {} missing, see *.error.txt in it", plural(missing, "part")),
            ),
        }
    }
}

/// A part in JSON, as the command of this kind prints it.
pub(super) fn json<T: Serialize>(kind: &'static str, item: &T) -> Result<Vec<u8>, Failure> {
    json_item(kind, item).map_err(Failure::from)
}

/// The same of a list.
pub(super) fn json_list<T: Serialize>(kind: &'static str, items: &[T]) -> Result<Vec<u8>, Failure> {
    json_items(kind, items).map_err(Failure::from)
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::because(format!("{} cannot be written", path.display()), error);
    match error.kind() {
        io::ErrorKind::AlreadyExists => failure.next_step("name another file with -f"),
        _ => failure,
    }
}
