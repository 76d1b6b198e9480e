//! `tidelog context`: names for clusters.

mod file;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use tidelog_broker::config::HostPort;

pub(crate) use file::{Context, Contexts, path};

use crate::args::Globals;
use crate::confirm::confirm;
use crate::target::Target;
use crate::{Column, Failure, Page};

/// The longest name of a context.
const NAME_BYTES_MAX: usize = 64;

/// Name clusters, and choose the one that commands talk to.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Give a cluster a name; the first one becomes the current context
    Add(AddArgs),
    /// List all contexts
    List,
    /// Make a context the current one
    Use(NameArgs),
    /// Show a context, or without a name what commands talk to now, and why
    Show(ShowArgs),
    /// Forget a context; the cluster stays as it is
    Delete(NameArgs),
}

/// Arguments of `context add`.
#[derive(Args, Debug)]
#[command(after_help = "The brokers are those of -b: tidelog context add staging -b 10.0.0.1:7071")]
pub(crate) struct AddArgs {
    /// Name of the context: a-z A-Z 0-9 . _ -
    #[arg(value_parser = name)]
    name: String,
    /// Id of the cluster; commands refuse to talk to another one
    #[arg(long, value_name = "ID")]
    cluster: Option<String>,
}

/// Arguments of `context use` and `context delete`.
#[derive(Args, Debug)]
pub(crate) struct NameArgs {
    /// Name of the context
    name: String,
}

/// Arguments of `context show`.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// Name of the context
    name: Option<String>,
}

/// A context, or what commands talk to without one.
#[derive(Debug, Serialize)]
struct View {
    name: Option<String>,
    current: bool,
    bootstrap: Vec<String>,
    cluster: Option<String>,
    /// What decided; only where commands are asked about, not a context.
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen_by: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::text("CURRENT"),
    Column::text("NAME"),
    Column::text("BOOTSTRAP"),
    Column::text("CLUSTER"),
];

/// Runs one of the commands.
pub(crate) fn run(globals: &Globals, command: ContextCommand) -> Result<ExitCode, Failure> {
    if let ContextCommand::Show(ShowArgs { name: None }) = &command {
        return show_target(globals);
    }
    let path = path(|name| std::env::var_os(name)).ok_or_else(|| {
        Failure::new("no place for the configuration is known")
            .next_step("set TIDELOG_CONFIG to the path of a file")
    })?;
    let store = Store { contexts: Contexts::read(&path)?, path };
    match command {
        ContextCommand::Add(args) => store.add(globals, args),
        ContextCommand::List => store.list(globals),
        ContextCommand::Use(args) => store.make_current(args.name),
        ContextCommand::Show(args) => store.show(globals, &args.name.unwrap_or_default()),
        ContextCommand::Delete(args) => store.delete(globals, &args.name),
    }
}

/// What commands talk to now, and why.
fn show_target(globals: &Globals) -> Result<ExitCode, Failure> {
    let target = Target::find(globals)?;
    let view = View {
        current: target.context.is_some(),
        name: target.context,
        bootstrap: target.bootstrap,
        cluster: target.cluster,
        chosen_by: Some(target.because.to_string()),
    };
    globals.output().item("context", &view, |_| view.page())?;
    Ok(ExitCode::SUCCESS)
}

/// The contexts and the file that keeps them.
struct Store {
    path: PathBuf,
    contexts: Contexts,
}

impl Store {
    fn add(mut self, globals: &Globals, args: AddArgs) -> Result<ExitCode, Failure> {
        let AddArgs { name, cluster } = args;
        if self.contexts.by_name.contains_key(&name) {
            return Err(Failure::new(format!("context {name} exists"))
                .next_step(format!("delete it first: tidelog context delete {name}")));
        }
        if globals.bootstrap.is_empty() {
            return Err(Failure::usage("a context needs a broker to ask")
                .next_step("name one or more with -b HOST:PORT"));
        }
        if let Some(wrong) = globals.bootstrap.iter().find(|a| a.parse::<HostPort>().is_err()) {
            return Err(Failure::usage(format!("{wrong:?} is not HOST:PORT")));
        }
        let context = Context { bootstrap: globals.bootstrap.clone(), cluster };
        self.contexts.by_name.insert(name.clone(), context);
        let first = self.contexts.current.is_none();
        if first {
            self.contexts.current = Some(name.clone());
        }
        self.contexts.write(&self.path)?;
        say(&match first {
            true => format!("added context {name}; it is the current one"),
            false => format!("added context {name}; use it: tidelog context use {name}"),
        })
    }

    fn list(self, globals: &Globals) -> Result<ExitCode, Failure> {
        let views: Vec<View> = self.contexts.by_name.keys().map(|name| self.view(name)).collect();
        globals.output().items("context.list", &views, |_| {
            Page::new().table(COLUMNS, views.iter().map(View::cells))
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn make_current(mut self, name: String) -> Result<ExitCode, Failure> {
        let addresses = self.contexts.find(&name)?.bootstrap.join(",");
        let sentence = format!("commands talk to {name} ({addresses}) now");
        self.contexts.current = Some(name);
        self.contexts.write(&self.path)?;
        say(&sentence)
    }

    fn show(self, globals: &Globals, name: &str) -> Result<ExitCode, Failure> {
        self.contexts.find(name)?;
        let view = self.view(name);
        globals.output().item("context", &view, |_| view.page())?;
        Ok(ExitCode::SUCCESS)
    }

    fn delete(mut self, globals: &Globals, name: &str) -> Result<ExitCode, Failure> {
        let addresses = self.contexts.find(name)?.bootstrap.join(",");
        let current = self.contexts.current.as_deref() == Some(name);
        let after = if current { ", the current one" } else { "" };
        confirm(globals, &format!("this forgets context {name} ({addresses}){after}"))?;
        self.contexts.by_name.remove(name);
        if current {
            self.contexts.current = None;
        }
        self.contexts.write(&self.path)?;
        say(&format!("deleted context {name}"))
    }

    fn view(&self, name: &str) -> View {
        let context = &self.contexts.by_name[name];
        View {
            name: Some(name.to_owned()),
            current: self.contexts.current.as_deref() == Some(name),
            bootstrap: context.bootstrap.clone(),
            cluster: context.cluster.clone(),
            chosen_by: None,
        }
    }
}

impl View {
    fn cells(&self) -> Vec<String> {
        let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let current = if self.current { "*" } else { "" };
        vec![current.to_owned(), dash(&self.name), self.bootstrap.join(","), dash(&self.cluster)]
    }

    fn page(&self) -> Page {
        let facts = [
            ("context", self.name.clone()),
            ("bootstrap", Some(self.bootstrap.join(","))),
            ("cluster", self.cluster.clone()),
            ("chosen by", self.chosen_by.clone()),
        ];
        Page::new().facts(facts.into_iter().filter_map(|(name, value)| Some((name, value?))))
    }
}

/// What was done is no result for programs: it goes to stderr.
fn say(sentence: &str) -> Result<ExitCode, Failure> {
    writeln!(std::io::stderr(), "{sentence}")?;
    Ok(ExitCode::SUCCESS)
}

fn name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(format!("expected 1 to {NAME_BYTES_MAX} of a-z A-Z 0-9 . _ -"))
}
