//! What the commands that load a cluster have in common on their command lines.

use clap::Args;
use tidelog_client::{Client, TopicName};

use crate::Failure;
use crate::args::Globals;
use crate::connect::connect;

/// What to load the cluster with.
#[derive(Args, Clone, Debug)]
pub(super) struct LoadArgs {
    /// Topic to use; else one is created, and deleted at the end
    #[arg(long)]
    pub(super) topic: Option<TopicName>,
    /// Partitions of the topic that is created
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) partitions: u32,
    /// Bytes of each value that is written, random
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) size: u32,
    /// Clients, each with connections of its own
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) clients: u32,
}

impl LoadArgs {
    /// So many clients, connected: none is done before the last begins.
    pub(super) async fn connect(&self, globals: &Globals) -> Result<Vec<Client>, Failure> {
        let mut clients = Vec::new();
        for _ in 0..self.clients {
            clients.push(connect(globals).await?);
        }
        Ok(clients)
    }
}

/// How many of `whole` the one with this number, of so many, has to do: as even as it goes.
pub(super) fn share(whole: u64, of: u32, number: u32) -> u64 {
    let of = u64::from(of);
    whole / of + u64::from(u64::from(number) < whole % of)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_are_even_and_add_up() {
        for (whole, of, shares) in [
            (10, 3, vec![4, 3, 3]),
            (9, 3, vec![3, 3, 3]),
            (2, 3, vec![1, 1, 0]),
            (0, 2, vec![0, 0]),
        ] {
            assert_eq!((0..of).map(|number| share(whole, of, number)).collect::<Vec<_>>(), shares);
        }
    }
}
