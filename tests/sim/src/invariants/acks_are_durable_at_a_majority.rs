//! P1: when an ack arrives, the record is on the stable storage of a majority of its replicas.
//!
//! Looked up in the files as bytes, so that nothing of the code under test takes part.

use std::path::Path;

use tidelog_client::PartitionId;
use tidelog_log::disk::{Disk, Open};
use tidelog_log::sim::SimDisk;

use crate::cluster::{DATA_DIR, REPLICAS};
use crate::disk::TracedDisk;

/// How many of `disks` would still hold `value` after a power loss now.
pub(crate) fn check(
    disks: &[TracedDisk],
    partition: PartitionId,
    value: &str,
) -> Result<(), String> {
    let copies = disks.iter().filter(|disk| holds(&disk.durable(), partition, value)).count();
    if copies > REPLICAS as usize / 2 {
        return Ok(());
    }
    Err(format!("{value:?} of partition {partition} was acked with {copies} durable copies"))
}

fn holds(disk: &SimDisk, partition: PartitionId, value: &str) -> bool {
    let data = Path::new(DATA_DIR);
    let dirs = disk.list(data).unwrap_or_default();
    let of_partition = dirs.iter().filter(|dir| dir.ends_with(&format!("-{partition}")));
    of_partition.into_iter().any(|dir| {
        let dir = data.join(dir);
        let files = disk.list(&dir).unwrap_or_default();
        let mut logs = files.iter().filter(|file| file.ends_with(".log"));
        logs.any(|file| contains(disk, &dir.join(file), value.as_bytes()))
    })
}

fn contains(disk: &SimDisk, path: &Path, value: &[u8]) -> bool {
    let Ok(file) = disk.open(path, Open::Read) else { return false };
    let mut bytes = vec![0; file.len().unwrap_or_default() as usize];
    file.read_at(&mut bytes, 0).is_ok() && bytes.windows(value.len()).any(|part| part == value)
}
