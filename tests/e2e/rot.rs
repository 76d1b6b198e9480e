//! Bits that flip on one broker's disk, anywhere in what it holds, under load: all that means something
//! is found, nothing of it is served, and all of it comes back from the others.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tidelog_client::admin::NewTopic;

use crate::command::run;
use crate::stage::{PARTITIONS, Stage, TOPIC, acks_go_on, leader, rounds, until};

/// Small enough that there are many segments.
const SEGMENT_BYTES: &str = "262144";

/// As fast as acks come, but with few records on their way.
const PACE: (usize, Duration) = (200, Duration::ZERO);

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bits_are_found_and_mended_under_load() {
    let mut stage = Stage::new().await;
    stage.start_all().await;
    let client = stage.client().await;
    let topic = NewTopic::new(TOPIC.parse().unwrap()).partitions(PARTITIONS);
    let topic = topic.config("segment.bytes", SEGMENT_BYTES);
    for (_, created) in client.admin().create_topics([topic]).await.unwrap() {
        created.unwrap();
    }
    for partition in 0..PARTITIONS {
        leader(&client, partition).await;
    }
    let (load, acks) = stage.load_at(PACE).await;
    acks_go_on(&load, 3_000).await;

    let (mut found, mut mended) = (0, 0);
    for round in 0..rounds(9) {
        let id = stage.rng.random_range(1..4);
        let stopped = round % 3 == 2;
        let before = if stopped {
            stage.cluster.broker_mut(id).kill().unwrap();
            Damage::default()
        } else {
            Damage::of(&stage, id).await
        };
        let files = files_of_topic(stage.cluster.broker(id).data_dir());
        let flips: Vec<PathBuf> = (0..3).map(|_| flip(&mut stage.rng, &files)).collect();
        stage.start_all().await;
        until("all that is damaged is whole again", async || {
            let read: Vec<bool> = (0..PARTITIONS).map(|p| scrub(&stage, id, p)).collect();
            let now = Damage::of(&stage, id).await;
            !read.contains(&false)
                && now.out == 0.0
                && now.found - before.found <= now.mended - before.mended
        })
        .await;
        let now = Damage::of(&stage, id).await;
        println!("round {round}: broker {id}, {now:?} after {before:?}, {flips:?}");
        found += (now.found - before.found) as u32;
        mended += (now.mended - before.mended) as u32;
        acks_go_on(&load, 500).await;
    }
    println!("{found} places were found while brokers ran");
    println!("figure flips under load: {}", rounds(9) * 3);
    println!("figure places mended under load: {mended}");
    // Padding aside, of which there is little, every flip shows.
    assert!(mended > rounds(9), "{mended} mended");
    stage.audit(load, &acks).await;

    // What lies on each disk now is whole: so it reads from each of them alone.
    for id in 1..=3 {
        for partition in 0..PARTITIONS {
            let name = format!("{TOPIC}/{partition}");
            let id = id.to_string();
            let bootstrap = stage.cluster.bootstrap().join(",");
            let args = ["partition", "scrub", &name, "--broker", &id, "-b", &bootstrap];
            let told = run(&args).succeeded().stdout;
            assert!(told.contains("none"), "{told}");
        }
    }
}

/// What a broker has counted since it started.
#[derive(Clone, Copy, Debug, Default)]
struct Damage {
    found: f64,
    mended: f64,
    out: f64,
}

impl Damage {
    async fn of(stage: &Stage, id: u32) -> Self {
        let metrics = stage.cluster.broker(id).scraper().metrics().await.unwrap();
        let of = |name: &str| *metrics.get(name).unwrap_or_else(|| panic!("{name}: {metrics:?}"));
        Self {
            found: of("tidelog_damage_found_total"),
            mended: of("tidelog_damage_repaired_total"),
            out: of("tidelog_replicas_out"),
        }
    }
}

/// Has a broker read its replica of a partition again; whether the replica is there and whole.
fn scrub(stage: &Stage, id: u32, partition: u32) -> bool {
    let name = format!("{TOPIC}/{partition}");
    let bootstrap = stage.cluster.bootstrap().join(",");
    let args = ["partition", "scrub", &name, "--broker", &id.to_string(), "-b", &bootstrap];
    run(&args).code == 0
}

/// Flips one bit somewhere in files of the given lengths; where.
pub(crate) fn flip(rng: &mut StdRng, files: &[(PathBuf, u64)]) -> PathBuf {
    let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    let mut at = rng.random_range(0..bytes);
    let (path, _) = files
        .iter()
        .find(|(_, bytes)| match at.checked_sub(*bytes) {
            Some(left) => {
                at = left;
                false
            }
            None => true,
        })
        .unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 1 << rng.random_range(0..8);
    file.write_all_at(&byte, at).unwrap();
    path.clone()
}

/// The live files of the topics' partitions, with their lengths.
fn files_of_topic(data: &Path) -> Vec<(PathBuf, u64)> {
    replicas(data).into_iter().flatten().collect()
}

/// Of each partition the files that nothing is written to any more, with their lengths. What lies in
/// them is behind the durable mark, or followed by entries that prove that it was whole once: so it
/// counts as damage, and never as a copy that was not written.
#[cfg(tidelog_faults)]
pub(crate) fn settled_files(data: &Path) -> Vec<(PathBuf, u64)> {
    let mut settled = Vec::new();
    for mut files in replicas(data) {
        let newest = files.iter().map(|(path, _)| path.with_extension("log")).max();
        files.retain(|(path, _)| Some(path.with_extension("log")) != newest);
        settled.extend(files);
    }
    settled
}

/// Of each partition its segments and start points, with their lengths.
fn replicas(data: &Path) -> Vec<Vec<(PathBuf, u64)>> {
    let mut replicas = Vec::new();
    for dir in fs::read_dir(data).unwrap() {
        let dir = dir.unwrap().path();
        // The groups of the cluster itself have ids of zeros.
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        if !dir.is_dir() || name.starts_with("00000000-") || name.split('-').count() != 6 {
            continue;
        }
        let paths = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path());
        let kept =
            paths.filter(|path| path.extension().is_some_and(|it| it == "log" || it == "start"));
        replicas
            .push(kept.map(|path| (path.clone(), fs::metadata(&path).unwrap().len())).collect());
    }
    replicas
}
