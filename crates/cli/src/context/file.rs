//! The file that keeps contexts: a name for a cluster, so that nobody types addresses.
//!
//! ```toml
//! current = "staging"
//!
//! [context.staging]
//! bootstrap = ["10.0.0.1:7071", "10.0.0.2:7071"]
//! cluster = "0190c5d2-…"
//! ```
//!
//! `TIDELOG_CONFIG` names it; without that it is `tidelog/config.toml` in the directory for
//! configuration of the XDG base directory specification.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::Failure;

/// A cluster under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Brokers to ask first.
    pub(crate) bootstrap: Vec<String>,
    /// The id of the only cluster that will do, when one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<String>,
}

/// All contexts of a user.
///
/// Invariant: `current` names one of them, and each has a broker to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that commands use when they are told nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// All of them, by name.
    #[serde(default, rename = "context")]
    pub(crate) by_name: BTreeMap<String, Context>,
}

/// Where the file is, when the environment tells.
pub(crate) fn path(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = set("TIDELOG_CONFIG") {
        return Some(path);
    }
    // The specification asks to ignore a path that is not absolute.
    let directory = set("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let directory = directory.or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(directory.join("tidelog").join("config.toml"))
}

impl Contexts {
    /// Reads them. A file that is not there holds none.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text)
                .map_err(|problem| Failure::usage(format!("{}: {problem}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::because(format!("read {}", path.display()), &error)),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let contexts: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |at| text[..at.start].matches('\n').count() + 1);
            format!("line {line}: {}", error.message().trim().replace('\n', ", "))
        })?;
        if let Some(name) = contexts.by_name.iter().find(|(_, c)| c.bootstrap.is_empty()) {
            return Err(format!("context {} has no bootstrap address", name.0));
        }
        match &contexts.current {
            Some(name) if !contexts.by_name.contains_key(name) => {
                Err(format!("current names {name:?}, which is no context"))
            }
            _ => Ok(contexts),
        }
    }

    /// Puts them in the place of what the file holds, whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        self.try_write(path)
            .map_err(|error| Failure::because(format!("write {}", path.display()), &error))
    }

    fn try_write(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        let mut file = NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    }

    /// The context of that name.
    pub(crate) fn find(&self, name: &str) -> Result<&Context, Failure> {
        self.by_name.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            let failure = Failure::usage(format!("there is no context {name}"));
            match names.is_empty() {
                true => {
                    failure.next_step(format!("add it: tidelog context add {name} -b HOST:PORT"))
                }
                false => failure.next_step(format!("there are {}", names.join(", "))),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Option<PathBuf> {
        path(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_place_of_the_file_follows_the_specification() {
        let home = ("HOME", "/home/ada");
        let at = |path: &str| Some(PathBuf::from(path));
        assert_eq!(found(&[home]), at("/home/ada/.config/tidelog/config.toml"));
        let relative = ("XDG_CONFIG_HOME", "etc");
        assert_eq!(found(&[home, relative]), at("/home/ada/.config/tidelog/config.toml"));
        let xdg = ("XDG_CONFIG_HOME", "/etc/ada");
        assert_eq!(found(&[home, xdg]), at("/etc/ada/tidelog/config.toml"));
        assert_eq!(found(&[home, xdg, ("TIDELOG_CONFIG", "x.toml")]), at("x.toml"));
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn what_is_written_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("config.toml");
        assert_eq!(Contexts::read(&path).unwrap(), Contexts::default());
        let bootstrap = vec!["a:1".to_owned(), "b:2".to_owned()];
        let mut contexts = Contexts::default();
        for (name, cluster) in [("one", None), ("two", Some("id".to_owned()))] {
            let context = Context { bootstrap: bootstrap.clone(), cluster };
            contexts.by_name.insert(name.to_owned(), context);
        }
        contexts.current = Some("two".to_owned());
        contexts.write(&path).unwrap();
        assert_eq!(Contexts::read(&path).unwrap(), contexts);
    }

    #[test]
    fn a_wrong_file_is_refused_with_what_is_wrong() {
        for (text, words) in [
            ("current = \"x\"\n", "current names \"x\""),
            ("[context.a]\nbootstrap = []\n", "context a has no bootstrap"),
            ("[context.a]\nbootstrap = [\"a:1\"]\nbotstrap = 1\n", "line 3: unknown field"),
            ("= 1", "line 1: "),
        ] {
            let error = Contexts::parse(text).unwrap_err();
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
        }
    }
}
