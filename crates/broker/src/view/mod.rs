//! The view that every describe and list call reads: the metadata, written behind to a [`Map`].
//!
//! ```text
//! meta               format u32 | term u64 | index u64: what is in the map, as of which entry
//! cluster            the cluster's id, as text
//! broker/<id u32>    tidelog.v1.Broker, without what only the answering broker knows
//! topic/<name>       tidelog.v1.TopicDescription, likewise, with all its configs
//! ```
//! All of it can be made again from the metadata machine, and is whenever it does not fit: the map
//! does not open, or is of another entry than the machine is at when the broker starts.

mod map;
mod rows;
mod sled_map;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use prost::Message;
use tidelog_proto::v1;
use tidelog_state::metadata::Machine;
use tidelog_types::{LogIndex, LogPosition, Term};
use tokio::sync::watch;
use tracing::{info, warn};

pub use map::{Map, MemoryMap, MemoryMaps, OpenMap, Pair, Put};
pub use sled_map::SledMaps;

use crate::environment::Environment;

const FORMAT: u32 = 1;
const META: &[u8] = b"meta";
const CLUSTER: &[u8] = b"cluster";
const BROKERS: &[u8] = b"broker/";
const TOPICS: &[u8] = b"topic/";

/// Most changes written at a time.
const CHANGES_PER_WRITE: usize = 1_000;

/// The view. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    map: Arc<RwLock<Arc<dyn Map>>>,
    env: Environment,
    applied: watch::Receiver<Option<LogPosition>>,
}

impl View {
    /// Opens the view and keeps it up with `machine` until that ends.
    pub(crate) async fn open(
        env: Environment,
        dir: PathBuf,
        machine: watch::Receiver<Arc<Machine>>,
    ) -> io::Result<Self> {
        let maps = Arc::clone(&env.maps);
        let at = dir.clone();
        let map = env.blocking(move || open_or_rebuild(&*maps, &at)).await??;
        let map = Arc::new(RwLock::new(map));
        let (sender, applied) = watch::channel(None);
        let view = Self { map, env, applied };
        let writer = Writer { view: view.clone(), dir, written: Arc::default(), sender };
        tokio::spawn(writer.follow(machine));
        Ok(view)
    }

    /// Waits until the entry at `index` shows.
    pub(crate) async fn reach(&self, index: LogIndex) {
        let shows = |applied: &Option<LogPosition>| applied.is_some_and(|at| at.index >= index);
        // The writer ends with the broker; nobody is left to be answered then.
        let _ = self.applied.clone().wait_for(shows).await;
    }

    /// The cluster's id; `None` before it has formed.
    pub(crate) async fn cluster(&self) -> io::Result<Option<String>> {
        let found = self.read(|map| map.find(CLUSTER)).await?;
        found.map(|id| String::from_utf8(id).map_err(damaged)).transpose()
    }

    /// The brokers, by id.
    pub(crate) async fn brokers(&self) -> io::Result<Vec<v1::Broker>> {
        let page = self.read(|map| map.page(BROKERS, b"", usize::MAX)).await?;
        page.iter().map(|(_, row)| v1::Broker::decode(&row[..]).map_err(damaged)).collect()
    }

    /// The topics of these names.
    pub(crate) async fn topics(
        &self,
        names: Vec<String>,
    ) -> io::Result<Vec<Option<v1::TopicDescription>>> {
        let find = move |map: &dyn Map| -> io::Result<Vec<_>> {
            names.iter().map(|name| map.find(&rows::topic_key(name))).collect()
        };
        let found = self.read(find).await?;
        found.into_iter().map(|row| row.map(|row| decode_topic(&row)).transpose()).collect()
    }

    /// Up to `count` topics behind the name `after`, in the order of their names.
    pub(crate) async fn page(
        &self,
        after: String,
        count: usize,
    ) -> io::Result<Vec<v1::TopicDescription>> {
        let page = move |map: &dyn Map| map.page(TOPICS, &rows::topic_key(&after), count);
        self.read(page).await?.iter().map(|(_, row)| decode_topic(row)).collect()
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Map) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let map = Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner));
        self.env.blocking(move || read(&*map)).await?
    }
}

