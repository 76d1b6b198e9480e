//! `tidelog consume`: prints records.

mod args;
mod begin;
mod bounded;
mod goal;
mod member;
mod membership;
mod sink;
mod stream;

use std::process::ExitCode;

pub(crate) use args::{ConsumeArgs, Shown};
pub(crate) use bounded::Bounded;
pub(crate) use sink::Sink;
pub(crate) use stream::{consumed, pour};

use membership::Membership;

use crate::Failure;
use crate::args::Globals;
use crate::connect::connect;
use crate::interrupt::Interrupt;
use crate::runtime::block_on;

/// Prints the records of topics.
pub(crate) fn run(globals: &Globals, args: ConsumeArgs) -> Result<ExitCode, Failure> {
    block_on(consume(globals, &args))
}

async fn consume(globals: &Globals, args: &ConsumeArgs) -> Result<ExitCode, Failure> {
    let membership = Membership::of(args, globals.zone())?;
    let client = connect(globals).await?;
    let mut interrupt = Interrupt::listen()?;
    let sink = Sink::stdout(&args.shown, globals.output().is_json(), globals.zone());
    match membership {
        Some(membership) => {
            member::run(&client, args, membership, sink, globals.zone(), &mut interrupt).await?;
        }
        None => {
            let reader = begin::reader(&client, args, globals.zone()).await?;
            pour(reader, sink, args.number, &mut interrupt).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
