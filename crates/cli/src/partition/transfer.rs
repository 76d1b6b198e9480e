//! `tidelog partition transfer-leader`.

use std::process::ExitCode;

use serde::Serialize;
use tidelog_types::BrokerId;

use super::args::TransferArgs;
use crate::args::Globals;
use crate::connect::connect;
use crate::{Exit, Failure, Page};

/// Who leads now.
#[derive(Debug, Serialize)]
struct Transferred {
    topic: String,
    partition: u32,
    leader: u32,
}

pub(super) async fn run(globals: &Globals, args: &TransferArgs) -> Result<ExitCode, Failure> {
    let client = connect(globals).await?;
    let item = (args.partition.clone(), Some(BrokerId(args.to)));
    let mut answers = client.admin().transfer_leaders([item]).await;
    let Some((_, answer)) = answers.pop() else {
        return Err(Failure::new(format!("no answer about {}", args.partition)));
    };
    let leader = answer?.broker;
    let done = Transferred {
        topic: args.partition.topic.to_string(),
        partition: args.partition.partition.0,
        leader: leader.0,
    };
    let sentence = format!("broker {leader} leads {}", args.partition);
    globals.output().item("partition.transfer-leader", &done, |_| {
        Page::new().verdict(leader.0 == args.to, sentence)
    })?;
    if leader.0 == args.to {
        return Ok(ExitCode::SUCCESS);
    }
    let missed = format!("broker {} did not take over, broker {leader} leads", args.to);
    Err(Failure::new(missed)
        .exit(Exit::Failed)
        .next_step(format!("see how far it is: tidelog partition raft {}", args.partition)))
}
