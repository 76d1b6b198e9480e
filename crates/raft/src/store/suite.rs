//! openraft's own storage suite, over our log and both disks, through the real flusher.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tidelog_log as log;
use tidelog_log::disk::{Disk, OsDisk};
use tidelog_log::flusher::ThreadFlusher;
use tidelog_log::{CacheBudget, Log, VotesLog};
use tidelog_types::{GroupId, NodeId};
use tokio::sync::watch;

use super::applier::Applier;
use super::log_store::LogStore;
use super::machines::{MetadataMachine, Progress};
use crate::config::TypeConfig;
use crate::executor::{Executor, ThreadExecutor};

/// Builds stores side by side in one directory.
struct Builder {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    built: AtomicU64,
}

impl StoreBuilder<TypeConfig, LogStore, Applier<MetadataMachine>, ()> for Builder {
    async fn build(
        &self,
    ) -> Result<((), LogStore, Applier<MetadataMachine>), StorageError<TypeConfig>> {
        let data = self.root.join(self.built.fetch_add(1, Ordering::Relaxed).to_string());
        self.disk.create_dir(&data).unwrap();
        let flusher = Arc::new(ThreadFlusher::new(2).unwrap());
        let votes = data.join("votes.log");
        let node = NodeId::new(1, 1);
        let votes =
            VotesLog::open(Arc::clone(&self.disk), votes, flusher.clone(), node).unwrap();
        let generation = AtomicU64::new(1);
        let env = log::Env {
            disk: Arc::clone(&self.disk),
            data,
            votes: Arc::clone(&votes),
            flusher,
            generations: Arc::new(move || generation.fetch_add(1, Ordering::Relaxed)),
        };
        let config = log::Config::new(Arc::new(CacheBudget::new(1024 * 1024)));
        let log = Log::create(env, GroupId::METADATA, config, None).unwrap();
        let executor: Arc<dyn Executor> = Arc::new(ThreadExecutor::new(1).unwrap());
        let store =
            LogStore::new(GroupId::METADATA, Arc::clone(&log), votes, Arc::clone(&executor));
        let machine = MetadataMachine::new(
            watch::Sender::new(Arc::default()),
            watch::Sender::new(Progress::default()),
        );
        Ok(((), store, Applier::open(log, executor, machine).unwrap()))
    }
}

fn passes_on(disk: Arc<dyn Disk>, root: PathBuf) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let builder = Builder { disk, root, built: AtomicU64::new(0) };
    runtime.block_on(Suite::test_all(builder)).unwrap();
}

#[test]
fn storage_suite_passes_on_the_os_disk() {
    let dir = TempDir::new().unwrap();
    passes_on(Arc::new(OsDisk), dir.path().to_owned());
}
