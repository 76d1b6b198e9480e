//! Runs golden scripts.
//!
//! A script is lines: a comment begins with `#`, a command stands at the line's start, and what it
//! came to stands below it, indented by two spaces. `UPDATE=1` writes what came instead of comparing.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Compares `actual` with the golden file, or writes it.
pub(crate) fn check(name: &str, actual: &str) {
    let path = folder().join(name);
    if env::var("UPDATE").is_ok() {
        fs::write(&path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert!(actual == expected, "{name} differs; got:\n{actual}\nexpected:\n{expected}");
}

/// Runs every script in a subfolder, each with a fresh machine.
pub(crate) fn run_all<R>(kind: &str, new: impl Fn() -> R, run: impl Fn(&mut R, &[&str]) -> String) {
    let mut scripts: Vec<_> =
        fs::read_dir(folder().join(kind)).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {kind}");
    for path in scripts {
        let script = fs::read_to_string(&path).unwrap();
        let mut machine = new();
        let mut actual = String::new();
        for line in script.lines().filter(|line| !line.starts_with("  ")) {
            writeln!(actual, "{line}").unwrap();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<_> = line.split_whitespace().collect();
            for result in run(&mut machine, &words).lines() {
                writeln!(actual, "  {result}").unwrap();
            }
        }
        let name = format!("{kind}/{}", path.file_name().unwrap().to_str().unwrap());
        check(&name, &actual);
    }
}

/// The value of the argument `key=value`, or the default.
pub(crate) fn arg<T: std::str::FromStr>(words: &[&str], key: &str, default: T) -> T
where
    T::Err: std::fmt::Debug,
{
    match text_arg(words, key) {
        Some(value) => value.parse().unwrap_or_else(|err| panic!("{key}={value}: {err:?}")),
        None => default,
    }
}

/// The value of the argument `key=value` as text.
pub(crate) fn text_arg<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// The bytes of a golden file that [`hex`] made.
pub(crate) fn from_hex(name: &str) -> Vec<u8> {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    let bytes = text.lines().flat_map(|row| row.split_whitespace().skip(1));
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// Bytes in rows of 16, with a checksum-free, reviewable look.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (n, row) in bytes.chunks(16).enumerate() {
        let row: Vec<_> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{:04x}  {}", n * 16, row.join(" ")).unwrap();
    }
    text
}
