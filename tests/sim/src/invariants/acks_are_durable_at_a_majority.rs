//! P1: when an ack arrives, the record is on the stable storage of a majority of its replicas.
//!
//! A copy that was there and was lost for good since counts: of the answer that depends on it, and the
//! loss of its disk, either may be the first. One on a broker that was removed does not: the groups did
//! without it before.
//!
//! Looked up in the files as bytes, so that nothing of the code under test takes part.

use std::path::Path;

use tidelog_client::PartitionId;
use tidelog_log::sim::Image;

use crate::cluster::{DATA_DIR, REPLICAS};
use crate::disk::TracedDisk;

/// Segments, the newest first, that are searched before the older ones of any disk are: what has just
/// been acked lies at the end, wherever it lies at all.
const NEWEST: usize = 3;

/// Counts the `disks`, given with their brokers, that would hold `value` after a power loss now.
pub(crate) fn check(
    disks: &[(u32, &TracedDisk)],
    partition: PartitionId,
    value: &str,
) -> Result<(), String> {
    let enough = REPLICAS as usize / 2 + 1;
    let copies = |segments_max| {
        let holds = |(_, disk): &&(u32, &TracedDisk)| {
            disk.was_durable(|image| holds(image, partition, value.as_bytes(), segments_max))
        };
        disks.iter().filter(holds).take(enough).count()
    };
    if copies(NEWEST) >= enough {
        return Ok(());
    }
    match copies(usize::MAX) {
        all if all >= enough => Ok(()),
        all => {
            Err(format!("{value:?} of partition {partition} was acked with {all} durable copies"))
        }
    }
}

fn holds(image: &Image, partition: PartitionId, value: &[u8], segments_max: usize) -> bool {
    let data = Path::new(DATA_DIR);
    let partition = format!("-{partition}");
    image.names(data).filter(|dir| dir.ends_with(&partition)).any(|dir| {
        let dir = data.join(dir);
        let logs = image.names(&dir).rev().filter(|file| file.ends_with(".log"));
        let mut logs = logs.take(segments_max).filter_map(|file| image.bytes(&dir.join(file)));
        logs.any(|bytes| contains(bytes, value))
    })
}

fn contains(bytes: &[u8], value: &[u8]) -> bool {
    // The first byte apart: comparing whole windows would be most of what a simulation does.
    let begins = |window: &&[u8]| window[0] == value[0];
    bytes.windows(value.len()).rev().filter(begins).any(|window| window == value)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use tidelog_log::disk::{Disk, Open};

    use super::*;
    use crate::trace::Trace;

    /// A disk with `value` in the log of partition 1, synced or not.
    fn disk(value: &str, synced: bool) -> TracedDisk {
        let disk = TracedDisk::new("broker", Trace::default());
        let dir = Path::new(DATA_DIR).join("topic-1");
        disk.create_dir(Path::new(DATA_DIR)).unwrap();
        disk.create_dir(&dir).unwrap();
        let file = disk.open(&dir.join("0.log"), Open::Create).unwrap();
        for parent in [Path::new("/"), Path::new(DATA_DIR), &dir] {
            disk.sync_dir(parent).unwrap();
        }
        file.write_at(&[IoSlice::new(format!("before {value} behind").as_bytes())], 0).unwrap();
        if synced {
            file.sync_data().unwrap();
        }
        disk
    }

    #[test]
    fn record_that_one_disk_has_synced_and_another_only_written_is_found() {
        let check = |disks: &[TracedDisk]| {
            let disks: Vec<_> = (1..).zip(disks).collect();
            check(&disks, PartitionId(1), "value")
        };
        let (synced, written) = (|| disk("value", true), || disk("value", false));
        assert_eq!(check(&[synced(), written(), synced()]), Ok(()));
        assert!(check(&[synced(), written(), written()]).is_err());
        let wiped = synced();
        wiped.wipe();
        assert_eq!(check(&[synced(), wiped, written()]), Ok(()));
        assert!(check(&[synced(), disk("other", true), disk("other", true)]).is_err());
    }
}
