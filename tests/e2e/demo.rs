//! The demo itself, with few records.

use serde_json::Value;

use crate::command::run;

#[test]
fn demo_holds_its_audit_and_says_so_in_json() {
    let ended = run(&["demo", "--records", "12000", "--producers", "3", "-o", "json"]).succeeded();
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let number =
        |field: &str| report[field].as_f64().unwrap_or_else(|| panic!("{field}: {report}"));
    for (field, expected) in [
        ("sent", 12_000.0),
        ("acked", 12_000.0),
        ("read", 12_000.0),
        ("lost", 0.0),
        ("duplicated", 0.0),
        ("out_of_order", 0.0),
    ] {
        assert_eq!(number(field), expected, "{field}: {report}");
    }
    assert!(number("gap_ms_max") > 0.0 && number("records_per_s") > 0.0, "{report}");
    assert!(number("in_flight_at_kill") >= 300.0, "{report}");
    let synced = |broker: &Value| broker["fdatasync_calls"].as_u64() > Some(0);
    assert!(report["brokers"].as_array().unwrap().iter().all(synced), "{report}");
}

#[test]
fn demo_keeps_its_files_where_it_is_told_and_shows_the_audit() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("run");
    let path = place.to_str().unwrap();
    let ended = run(&["demo", "--records", "2000", "--dir", path, "--seed", "7"]).succeeded();
    assert!(ended.stdout.contains("The audit holds"), "{ended:#?}");
    assert!(ended.stdout.contains("lost                     0"), "{ended:#?}");
    for file in ["acks-0.txt", "acks-3.txt", "node1.log", "node3"] {
        assert!(place.join(file).exists(), "{file}");
    }

    // What is there is never mixed with another run.
    run(&["demo", "--records", "2000", "--dir", path]).refused(1, &["not empty", path]);
}
