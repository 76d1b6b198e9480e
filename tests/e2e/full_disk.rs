//! Small filesystems that fill up, mounted for the test: for root only, elsewhere skipped with a line.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidelog::demo::Load;

use crate::stage::{PARTITIONS, PATIENCE, Stage, acks_go_on, until};

/// A tmpfs, unmounted on drop.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts `mib` MiB at `path`; `None` where that is not allowed.
    fn mount(path: &Path, mib: u32) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let options = format!("size={mib}m,mode=0755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tidelog-e2e"]).arg(path);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(path.to_owned()))
    }

    /// Takes all the space that is left.
    fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        for size in [1 << 16, 1 << 12] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// Below a name that a broker leaves alone.
    fn filler(&self) -> PathBuf {
        self.0.join("filler.tmp")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, for a broker may still have files open; its directory is a test's and goes away.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A cluster whose brokers `small` have a small filesystem each.
async fn stage(small: &[u32]) -> Option<(Stage, Vec<SmallDisk>)> {
    let stage = Stage::new().await;
    let disks = small.iter().map(|id| SmallDisk::mount(stage.cluster.broker(*id).data_dir(), 48));
    let disks: Option<Vec<SmallDisk>> = disks.collect();
    if disks.is_none() {
        println!("skipped: mounting a tmpfs is not allowed here");
    }
    let mut stage = Some(stage).filter(|_| disks.is_some())?;
    stage.start_all().await;
    stage.create_topic().await;
    Some((stage, disks?))
}

/// Restarts the brokers that gave up, now that there is space again.
async fn heal(stage: &mut Stage, ids: &[u32]) {
    for id in ids {
        stage.cluster.broker_mut(*id).kill().unwrap();
    }
    stage.start_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_full_disk_stops_no_partition_and_loses_nothing() {
    let Some((mut stage, disks)) = stage(&[3]).await else { return };
    let (load, acks) = stage.load().await;
    acks_go_on(&load, 50).await;
    disks[0].fill();
    acks_go_on(&load, 500).await;
    disks[0].free();
    heal(&mut stage, &[3]).await;
    acks_go_on(&load, 50).await;
    stage.audit(load, &acks).await;
    drop(disks);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disks_everywhere_stop_acks_and_lose_nothing() {
    let Some((mut stage, disks)) = stage(&[1, 2, 3]).await else { return };
    let (load, acks) = stage.load().await;
    acks_go_on(&load, 50).await;
    disks.iter().for_each(SmallDisk::fill);
    let mut seen = acked(&load);
    until("acks stop", async || {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let before = std::mem::replace(&mut seen, acked(&load));
        before == seen
    })
    .await;
    // Whoever gave up did so in words, and whoever did not still answers.
    for id in 1..=3 {
        let broker = stage.cluster.broker_mut(id);
        if !broker.is_running() {
            let log = fs::read_to_string(broker.log()).unwrap();
            assert!(log.contains("space"), "broker {id} ended without saying why");
        }
    }
    disks.iter().for_each(SmallDisk::free);
    heal(&mut stage, &[1, 2, 3]).await;
    stage.cluster.ready(PATIENCE).await.unwrap();
    acks_go_on(&load, 50).await;
    stage.audit(load, &acks).await;
    drop(disks);
}

fn acked(load: &Load) -> u64 {
    (0..PARTITIONS).map(|p| load.tide().acked_of(p)).sum()
}
