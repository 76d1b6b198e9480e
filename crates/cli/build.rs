//! Tells the binary which commit it was built from, as `TIDELOG_COMMIT`: from the variable of that name if
//! it is set, as packagers do who build without a repository, else from git, else `unknown`.
//!
//! Only this package asks, the one that all others stand below, so that a commit rebuilds nothing else.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=TIDELOG_COMMIT");
    let given = std::env::var("TIDELOG_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(|| {
        // Written whenever what is checked out becomes another commit; a shallow clone may have none.
        let moved = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]);
        if let Some(moved) = moved.filter(|path| std::path::Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={moved}");
        }
        git(&["rev-parse", "--short=12", "HEAD"])
    });
    println!("cargo::rustc-env=TIDELOG_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|o| o.status.success())?;
    let line = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}
