//! Inputs that are kept, in `tests/fuzz/corpus/<target>`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::engine::Report;

/// Longer inputs are not kept.
const KEPT_BYTES_MAX: usize = 2048;

/// No target keeps more.
const KEPT_MAX: usize = 24;

/// The folder of a target.
#[must_use]
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The inputs of a target, in the order of their names; none when it has no folder yet.
///
/// # Panics
/// A file cannot be read.
#[must_use]
pub fn inputs(target: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder(target)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("the corpus is readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("the corpus is readable")).collect()
}

/// Replaces the corpus of a target by the shortest input of each verdict.
///
/// # Errors
/// A file cannot be written.
pub fn keep(target: &str, report: &Report) -> io::Result<usize> {
    let folder = folder(target);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut kept: Vec<&Vec<u8>> =
        report.verdicts.values().filter(|input| input.len() <= KEPT_BYTES_MAX).collect();
    kept.sort_by_key(|input| input.len());
    kept.truncate(KEPT_MAX);
    for input in &kept {
        fs::write(folder.join(format!("{:08x}", crc32c::crc32c(input))), input)?;
    }
    Ok(kept.len())
}
