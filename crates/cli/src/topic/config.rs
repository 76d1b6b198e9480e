//! `tidelog topic config`.

use std::process::ExitCode;

use super::args::ConfigArgs;
use super::load::describe;
use super::view::{ConfigView, config_table};
use crate::args::Globals;
use crate::connect::connect;
use crate::{Failure, Page};

/// Changes the configuration if that is asked for, all changes or none, and shows it as it is then.
pub(super) async fn run(globals: &Globals, args: &ConfigArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let set = args.set.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
    let delete = args.delete.iter().map(|key| (key.clone(), None));
    let changes: Vec<_> = set.chain(delete).collect();
    if !changes.is_empty() {
        client.admin().alter_configs(&args.topic, changes).await?;
    }
    let (_, topic) = describe(&client, std::slice::from_ref(&args.topic)).await?.remove(0);
    let configs: Vec<ConfigView> = topic?.configs;
    globals.output().items("topic.config", &configs, |_| config_table(Page::new(), &configs))?;
    Ok(ExitCode::SUCCESS)
}
