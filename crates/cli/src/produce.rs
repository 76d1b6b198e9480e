//! `tidelog produce`: records from stdin.

mod args;
mod sending;
mod stdin;
mod tally;

use std::process::ExitCode;

use tidelog_client::Compression;

pub(crate) use args::{Codec, ProduceArgs};
pub(crate) use sending::{failure, to_record};

use args::Shape;
use sending::Sending;

use crate::Failure;
use crate::args::Globals;
use crate::connect::connect;
use crate::interrupt::Interrupt;
use crate::runtime::block_on;
use crate::topic::partition_count;

/// Produces what stdin holds and prints where it went.
pub(crate) fn run(globals: &Globals, args: ProduceArgs) -> Result<ExitCode, Failure> {
    let shape = args.shape().map_err(Failure::usage)?;
    block_on(produce(globals, &args, shape))
}

async fn produce(globals: &Globals, args: &ProduceArgs, shape: Shape) -> Result<ExitCode, Failure> {
    let output = globals.output();
    let client = connect(globals).await?;
    // Before anything is read, so that a mistyped name costs no input.
    let partitions = partition_count(&client, &args.topic).await?;
    let mut builder = client.producer().compression(args.compression.into());
    if let Some(within) = globals.timeout {
        builder = builder.delivery_timeout(within).buffer_timeout(within);
    }
    let producer = builder.build().await?;
    let mut interrupt = Interrupt::listen()?;
    let mut sending = Sending::new(producer, args.topic.clone(), partitions, output);
    match (shape, args.tombstone) {
        (Shape::Raw(input), true) => sending.tombstone(input).await?,
        (shape, _) => sending.take_all(stdin::read(shape)?, &mut interrupt).await?,
    }
    sending.finish().await
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}
