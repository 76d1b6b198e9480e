//! A bit that flips on a disk, in a place where it must be noticed.

use std::path::{Path, PathBuf};

use tidelog_log::disk::Disk;
use tidelog_log::dump;
use tidelog_log::sim::SimDisk;

use crate::cluster::DATA_DIR;
use crate::dice::Dice;
use crate::disk::TracedDisk;
use crate::votes;

/// What an envelope has at least; behind its parts the body lies. Padding comes after both.
const ENVELOPE_BYTES: u64 = 80;

/// Where an entry lies.
struct Target {
    group: String,
    path: PathBuf,
    position: u64,
    bytes: u64,
}

/// Flips a bit of an entry of the topic on `disk`, whose machine is off, and gives the entry's group.
///
/// Only what lies below the durable mark: what rots above it counts as a copy that was never written.
/// And only behind the newest start point: what lies before is read when somebody asks for it, and
/// repair is not built yet.
pub(crate) fn flip(disk: &TracedDisk, dice: &mut Dice) -> Option<String> {
    let targets = targets(disk)?;
    let at = targets.get(dice.within(0..targets.len().max(1) as u64) as usize)?;
    let byte = at.position + dice.within(0..at.bytes);
    disk.flip(&at.path, byte * 8 + dice.within(0..8)).ok()?;
    Some(at.group.clone())
}

fn targets(disk: &TracedDisk) -> Option<Vec<Target>> {
    let marks = votes::marks(disk).ok()?;
    let disk = disk.durable();
    let mut targets = Vec::new();
    for (group, mark) in marks.iter().filter(|(group, _)| votes::is_of_topic(group)) {
        let name = group.to_string();
        for path in segments(&disk, &Path::new(DATA_DIR).join(&name)) {
            let Ok(entries) = dump::segment(&disk, &path) else { continue };
            let entries = entries.filter_map(|entry| entry.ok()?.ok());
            targets.extend(entries.filter(|entry| entry.header.position.index < *mark).map(
                |entry| Target {
                    group: name.clone(),
                    path: path.clone(),
                    position: entry.position,
                    bytes: ENVELOPE_BYTES + u64::from(entry.header.body_bytes),
                },
            ));
        }
    }
    Some(targets)
}

/// The segments from the newest start point on.
fn segments(disk: &SimDisk, dir: &Path) -> Vec<PathBuf> {
    let files = disk.list(dir).unwrap_or_default();
    let start = files.iter().filter_map(|file| file.strip_suffix(".start")).max();
    let logs = files.iter().filter_map(|file| Some((file.strip_suffix(".log")?, file)));
    logs.filter(|(stem, _)| Some(*stem) >= start).map(|(_, file)| dir.join(file)).collect()
}
