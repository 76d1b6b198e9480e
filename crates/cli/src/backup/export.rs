//! `tidelog topic export`.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use tidelog_client::admin::{ConfigSource, OffsetAt, TopicFacts};
use tidelog_client::{Client, ErrorCode};
use tidelog_types::{TopicName, TopicPartition};

use super::args::ExportArgs;
use super::format::{End, Head, PartitionEnd, VERSION};
use super::progress::Progress;
use super::target::{Draft, files, unwritten};
use super::writer::Writer;
use super::{groups, stored};
use crate::args::Globals;
use crate::connect::connect;
use crate::consume::consumed;
use crate::interrupt::Interrupt;
use crate::moment::{Zone, now};
use crate::outcomes::Outcomes;
use crate::{Column, Failure, Page, offsets};

const BUFFER_BYTES: usize = 256 << 10;

/// A file that holds a topic.
#[derive(Debug, Serialize)]
struct Exported {
    topic: String,
    file: PathBuf,
    bytes: u64,
    records: u64,
    /// How many offsets of groups.
    groups: u64,
    partitions: Vec<PartitionEnd>,
}

const COLUMNS: &[Column] = &[
    Column::text("TOPIC"),
    Column::number("PARTITIONS"),
    Column::number("RECORDS"),
    Column::number("GROUP-OFFSETS"),
    Column::number("BYTES"),
    Column::text("FILE"),
];

/// Writes a file for each topic.
pub(crate) async fn run(globals: &Globals, args: &ExportArgs) -> Result<ExitCode, Failure> {
    let mut topics = args.topics.clone();
    topics.sort();
    topics.dedup();
    let client = connect(globals).await?;
    let files = files(&args.to, &topics)?;
    let mut interrupt = Interrupt::listen()?;
    let mut outcomes = Outcomes::default();
    let mut all = Vec::new();
    for (topic, file) in topics.iter().zip(files) {
        let export = Export { client: &client, topic, groups: args.groups, file: &file };
        match export.run(&mut interrupt).await {
            Ok(exported) => {
                all.push(exported);
                outcomes.succeed();
            }
            Err(failure) => {
                let named = |why: &str| format!("export of {topic}: {why}");
                outcomes.fail(failure.at(named));
            }
        }
        if interrupt.was_asked() {
            break;
        }
    }
    if !all.is_empty() {
        let page = |_| Page::new().table(COLUMNS, all.iter().map(Exported::cells));
        globals.output().items("topic.export", &all, page)?;
    }
    outcomes.finish()
}

/// The export of one topic.
struct Export<'a> {
    client: &'a Client,
    topic: &'a TopicName,
    groups: bool,
    file: &'a Path,
}

impl Export<'_> {
    async fn run(&self, interrupt: &mut Interrupt) -> Result<Exported, Failure> {
        let facts = self.client.admin().describe_topic(self.topic).await?;
        refuse_compacted(&facts)?;
        let name = |at: &tidelog_client::admin::PartitionFacts| TopicPartition {
            topic: self.topic.clone(),
            partition: at.partition,
        };
        let partitions: Vec<_> = facts.partitions.iter().map(name).collect();
        // Before the ends: what a group has done must be in the file.
        let commits = match self.groups {
            true => groups::committed(self.client, self.topic).await?,
            false => Vec::new(),
        };
        let starts = offsets::list(self.client, &partitions, OffsetAt::Earliest).await?;
        let ends = offsets::list(self.client, &partitions, OffsetAt::Latest).await?;
        let unwritten = unwritten(self.file);

        let draft = Draft::create(self.file)?;
        let out = BufWriter::with_capacity(BUFFER_BYTES, draft.file());
        let head = head(&facts, &self.client.cluster_id());
        let mut writer = Writer::begin(out, &head).map_err(&unwritten)?;
        commits.iter().try_for_each(|commit| writer.commit(commit)).map_err(&unwritten)?;
        let total = ends.iter().zip(&starts).map(|(end, start)| end.0.saturating_sub(start.0));
        let mut progress = Progress::new("exporting", total.sum());
        let mut reader = stored::reader(self.client, &partitions, &ends).await?;
        loop {
            let record = tokio::select! {
                biased;
                () = interrupt.asked() => return Err(Failure::new("interrupted, no file was made")),
                record = reader.recv() => record,
            };
            let Some(record) = record.map_err(|error| unread(error.into()))? else { break };
            writer.record(&consumed(record)).map_err(&unwritten)?;
            progress.step();
        }
        let (out, end, bytes) = writer.finish(&ends).map_err(&unwritten)?;
        drop(out);
        draft.publish(&end)?;
        Ok(Exported::new(self, end, bytes))
    }
}

/// A backup holds records whose offsets follow each other; compaction leaves holes between them.
fn refuse_compacted(facts: &TopicFacts) -> Result<(), Failure> {
    let mut configs = facts.configs.iter();
    let policy = configs.find(|config| config.name == "cleanup.policy");
    match policy.filter(|config| config.value.contains("compact")) {
        Some(policy) => Err(Failure::new(format!(
            "cleanup.policy is {}, and a backup cannot hold the holes that compaction leaves",
            policy.value
        ))
        .next_step("save its records with `tidelog consume TOPIC --until end --json`")),
        None => Ok(()),
    }
}

/// What to do when records were deleted before they were read.
fn unread(failure: Failure) -> Failure {
    match failure.is(ErrorCode::OffsetOutOfRange) {
        true => failure.next_step(
            "records were deleted while they were read: export again, or raise retention.ms \
             meanwhile",
        ),
        false => failure,
    }
}

fn head(facts: &TopicFacts, cluster: &str) -> Head {
    let own = facts.configs.iter().filter(|config| config.source == ConfigSource::Topic);
    Head {
        tidelog_backup: VERSION,
        topic: facts.name.to_string(),
        cluster: cluster.to_owned(),
        exported: Zone::Utc.show(now()),
        // Fits: a broker counts them in 32 bits.
        partitions: facts.partitions.len() as u32,
        replication_factor: facts.replication_factor(),
        configs: own.map(|config| (config.name.clone(), config.value.clone())).collect(),
    }
}

impl Exported {
    fn new(export: &Export<'_>, end: End, bytes: u64) -> Self {
        let End { records, groups, partitions } = end;
        let (topic, file) = (export.topic.to_string(), export.file.to_owned());
        Self { topic, file, bytes, records, groups, partitions }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.topic.clone(),
            self.partitions.len().to_string(),
            self.records.to_string(),
            self.groups.to_string(),
            self.bytes.to_string(),
            self.file.display().to_string(),
        ]
    }
}
