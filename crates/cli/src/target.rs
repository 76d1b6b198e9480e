//! Which cluster a command talks to: flag, then environment, then context, then default.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::Failure;
use crate::args::Globals;
use crate::context::{Contexts, path};

/// Where a broker listens when nobody says otherwise.
const DEFAULT: &str = "127.0.0.1:7071";
const BOOTSTRAP: &str = "TIDELOG_BOOTSTRAP";
const CONTEXT: &str = "TIDELOG_CONTEXT";

/// The cluster that a command talks to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Brokers to ask first.
    pub(crate) bootstrap: Vec<String>,
    /// The id that the cluster must have, when that was said.
    pub(crate) cluster: Option<String>,
    /// The context that said so, if one did.
    pub(crate) context: Option<String>,
    /// What decided.
    pub(crate) because: Because,
}

/// What decided which cluster it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    /// `-b`.
    BootstrapFlag,
    /// `--context`.
    ContextFlag,
    /// `TIDELOG_BOOTSTRAP`.
    BootstrapVariable,
    /// `TIDELOG_CONTEXT`.
    ContextVariable,
    /// `context use`.
    Current,
    /// Nobody.
    Default,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BootstrapFlag => "--bootstrap",
            Self::ContextFlag => "--context",
            Self::BootstrapVariable => BOOTSTRAP,
            Self::ContextVariable => CONTEXT,
            Self::Current => "the current context",
            Self::Default => "the default",
        })
    }
}

impl Target {
    /// The cluster that the command line and the environment of this process mean.
    pub(crate) fn find(globals: &Globals) -> Result<Self, Failure> {
        Self::choose(globals, |name| std::env::var_os(name))
    }

    fn choose(
        globals: &Globals,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Failure> {
        let plain = |bootstrap: Vec<String>, because| {
            Ok(Self { bootstrap, cluster: None, context: None, because })
        };
        if !globals.bootstrap.is_empty() {
            return plain(globals.bootstrap.clone(), Because::BootstrapFlag);
        }
        let file = path(&variable);
        if let Some(name) = &globals.context {
            return Self::named(file, name, Because::ContextFlag);
        }
        if let Some(list) = text(&variable, BOOTSTRAP)? {
            let list = list.split(',').map(|address| address.trim().to_owned()).collect();
            return plain(list, Because::BootstrapVariable);
        }
        if let Some(name) = text(&variable, CONTEXT)? {
            return Self::named(file, &name, Because::ContextVariable);
        }
        // The file is read only when it can matter: a broken one must not stop who names a broker.
        let contexts = file.as_deref().map(Contexts::read).transpose()?.unwrap_or_default();
        match contexts.current.clone() {
            Some(name) => Self::of(&contexts, &name, Because::Current),
            None => plain(vec![DEFAULT.to_owned()], Because::Default),
        }
    }

    fn named(file: Option<PathBuf>, name: &str, because: Because) -> Result<Self, Failure> {
        let contexts = file.as_deref().map(Contexts::read).transpose()?.unwrap_or_default();
        Self::of(&contexts, name, because)
    }

    fn of(contexts: &Contexts, name: &str, because: Because) -> Result<Self, Failure> {
        let context = contexts.find(name)?;
        Ok(Self {
            bootstrap: context.bootstrap.clone(),
            cluster: context.cluster.clone(),
            context: Some(name.to_owned()),
            because,
        })
    }
}

/// A variable; one that is empty is not set.
fn text(
    variable: impl Fn(&str) -> Option<OsString>,
    name: &str,
) -> Result<Option<String>, Failure> {
    let Some(value) = variable(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    let value = value.into_string();
    value.map(Some).map_err(|value| Failure::usage(format!("{name}={value:?} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "current = \"home\"\n\
                        [context.home]\nbootstrap = [\"home:1\"]\n\
                        [context.away]\nbootstrap = [\"away:1\", \"away:2\"]\ncluster = \"id\"\n";

    #[test]
    fn flag_beats_environment_beats_context_beats_default() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let empty = dir.path().join("none.toml");
        std::fs::write(&file, FILE).unwrap();
        let choose = |file: &std::path::Path, bootstrap: &[&str], context, set: &[(&str, &str)]| {
            let mut globals = Globals::for_tests();
            globals.bootstrap = bootstrap.iter().map(ToString::to_string).collect();
            globals.context = Option::map(context, str::to_owned);
            let variable = |name: &str| match set.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => Some(value.into()),
                None => (name == "TIDELOG_CONFIG").then(|| file.into()),
            };
            let target = Target::choose(&globals, variable).unwrap();
            (target.bootstrap.join(","), target.because)
        };
        let both = [(BOOTSTRAP, "env:1,env:2"), (CONTEXT, "away")];
        let got = |text: &str, because| (text.to_owned(), because);
        assert_eq!(
            choose(&file, &["flag:1"], Some("away"), &both),
            got("flag:1", Because::BootstrapFlag)
        );
        assert_eq!(
            choose(&file, &[], Some("away"), &both),
            got("away:1,away:2", Because::ContextFlag)
        );
        assert_eq!(choose(&file, &[], None, &both), got("env:1,env:2", Because::BootstrapVariable));
        assert_eq!(
            choose(&file, &[], None, &[(BOOTSTRAP, ""), (CONTEXT, "away")]),
            got("away:1,away:2", Because::ContextVariable)
        );
        assert_eq!(choose(&file, &[], None, &[]), got("home:1", Because::Current));
        assert_eq!(choose(&empty, &[], None, &[]), got(DEFAULT, Because::Default));
    }

    #[test]
    fn an_unknown_context_is_refused_with_those_that_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, FILE).unwrap();
        let mut globals = Globals::for_tests();
        globals.context = Some("nowhere".to_owned());
        let variable = |name: &str| (name == "TIDELOG_CONFIG").then(|| file.clone().into());
        let error = Target::choose(&globals, variable).unwrap_err().to_string();
        assert_eq!(error, "there is no context nowhere; there are away, home");
    }
}
