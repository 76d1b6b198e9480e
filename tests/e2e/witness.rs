//! A consumer that follows the topic while brokers die, and remembers what it was shown.

use std::sync::{Arc, Mutex};

use tidelog::audit::Read;
use tidelog::demo::{connect, reduce};
use tidelog_client::Position;
use tokio::task::JoinHandle;

use crate::stage::{PARTITIONS, TOPIC};

/// What a reader saw so far, by partition.
type Seen = Arc<Mutex<Vec<Vec<Read>>>>;

/// Follows every partition from its first record until it is asked what it saw.
pub(crate) struct Witness {
    seen: Seen,
    task: JoinHandle<()>,
}

impl Witness {
    pub(crate) async fn start(bootstrap: &[String]) -> Self {
        let client = connect(bootstrap, "witness").await.unwrap();
        let mut reader = client.reader().topic(TOPIC, Position::Earliest).build().await.unwrap();
        let seen = Seen::new(Mutex::new(vec![Vec::new(); PARTITIONS as usize]));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Some(record) = reader.recv().await.unwrap() {
                let mut seen = shared.lock().unwrap();
                seen[record.partition.0 as usize].push(reduce(&record));
            }
        });
        Self { seen, task }
    }

    /// What it saw. Fails when the reader could not follow.
    pub(crate) async fn testimony(self) -> Vec<Vec<Read>> {
        self.task.abort();
        // Ended by that, or before it by itself.
        let ended = self.task.await;
        assert!(ended.is_err_and(|err| err.is_cancelled()), "the reader gave up");
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}