fn decode_topic(row: &[u8]) -> io::Result<v1::TopicDescription> {
    v1::TopicDescription::decode(row).map_err(damaged)
}

fn damaged(err: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, err)
}

fn open_or_rebuild(maps: &dyn OpenMap, dir: &std::path::Path) -> io::Result<Arc<dyn Map>> {
    match maps.open(dir) {
        Ok(map) => Ok(map),
        Err(err) => {
            warn!(%err, "view does not open, it is moved aside and made anew");
            maps.set_aside(dir)?;
            maps.open(dir)
        }
    }
}

/// The entry that the map is of; `None` when it is empty or not of this format.
fn entry_of(map: &dyn Map) -> io::Result<Option<LogPosition>> {
    let Some(meta) = map.find(META)? else { return Ok(None) };
    let Ok(meta) = <[u8; 20]>::try_from(&meta[..]) else { return Ok(None) };
    let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|n| meta[at + n]));
    let format = u32::from_be_bytes(std::array::from_fn(|n| meta[n]));
    let position = LogPosition { term: Term(number(4)), index: LogIndex(number(12)) };
    Ok((format == FORMAT).then_some(position))
}

fn meta(applied: LogPosition) -> Vec<u8> {
    let mut meta = FORMAT.to_be_bytes().to_vec();
    meta.extend(applied.term.0.to_be_bytes());
    meta.extend(applied.index.0.to_be_bytes());
    meta
}

/// Writes the machine behind.
struct Writer {
    view: View,
    dir: PathBuf,
    /// What the map holds.
    written: Arc<Machine>,
    sender: watch::Sender<Option<LogPosition>>,
}

impl Writer {
    async fn follow(mut self, mut machine: watch::Receiver<Arc<Machine>>) {
        loop {
            let next = Arc::clone(&machine.borrow_and_update());
            if next.applied().is_some()
                && let Err(err) = self.write(next).await
            {
                // What it shows is old from here on; the machine itself is not concerned.
                warn!(%err, "view was not written");
                self.written = Arc::default();
            }
            if machine.changed().await.is_err() {
                return;
            }
        }
    }

    async fn write(&mut self, next: Arc<Machine>) -> io::Result<()> {
        if self.written.applied().is_none() {
            self.begin(&next).await?;
        }
        let map = Arc::clone(&self.view.map.read().unwrap_or_else(PoisonError::into_inner));
        let (before, after) = (Arc::clone(&self.written), Arc::clone(&next));
        let write = move || {
            let mut changes = rows::changes(&before, &after);
            while changes.len() > CHANGES_PER_WRITE {
                let rest = changes.split_off(CHANGES_PER_WRITE);
                map.apply(std::mem::replace(&mut changes, rest))?;
            }
            // With the last part: a map that was cut short in between is not of any entry.
            changes.extend(after.applied().map(|applied| (META.to_vec(), Some(meta(applied)))));
            map.apply(changes)
        };
        self.view.env.blocking(write).await??;
        // The view may lag behind nobody.
        self.sender.send_replace(next.applied());
        self.written = next;
        Ok(())
    }

    /// Keeps what the map holds when it is of the machine's very entry, or begins with an empty one.
    async fn begin(&mut self, machine: &Arc<Machine>) -> io::Result<()> {
        let map = Arc::clone(&self.view.map.read().unwrap_or_else(PoisonError::into_inner));
        let held = self.view.env.blocking(move || entry_of(&*map)).await?;
        if matches!(held, Ok(Some(_))) && held.as_ref().ok() == Some(&machine.applied()) {
            self.written = Arc::clone(machine);
            return Ok(());
        }
        if !matches!(held, Ok(None)) {
            info!(?held, applied = ?machine.applied(), "view is of another entry, it is made anew");
        }
        // Closed before it is moved: nobody else holds it while the broker starts.
        let empty: Arc<dyn Map> = Arc::new(MemoryMap::default());
        *self.view.map.write().unwrap_or_else(PoisonError::into_inner) = empty;
        let (maps, dir) = (Arc::clone(&self.view.env.maps), self.dir.clone());
        let fresh = move || {
            maps.set_aside(&dir)?;
            maps.open(&dir)
        };
        let fresh = self.view.env.blocking(fresh).await??;
        *self.view.map.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
