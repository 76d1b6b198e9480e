//! The votes and the ends of logs as they would be read back from a disk after a power loss now.

use std::collections::BTreeMap;
use std::path::Path;

use tidelog_log::disk::{Disk, Open};
use tidelog_log::sim::SimDisk;
use tidelog_log::{GroupRecord, Vote, dump};
use tidelog_types::{GroupId, LogIndex, Term, TopicId};

use crate::cluster::DATA_DIR;
use crate::disk::TracedDisk;

/// The durable votes of a disk.
pub(crate) type Votes = BTreeMap<GroupId, Vote>;

/// How the directory of a log ends that another one replaces.
const REPLACED: &str = ".old";

/// Where a node keeps them.
const FILE: &str = "votes.log";

/// The durable votes on `disk`; none when there is no file yet.
pub(crate) fn durable(disk: &TracedDisk) -> Result<Votes, String> {
    Ok(records(disk)?.into_iter().filter_map(|(group, it)| Some((group, it.vote?))).collect())
}

/// Below which index each group's log on `disk` is known to be safe.
pub(crate) fn marks(disk: &TracedDisk) -> Result<Vec<(GroupId, LogIndex)>, String> {
    Ok(records(disk)?.into_iter().map(|(group, record)| (group, record.mark)).collect())
}

/// Whether the group is a partition of a topic that users see.
pub(crate) fn is_of_topic(group: &GroupId) -> bool {
    *group != GroupId::METADATA && group.topic != TopicId::CONSUMER_GROUPS
}

fn records(disk: &TracedDisk) -> Result<Vec<(GroupId, GroupRecord)>, String> {
    let path = Path::new(DATA_DIR).join(FILE);
    let bytes = disk.look_at_durable(|image| image.bytes(&path).map(<[u8]>::to_vec));
    let Some(bytes) = bytes else { return Ok(Vec::new()) };
    // A disk with nothing else on it: copying the whole one at each look would be slow.
    let copy = copy_of(&bytes).map_err(|err| err.to_string())?;
    dump::votes(&copy, Path::new(FILE)).map_err(|err| err.to_string())
}

fn copy_of(bytes: &[u8]) -> std::io::Result<SimDisk> {
    let disk = SimDisk::new();
    let file = disk.open(Path::new(FILE), Open::Create)?;
    file.write_at(&[std::io::IoSlice::new(bytes)], 0)?;
    Ok(disk)
}

/// The term of the last durable entry of each group on `disk`; damage behind it is passed over.
pub(crate) fn last_terms(disk: &TracedDisk) -> BTreeMap<String, Term> {
    let disk = disk.durable();
    let data = Path::new(DATA_DIR);
    let last = |group: String| {
        let files = disk.list(&data.join(&group)).ok()?;
        let mut logs: Vec<_> = files.iter().filter(|file| file.ends_with(".log")).collect();
        logs.sort();
        // The newest may have been made and hold nothing yet.
        let segments = logs.into_iter().rev();
        let last = segments.filter_map(|file| {
            let segment = dump::segment(&disk, &data.join(&group).join(file)).ok()?;
            let entries = segment.filter_map(|entry| entry.ok()?.ok());
            entries.map(|entry| entry.header.position.term).last()
        });
        let term = { last }.next()?;
        Some((group, term))
    };
    let groups = disk.list(data).unwrap_or_default().into_iter();
    groups.filter(|group| !group.ends_with(REPLACED)).filter_map(last).collect()
}
