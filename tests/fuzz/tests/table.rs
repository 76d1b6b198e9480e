//! The list of decoders in `docs/fuzzing.md`, compared with the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex_lite::Regex;
use tidelog_fuzz::targets;

/// Files below `crates` that see no bytes of others: what is generated, what tests are made of, and what
/// people type.
const ELSEWHERE: [&str; 5] =
    ["proto/src/gen/", "cli/", "testing/", "log/src/sim/", "broker/src/faults/"];

/// What sees bytes of a disk all the same.
const HERE: [&str; 2] = ["cli/src/backup", "cli/src/record/json.rs"];

/// A function that takes bytes and may refuse them.
const DECODER: &str = r"fn\s+(\w+)\s*(?:<[^>]*>)?\s*\(([^)]*)\)\s*->\s*([^{;]+)";
const BYTES: &str = r"&(?:mut\s+)?&?(?:'\w+\s+)?\[u8\]|:\s*&?(?:bytes::)?Bytes\b|Reader<|Vec<u8>";

#[test]
fn every_decoder_is_in_the_list_and_every_target_is_used() {
    let _alone = crate::alone();
    let (in_code, in_list) = (in_code(), in_list());
    let mut wrong = Vec::new();
    for (file, functions) in &in_code {
        let listed = in_list.get(file).map(|(functions, _)| functions.clone()).unwrap_or_default();
        wrong
            .extend(functions.difference(&listed).map(|name| format!("{file}: {name} has no row")));
        wrong.extend(listed.difference(functions).map(|name| format!("{file}: {name} is gone")));
    }
    wrong.extend(
        in_list
            .keys()
            .filter(|file| !in_code.contains_key(*file))
            .map(|file| format!("{file} is gone")),
    );
    let known: BTreeSet<&str> = targets::ALL.iter().map(|target| target.name).collect();
    for (file, (_, how)) in &in_list {
        let reached = how.split('`').skip(1).step_by(2).any(|name| known.contains(name));
        if !reached && !how.contains("test ") && !how.starts_with("no decoder") {
            wrong.push(format!("{file}: {how:?} names no target"));
        }
    }
    let page = page();
    let unused = known.iter().filter(|name| !page.contains(&format!("`{name}`")));
    wrong.extend(unused.map(|name| format!("nothing says what {name} is for")));
    assert!(wrong.is_empty(), "docs/fuzzing.md:\n{}", wrong.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// By file, the functions that look like decoders.
fn in_code() -> BTreeMap<String, BTreeSet<String>> {
    let (decoder, bytes) = (Regex::new(DECODER).unwrap(), Regex::new(BYTES).unwrap());
    let crates = root().join("crates");
    let mut found = BTreeMap::new();
    for path in sources(&crates) {
        let file = path.strip_prefix(&crates).unwrap().to_str().unwrap().to_owned();
        let begins = |with: &&str| file.starts_with(*with);
        let elsewhere = ELSEWHERE.iter().any(begins) && !HERE.iter().any(begins);
        if elsewhere || !file.contains("/src/") || file.ends_with("/tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let product = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
        let functions: BTreeSet<String> = decoder
            .captures_iter(product)
            .filter(|of| bytes.is_match(&of[2]))
            .filter(|of| ["Result", "Option", "Self"].iter().any(|kind| of[3].contains(kind)))
            .map(|of| of[1].to_owned())
            .collect();
        if !functions.is_empty() {
            found.insert(file, functions);
        }
    }
    found
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            files.push(path);
        }
    }
    files
}

fn page() -> String {
    fs::read_to_string(root().join("docs/fuzzing.md")).unwrap()
}

/// By file, the functions of its row, and how they are reached.
fn in_list() -> BTreeMap<String, (BTreeSet<String>, String)> {
    let text = page();
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        let (Some(file), Some(functions), Some(how)) = (cells.next(), cells.next(), cells.next())
        else {
            continue;
        };
        let names = functions.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        rows.insert(file.trim_matches('`').to_owned(), (names, how.to_owned()));
    }
    rows
}
