//! `tidelog topic import`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::process::ExitCode;
use std::time::Duration;

use tidelog_client::Client;
use tidelog_types::{PartitionId, TopicName};

use super::args::ImportArgs;
use super::contents::Contents;
use super::filling::Filling;
use super::groups::{self, Moved};
use super::imported::Imported;
use super::place::{self, Place};
use super::reader::{Damage, Item, Reader};
use super::stored;
use super::sums::Sums;
use super::target::failed;
use crate::args::Globals;
use crate::connect::connect;
use crate::interrupt::Interrupt;
use crate::{Failure, chain};

const BUFFER_BYTES: usize = 256 << 10;
/// How long a new topic may take to get its leaders.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// What a producer may hold of records that are not acked, at least.
const PRODUCER_BYTES: usize = 32 << 20;

/// Makes a topic of a file, and compares the two.
///
/// Everything that can be wrong with file, topic and groups is found before the topic is made. Groups
/// come last: none goes on with a topic that is not whole.
pub(crate) async fn run(globals: &Globals, args: &ImportArgs) -> Result<ExitCode, Failure> {
    let file = open(args)?;
    let contents = Contents::check(BufReader::with_capacity(BUFFER_BYTES, &file));
    let contents = contents.map_err(|damage| damaged(args, &damage))?;
    let client = connect(globals).await?;
    let topic = args.into.clone().unwrap_or_else(|| contents.topic.clone());
    let groups = match args.no_groups {
        true => BTreeMap::new(),
        false => groups::moved(&contents.commits, &contents.end),
    };
    let place = place::find(&client, args, &contents, &topic).await?;
    groups::check(&client, &topic, &groups, args.overwrite_groups).await?;
    let import = Import { client: &client, args, file: &file, contents: &contents, topic: &topic };
    let mut interrupt = Interrupt::listen()?;
    let held = match place {
        Place::Free => {
            // Before anything is called half-made: somebody else may have made it meanwhile.
            place::create(&client, args, &contents, &topic).await?;
            None
        }
        Place::Begun(held) => {
            tokio::select! {
                biased;
                () = interrupt.asked() => return Err(Failure::new("interrupted, nothing was written")),
                compared = import.compare_beginning(&held) => compared?,
            }
            Some(held)
        }
    };
    let filled = tokio::select! {
        biased;
        () = interrupt.asked() => Err(Failure::new("interrupted")),
        filled = import.fill(held.as_deref(), &groups) => filled,
    };
    filled.map_err(|failure| half_made(args, &topic, &failure))?;
    let imported = Imported::new(&topic, args, &contents, held, groups);
    globals.output().item("topic.import", &imported, |_| imported.page())?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the file, which is read more than once.
fn open(args: &ImportArgs) -> Result<File, Failure> {
    let cannot = |error: io::Error| failed("open", &args.file, &error);
    let file = File::open(&args.file).map_err(cannot)?;
    match file.metadata().map_err(cannot)?.is_file() {
        true => Ok(file),
        false => Err(Failure::usage(format!("{} is no regular file", args.file.display()))
            .next_step("an import reads it more than once: write it to a file first")),
    }
}

fn damaged(args: &ImportArgs, damage: &Damage) -> Failure {
    Failure::new(format!("{} {}", args.file.display(), chain(damage)))
        .next_step("nothing was written: use another copy of it")
}

/// A failure that leaves the topic as it may be now.
fn half_made(args: &ImportArgs, topic: &TopicName, failure: &Failure) -> Failure {
    let lines = failure.lines().join(", ");
    let file = args.file.display();
    let into = args.into.as_ref().map(|name| format!(" --into {name}")).unwrap_or_default();
    Failure::new(format!("topic {topic} is half-made: {lines}")).next_step(format!(
        "go on with `tidelog topic import {file}{into} --resume`, or delete it: tidelog topic \
         delete {topic}"
    ))
}

/// One import, after all was checked.
struct Import<'a> {
    client: &'a Client,
    args: &'a ImportArgs,
    file: &'a File,
    contents: &'a Contents,
    topic: &'a TopicName,
}

impl Import<'_> {
    async fn fill(
        &self,
        held: Option<&[u64]>,
        groups: &BTreeMap<String, Vec<Moved>>,
    ) -> Result<(), Failure> {
        let Self { client, args, contents, topic, .. } = *self;
        client.admin().wait_for_leaders(topic, LEADERS_TIMEOUT).await?;
        let nothing = vec![0; contents.end.partitions.len()];
        let largest = contents.record_bytes_max;
        let producer = client
            .producer()
            .compression(args.compression.into())
            .record_bytes_max(largest.max(1))
            .buffer_bytes(largest.max(PRODUCER_BYTES))
            .build()
            .await?;
        let filling = Filling::new(producer, topic, contents, held.unwrap_or(&nothing));
        filling.run(self.lines()?).await?;
        self.compare().await?;
        groups::commit(client, topic, groups, args.overwrite_groups).await?;
        place::complete(client, contents, topic).await
    }

    /// The file from its beginning.
    fn lines(&self) -> Result<BufReader<&File>, Failure> {
        let mut file = self.file;
        let sought = file.seek(SeekFrom::Start(0));
        sought.map_err(|error| failed("read", &self.args.file, &error))?;
        Ok(BufReader::with_capacity(BUFFER_BYTES, file))
    }

    /// Reads the topic back: it must come to what the file holds.
    async fn compare(&self) -> Result<(), Failure> {
        let partitions = &self.contents.end.partitions;
        let counts: Vec<u64> = partitions.iter().map(|at| at.end - at.start).collect();
        let stored = stored::sums(self.client, self.topic, &counts, "comparing").await?;
        for (wanted, records) in partitions.iter().zip(counts) {
            let sum = stored.of(PartitionId(wanted.partition));
            let found = sum.map_or((0, 0, 0), |sum| (sum.first.0, sum.records, sum.crc));
            if found != (0, records, wanted.crc.0) {
                let number = wanted.partition;
                let (_, count, _) = found;
                return Err(Failure::new(format!(
                    "partition {number} read back is not what the file holds ({count} records, the \
                     file {records})"
                )));
            }
        }
        Ok(())
    }

    /// Compares what an interrupted import left with the beginning of the file.
    async fn compare_beginning(&self, held: &[u64]) -> Result<(), Failure> {
        let wanted = self.beginning(held).map_err(|damage| damaged(self.args, &damage))?;
        let stored = stored::sums(self.client, self.topic, held, "comparing").await?;
        let same = |sums: &Sums, partition| sums.of(partition).map(|sum| (sum.records, sum.crc));
        for partition in (0..held.len() as u32).map(PartitionId) {
            if same(&wanted, partition) != same(&stored, partition) {
                let differ = format!("the records of partition {partition} are others");
                return Err(place::other(self.topic, &differ));
            }
        }
        Ok(())
    }

    /// The sums of the first `held` records of each partition of the file.
    fn beginning(&self, held: &[u64]) -> Result<Sums, Damage> {
        let mut file = self.file;
        file.seek(SeekFrom::Start(0))?;
        let mut reader = Reader::open(BufReader::with_capacity(BUFFER_BYTES, file))?;
        let mut sums = Sums::default();
        while let Some(item) = reader.next()? {
            let Item::Record(record) = item else { continue };
            let at = record.partition.0 as usize;
            if record.offset.0 - self.contents.end.partitions[at].start < held[at] {
                // Follows: the reader checked it.
                let _ = sums.add(&record);
            }
        }
        Ok(sums)
    }
}
