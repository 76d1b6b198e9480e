//! Small filesystems that fill up, mounted for the test: for root only, elsewhere skipped with a line.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidelog::demo::Load;
use tidelog_client::Record;

use crate::command::run;
use crate::stage::{PARTITIONS, Stage, TOPIC, acks_go_on, rounds, until};

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

    /// Takes space until so many bytes are left.
    fn fill_but(&self, left: u64) {
        let space = rustix::fs::statvfs(&self.0).unwrap();
        let taken = (space.f_bavail * space.f_frsize).saturating_sub(left);
        fs::write(self.filler(), vec![0; taken as usize]).unwrap();
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

/// A cluster whose brokers `small` have a small filesystem each, and take no records when less than
/// `free_min` of it is left.
async fn stage(small: &[u32], free_min: &str) -> Option<(Stage, Vec<SmallDisk>)> {
    let storage = format!("[storage]\nfree_min = \"{free_min}\"\n");
    let stage = Stage::with(3, |setup| setup.settings = storage.parse().unwrap()).await;
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

/// The processes of the brokers: the same ones as long as nobody was restarted, or gave up.
fn processes(stage: &Stage) -> Vec<Option<u32>> {
    (1..=3).map(|id| stage.cluster.broker(id).pid()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_full_disk_stops_no_partition_and_comes_back_by_itself() {
    let Some((mut stage, disks)) = stage(&[3], "0B").await else { return };
    let (load, acks) = stage.load().await;
    acks_go_on(&load, 50).await;
    // It starts on a full disk, too, and goes on with it.
    stage.cluster.broker_mut(3).kill().unwrap();
    disks[0].fill();
    stage.start_all().await;
    acks_go_on(&load, 500).await;
    disks[0].free();
    until("it has room again", async || low(&stage).is_empty()).await;
    caught_up(&stage).await;
    let before = processes(&stage);
    for _ in 0..rounds(3) {
        disks[0].fill();
        acks_go_on(&load, 500).await;
        until("the cluster says so", async || low(&stage) == [3]).await;
        until("it leads nothing", async || leaders(&stage)[2] == 0).await;
        disks[0].free();
        until("it has room again", async || low(&stage).is_empty()).await;
        caught_up(&stage).await;
        acks_go_on(&load, 50).await;
    }
    assert_eq!(processes(&stage), before, "nobody was restarted");
    stage.audit(load, &acks).await;
    drop(disks);
}

/// Disks that are full to the last byte, by another program: with a floor and without one.
#[tokio::test(flavor = "multi_thread")]
async fn full_disks_everywhere_stop_acks_and_nobody_is_restarted() {
    let mut longest = Duration::ZERO;
    for free_min in ["0B", "4MiB"] {
        let Some((mut stage, disks)) = stage(&[1, 2, 3], free_min).await else { return };
        let before = processes(&stage);
        let (load, acks) = stage.load_at((20, Duration::from_millis(2))).await;
        for _ in 0..rounds(4) {
            acks_go_on(&load, 50).await;
            disks.iter().for_each(SmallDisk::fill);
            let mut seen = acked(&load);
            until("acks stop", async || {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let before = std::mem::replace(&mut seen, acked(&load));
                before == seen
            })
            .await;
            disks.iter().for_each(SmallDisk::free);
            let freed = Instant::now();
            acks_go_on(&load, 1).await;
            longest = longest.max(freed.elapsed());
        }
        assert_eq!(processes(&stage), before, "nobody was restarted");
        until("all have room again", async || low(&stage).is_empty()).await;
        stage.audit(load, &acks).await;
        drop(disks);
    }
    println!("figure longest time from full to acks: {longest:?}");
}

/// Waits until every partition can do without a broker.
async fn caught_up(stage: &Stage) {
    let list = stage.cluster.bootstrap().join(",");
    until("it has caught up", async || {
        run(&["cluster", "can-stop", "1", "--wait", "10s", "-b", &list]).code == 0
    })
    .await;
}

/// The ids of disks that are nearly full, as the cluster says.
fn low(stage: &Stage) -> Vec<u64> {
    let list = stage.cluster.bootstrap().join(",");
    let told = run(&["cluster", "health", "-o", "json", "-b", &list]);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let low = told["item"]["low_on_space"].as_array().unwrap();
    low.iter().map(|id| id.as_u64().unwrap()).collect()
}

fn leaders(stage: &Stage) -> Vec<u64> {
    let list = stage.cluster.bootstrap().join(",");
    let told = run(&["cluster", "brokers", "-o", "json", "-b", &list]).succeeded();
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let brokers = told["items"].as_array().unwrap();
    brokers.iter().map(|broker| broker["leaders"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nearly_full_disk_leads_nothing_and_stops_nobody() {
    let Some((mut stage, disks)) = stage(&[3], "24MiB").await else { return };
    let (load, acks) = stage.load_at((40, Duration::from_millis(1))).await;
    acks_go_on(&load, 50).await;
    // No followers' records either.
    disks[0].fill_but(8 << 20);
    until("the cluster says so", async || low(&stage) == [3]).await;
    until("it leads nothing", async || leaders(&stage)[2] == 0).await;
    acks_go_on(&load, 200).await;
    disks[0].free();
    until("it has room again", async || low(&stage).is_empty()).await;
    caught_up(&stage).await;
    stage.audit(load, &acks).await;
    drop(disks);
}

#[tokio::test(flavor = "multi_thread")]
async fn nearly_full_disks_stop_records_alone_and_go_on_without_a_restart() {
    let Some((mut stage, disks)) = stage(&[1, 2, 3], "16MiB").await else { return };
    let before = processes(&stage);
    let (load, acks) = stage.load_at((20, Duration::from_millis(2))).await;
    let list = stage.cluster.bootstrap().join(",");
    let client = stage.client().await;
    let producer =
        client.producer().delivery_timeout(Duration::from_secs(1)).build().await.unwrap();
    let mut longest = Duration::ZERO;
    for round in 0..rounds(5) {
        acks_go_on(&load, 20).await;
        disks.iter().for_each(|disk| disk.fill_but(12 << 20));
        until("all say so", async || low(&stage) == [1, 2, 3]).await;
        let refused = producer.send(Record::to(TOPIC).value("refused")).await.unwrap_err();
        let said = refused.to_string();
        assert!(said.contains("STORAGE_FULL") && said.contains("storage.free_min"), "{said}");
        // What is there is read, and topics come and go.
        let name = format!("small-{round}");
        run(&["topic", "create", &name, "-b", &list]).succeeded();
        run(&["topic", "delete", &name, "-y", "-b", &list]).succeeded();
        run(&["consume", TOPIC, "--from", "start", "-n", "10", "-b", &list]).succeeded();
        disks.iter().for_each(SmallDisk::free);
        let freed = Instant::now();
        acks_go_on(&load, 1).await;
        longest = longest.max(freed.elapsed());
    }
    println!("figure longest time from room to acks: {longest:?}");
    assert_eq!(processes(&stage), before, "nobody was restarted");
    stage.audit(load, &acks).await;
    drop(disks);
}

fn acked(load: &Load) -> u64 {
    (0..PARTITIONS).map(|p| load.tide().acked_of(p)).sum()
}
