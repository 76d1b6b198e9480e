//! `tidelog topic create`.

use std::process::ExitCode;

use serde::Serialize;
use tidelog_client::admin::NewTopic;
use tidelog_client::{Error, ErrorCode};
use tidelog_types::TopicName;

use super::args::CreateArgs;
use crate::args::Globals;
use crate::connect::connect;
use crate::outcomes::Outcomes;
use crate::{Column, Failure, Page};

/// A topic that is there now.
#[derive(Debug, Serialize)]
struct Created {
    name: String,
    id: Option<String>,
    partitions: Option<u32>,
    created: bool,
}

const COLUMNS: &[Column] = &[
    Column::text("NAME"),
    Column::number("PARTITIONS"),
    Column::text("STATUS"),
    Column::text("ID").only_wide(),
];

pub(super) async fn run(globals: &Globals, args: &CreateArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let wanted = args.topics.iter().map(|name| new_topic(name, args));
    let answers = client.admin().create_topics(wanted).await?;
    let mut outcomes = Outcomes::default();
    let mut created = Vec::new();
    for (name, answer) in answers {
        match answer {
            Ok(topic) => {
                created.push(Created {
                    name: name.to_string(),
                    id: topic.id.map(|id| id.to_string()),
                    partitions: Some(topic.partitions),
                    created: true,
                });
                outcomes.succeed();
            }
            Err(error) if args.if_not_exists && exists(&error) => {
                let name = name.to_string();
                created.push(Created { name, id: None, partitions: None, created: false });
                outcomes.succeed();
            }
            Err(error) => outcomes.fail(error.into()),
        }
    }
    if !created.is_empty() {
        globals.output().items("topic.create", &created, |_| {
            Page::new().table(COLUMNS, created.iter().map(Created::cells))
        })?;
    }
    outcomes.finish()
}

fn new_topic(name: &TopicName, args: &CreateArgs) -> NewTopic {
    let mut topic = NewTopic::new(name.clone());
    if let Some(partitions) = args.partitions {
        topic = topic.partitions(partitions);
    }
    if let Some(replication_factor) = args.replication_factor {
        topic = topic.replication_factor(replication_factor);
    }
    args.configs.iter().fold(topic, |topic, (key, value)| topic.config(key, value))
}

fn exists(error: &Error) -> bool {
    error.code() == Some(ErrorCode::TopicAlreadyExists)
}

impl Created {
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            super::or_dash(self.partitions),
            if self.created { "created" } else { "exists" }.to_owned(),
            super::or_dash(self.id.as_ref()),
        ]
    }
}
