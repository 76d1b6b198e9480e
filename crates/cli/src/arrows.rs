//! Keeps the arrows between the crates pointing down, as ARCHITECTURE.md draws them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each crate may use of the others. `tidelog` stands above all.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("log", &["types"]),
    ("state", &["types"]),
    ("proto", &["types"]),
    ("raft", &["log", "proto", "state", "types"]),
    ("broker", &["log", "proto", "raft", "state", "types"]),
    ("client", &["proto", "types"]),
    ("testing", &["broker", "types"]),
    ("cli", &["broker", "client", "log", "types"]),
    // It judges the others, so it uses none.
    ("checker", &[]),
];

/// Crates that decide, store or judge, and so have no runtime and no wire.
const WITHOUT_RUNTIME: &[&str] = &["types", "state", "log", "checker"];
const RUNTIME: &[&str] = &["tokio", "tokio-stream", "tonic", "prost", "futures-util", "openraft"];

struct Manifest {
    folder: String,
    table: toml::Table,
}

impl Manifest {
    fn all() -> Vec<Self> {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut folders: Vec<PathBuf> =
            fs::read_dir(crates).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.push(crates.parent().unwrap().join("tests/checker"));
        folders.sort();
        let read = |folder: PathBuf| Self {
            folder: folder.file_name().unwrap().to_str().unwrap().to_owned(),
            table: fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap(),
        };
        folders.into_iter().map(read).collect()
    }

    /// What is linked into the crate: neither dev-dependencies nor what is only for tests.
    fn dependencies(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let sections = ["dependencies", "build-dependencies"];
        let targets = self.table.get("target").and_then(toml::Value::as_table);
        let tables = targets.into_iter().flat_map(|targets| targets.values());
        let tables = tables.filter_map(toml::Value::as_table).chain([&self.table]);
        for table in tables {
            for section in sections {
                let section = table.get(section).and_then(toml::Value::as_table);
                names.extend(section.into_iter().flat_map(|section| section.keys().cloned()));
            }
        }
        names
    }

    fn ours(&self) -> BTreeSet<String> {
        let names = self.dependencies();
        names.iter().filter_map(|name| name.strip_prefix("tidelog-")).map(str::to_owned).collect()
    }

    fn dev_dependencies(&self) -> BTreeSet<String> {
        let section = self.table.get("dev-dependencies").and_then(toml::Value::as_table);
        section.into_iter().flat_map(|section| section.keys().cloned()).collect()
    }
}

#[test]
fn arrows_point_down_only() {
    let manifests = Manifest::all();
    assert_eq!(manifests.len(), ARROWS.len(), "a new crate has a place in the map");
    for manifest in manifests {
        let (_, allowed) = ARROWS
            .iter()
            .find(|(folder, _)| *folder == manifest.folder)
            .unwrap_or_else(|| panic!("{} has no place in the map", manifest.folder));
        for used in manifest.ours() {
            assert!(allowed.contains(&used.as_str()), "{} uses {used}", manifest.folder);
        }
    }
}

#[test]
fn packages_are_named_after_their_folders() {
    for manifest in Manifest::all() {
        let name = manifest.table["package"]["name"].as_str().unwrap();
        let expected = match manifest.folder.as_str() {
            "cli" => "tidelog".to_owned(),
            folder => format!("tidelog-{folder}"),
        };
        assert_eq!(name, expected);
    }
}

#[test]
fn what_decides_and_what_stores_has_no_runtime() {
    for manifest in Manifest::all().iter().filter(|m| WITHOUT_RUNTIME.contains(&&*m.folder)) {
        for name in manifest.dependencies() {
            assert!(!RUNTIME.contains(&name.as_str()), "{} uses {name}", manifest.folder);
        }
    }
}

#[test]
fn checker_uses_nothing_of_the_product_even_to_test_itself() {
    let manifests = Manifest::all();
    let checker = manifests.iter().find(|manifest| manifest.folder == "checker").unwrap();
    let ours = |name: &String| name.starts_with("tidelog");
    assert!(!checker.dependencies().iter().chain(&checker.dev_dependencies()).any(ours));
}

#[test]
fn openraft_and_sled_have_one_home_each() {
    for (name, home) in [("openraft", "raft"), ("sled", "broker")] {
        for manifest in Manifest::all().iter().filter(|manifest| manifest.folder != home) {
            assert!(!manifest.dependencies().contains(name), "{} uses {name}", manifest.folder);
        }
    }
}
