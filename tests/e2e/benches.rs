//! Each command of `tidelog bench`, tiny: the figures make sense, and nothing is left.

use std::fs;

use serde_json::Value;

use crate::command::run;
use crate::stage::Stage;

const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// What a measurement gives.
fn bench(args: &[&str]) -> Value {
    let mut words = vec!["bench"];
    words.extend(args);
    words.extend(["-o", "json"]);
    run(&words).item()
}

#[track_caller]
fn number(item: &Value, field: &str) -> f64 {
    item[field].as_f64().unwrap_or_else(|| panic!("{field}: {item}"))
}

/// Rates that fit the counts, and percentiles in their order.
#[track_caller]
fn is_sane(item: &Value, records: f64, bytes: f64) {
    assert_eq!((number(item, "records"), number(item, "bytes")), (records, bytes), "{item}");
    let seconds = number(item, "seconds");
    let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-6;
    assert!(near(number(item, "records_per_s"), records / seconds), "{item}");
    assert!(near(number(item, "mb_per_s"), bytes / seconds / 1e6), "{item}");
    are_sane(item);
}

#[track_caller]
fn are_sane(item: &Value) {
    let times = ["p50_ms", "p99_ms", "p999_ms", "max_ms"].map(|field| number(item, field));
    assert!(times[0] > 0.0 && times.is_sorted(), "{item}");
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_give_sane_figures_and_leave_no_topic() {
    let mut stage = Stage::new().await;
    stage.start_all().await;
    let bootstrap = stage.cluster.bootstrap().join(",");
    let with = |args: &str| {
        let mut words = args.split(' ').collect::<Vec<_>>();
        words.extend(["-b", &bootstrap]);
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let bench = |args: &str| {
        let words = with(args);
        bench(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let verified = bench("produce --records 2000 --verify");
    is_sane(&verified, 2_000.0, 2_000.0 * 1_024.0);
    assert_eq!(verified["verified"], true, "{verified}");
    let due = bench("produce --records 2000 --rate 4000 --clients 3 --size 1 --partitions 2");
    is_sane(&due, 2_000.0, 2_000.0);
    assert!(number(&due, "seconds") > 0.4, "{due}");
    is_sane(&bench("consume --records 2000 --size 100 --clients 3"), 2_000.0, 200_000.0);
    is_sane(&bench("e2e --records 2000 --rate 4000 --size 20"), 2_000.0, 40_000.0);

    let ours = |args: &str| {
        let words = with(args);
        run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    ours("bench consume --clients 9").refused(USAGE, &["9 clients", "8 partitions"]);
    ours("bench e2e --size 19").refused(USAGE, &["--size 19", "20 bytes"]);
    ours("bench produce --topic none").refused(FAILED, &["topic none does not exist"]);
    assert_eq!(ours("topic list -o json").items(), Vec::<Value>::new(), "all topics are gone");

    // A topic that is named is used as it is, and stays.
    ours("topic create orders --partitions 2").succeeded();
    ours("bench consume --topic orders").refused(FAILED, &["orders is empty"]);
    for _ in 0..2 {
        let again = bench("produce --topic orders --records 1000 --verify");
        assert_eq!((&again["verified"], &again["partitions"]), (&true.into(), &2.into()));
    }
    is_sane(&bench("consume --topic orders"), 2_000.0, 2_000.0 * 1_024.0);
    assert!(number(&bench("consume --topic orders --records 10"), "records") >= 10.0);
}

#[test]
fn failover_tells_each_pause_and_audits_what_was_acked() {
    for way in [&["--rounds", "2"][..], &["--rounds", "1", "--freeze", "--size", "20"]] {
        let mut words = vec!["failover", "--rate", "2000"];
        words.extend(way);
        let item = bench(&words);
        are_sane(&item);
        let rounds = item["rounds"].as_array().unwrap();
        assert_eq!(rounds.len().to_string(), way[1], "{item}");
        for round in rounds {
            assert_ne!(round["broker"], round["new_leader"], "{item}");
            assert!(number(round, "pause_ms") > 0.0 && number(round, "in_sync_ms") > 0.0, "{item}");
        }
        assert!(item["holds"] == true && item["lost"] == 0 && item["duplicated"] == 0, "{item}");
        assert_eq!((&item["acked"], &item["read"]), (&item["records"], &item["sent"]), "{item}");
    }
}

#[test]
fn partitions_tell_what_they_cost_and_what_a_lost_broker_costs() {
    let item = bench(&["partitions", "--count", "8", "--settle", "0", "--idle", "1"]);
    for field in [
        "empty_ready_ms",
        "empty_rss_mib",
        "create_ms",
        "disk_bytes_per_replica",
        "leaders_again_ms",
        "in_sync_ms",
    ] {
        assert!(number(&item, field) > 0.0, "{field}: {item}");
    }
    assert!(number(&item, "ready_ms") >= number(&item, "create_ms"), "{item}");
    assert_eq!((&item["partitions"], &item["first_writes"]), (&8.into(), &8.into()), "{item}");
    are_sane(&item);
    let brokers = item["brokers"].as_array().unwrap();
    assert_eq!(brokers.len(), 3, "{item}");
    for broker in brokers {
        let cpu = number(broker, "cpu_percent");
        assert!((0.0..=1_000.0).contains(&cpu) && number(broker, "rss_mib") > 1.0, "{item}");
    }
}

#[test]
fn disk_tells_every_way_to_write_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let item = bench(&["disk", "--mib", "1", "--dir", path]);
    let rows = item["rows"].as_array().unwrap();
    let speeds = rows.iter().map(|row| number(row, "mb_per_s")).collect::<Vec<_>>();
    assert!(speeds.len() == 16 && speeds.iter().all(|speed| *speed > 0.0), "{item}");
    let best = speeds.iter().copied().fold(0.0, f64::max);
    assert_eq!((number(&item, "mb_per_s"), number(&item["best"], "mb_per_s")), (best, best));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn bad_flags_and_directories_are_refused() {
    for args in [
        &["bench", "produce", "--records", "0"][..],
        &["bench", "produce", "--rate", "fast"],
        &["bench", "consume", "--partitions", "0"],
        &["bench", "e2e", "--rate", "0"],
        &["bench", "failover", "--nodes", "2"],
        &["bench", "failover", "--size", "19"],
        &["bench", "partitions", "--idle", "0"],
        &["bench", "disk", "--mib", "0"],
    ] {
        let ended = run(args);
        assert_eq!(ended.code, USAGE, "{args:?} {ended:#?}");
        assert!(ended.stderr.starts_with("error") && ended.stdout.is_empty(), "{ended:#?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let (used, none) = (dir.path().join("used"), dir.path().join("none"));
    fs::create_dir_all(used.join("something")).unwrap();
    let (used, missing) = (used.to_str().unwrap(), none.to_str().unwrap());
    run(&["bench", "failover", "--dir", used]).refused(FAILED, &["not empty", used]);
    run(&["bench", "partitions", "--dir", used]).refused(FAILED, &["not empty", used]);
    run(&["bench", "disk", "--dir", missing]).refused(FAILED, &[missing]);
    run(&["bench", "disk", "--mib", "1000000", "--dir", used]).refused(FAILED, &["MiB free"]);
    assert!(!none.exists(), "nothing is left half-made");
}
