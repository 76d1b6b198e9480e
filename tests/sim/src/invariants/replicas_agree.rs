//! Once healed and at rest, the replicas of a group hold the same entries, byte for byte by their
//! chain values, and no damage.

use std::collections::BTreeMap;
use std::path::Path;

use tidelog_log::disk::Disk;
use tidelog_log::{dump, sim::SimDisk};

use crate::cluster::DATA_DIR;
use crate::disk::TracedDisk;

/// The entries of one replica: index, term, chain value.
type Entries = Vec<(u64, u64, u32)>;

/// Whether all replicas of all groups hold the same durable entries, those whose disks have rotted
/// included: they are to be filled up again. Each of the `disks` comes with its broker.
pub(crate) fn check(disks: &[(u32, &TracedDisk)]) -> Result<(), String> {
    let mut groups: BTreeMap<String, Vec<(u32, Entries)>> = BTreeMap::new();
    for (broker, disk) in disks {
        let disk = disk.durable();
        for group in disk.list(Path::new(DATA_DIR)).unwrap_or_default() {
            let dir = Path::new(DATA_DIR).join(&group);
            if let Ok(files) = disk.list(&dir) {
                let entries = entries(&disk, &dir, &files)?;
                groups.entry(group).or_default().push((*broker, entries));
            }
        }
    }
    groups.iter().try_for_each(|(group, replicas)| agree(group, replicas))
}

fn entries(disk: &SimDisk, dir: &Path, files: &[String]) -> Result<Entries, String> {
    let mut entries = Entries::new();
    for file in files.iter().filter(|file| file.ends_with(".log")) {
        let path = dir.join(file);
        let shown = |err: &dyn std::fmt::Display| format!("{}: {err}", path.display());
        for entry in dump::segment(disk, &path).map_err(|err| shown(&err))? {
            let header = entry.map_err(|err| shown(&err))?.map_err(|err| shown(&err))?.header;
            entries.push((header.position.index.0, header.position.term.0, header.chain));
        }
    }
    Ok(entries)
}

fn agree(group: &str, replicas: &[(u32, Entries)]) -> Result<(), String> {
    // Logs begin where each replica's retention let them.
    let from =
        replicas.iter().filter_map(|(_, entries)| entries.first()).map(|entry| entry.0).max();
    let tail = |entries: &Entries| {
        let kept = entries.iter().filter(|entry| Some(entry.0) >= from);
        kept.copied().collect::<Entries>()
    };
    let Some((first, entries)) = replicas.first() else { return Ok(()) };
    let expected = tail(entries);
    for (other, entries) in &replicas[1..] {
        let found = tail(entries);
        if found != expected {
            let at = expected.iter().zip(&found).position(|(one, two)| one != two);
            let (one, two) = (expected.len(), found.len());
            return Err(format!(
                "{group}: brokers {first} and {other} hold {one} and {two} entries, and differ at \
                 {at:?}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_that_lacks_or_changes_an_entry_is_found() {
        let whole: Entries = vec![(0, 1, 10), (1, 1, 20), (2, 2, 30)];
        let check =
            |other: &[(u64, u64, u32)]| agree("g", &[(1, whole.clone()), (2, other.into())]);
        assert_eq!(check(&whole), Ok(()));
        // A log may begin later, never end sooner.
        assert_eq!(check(&whole[1..]), Ok(()));
        assert!(check(&whole[..2]).is_err());
        assert!(check(&[(0, 1, 10), (1, 1, 21), (2, 2, 30)]).is_err());
    }
}
