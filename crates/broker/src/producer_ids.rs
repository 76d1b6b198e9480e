//! Producer ids, out of blocks that the metadata group hands to each broker.

use std::ops::Range;
use std::time::Duration;

use tidelog_proto::v1::Error;
use tidelog_state::metadata::{Command, Outcome};
use tidelog_types::ProducerId;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::cluster::{Cluster, unexpected};

/// How long a new block may take.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// What is left of this broker's block. The rest is lost when it stops; ids are many.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds(Mutex<Range<i64>>);

impl ProducerIds {
    /// An id that nobody else gets.
    pub(crate) async fn take(&self, cluster: &Cluster) -> Result<ProducerId, Error> {
        // Held while a block is fetched: one is enough for all who wait.
        let mut left = self.0.lock().await;
        if let Some(id) = left.next() {
            return Ok(ProducerId(id));
        }
        let command = Command::AllocateProducerIds { broker: cluster.me.broker };
        match cluster.propose(&command, Instant::now() + BLOCK_TIMEOUT).await? {
            Outcome::ProducerIds { first, count } => {
                *left = first.0 + 1..first.0 + i64::from(count);
                Ok(first)
            }
            other => Err(unexpected(&other)),
        }
    }
}
