//! Compares a generated page with the one in the repository.

use std::path::Path;

/// Fails when the page at `path` differs from `text`; with `UPDATE=1` it writes it instead.
pub(crate) fn assert_page(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == text, "{} is out of date: run the tests with UPDATE=1", path.display());
}
