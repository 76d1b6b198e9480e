//! Nodes that were declared lost for good, and groups that went on without them: `<data>/recoveries`.
//!
//! ```text
//! tidelog recoveries 1
//! lost 2.1 1764399999000
//! recovered metadata 7-4711 1764399999012
//! crc 1a2b3c4d
//! ```
//! A line each, with milliseconds since the Unix epoch. A recovery names the entry in which its group began
//! anew. The last line is the CRC-32C of those above it, in hexadecimal digits. A file that is damaged keeps
//! the node from starting: it would let in again whom the cluster goes on without.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tidelog_log::disk::{self, Disk};
use tidelog_types::{GroupId, LogIndex, LogPosition, NodeId, Term, Timestamp, canary};
use tokio::sync::{Mutex, watch};

use crate::executor::{self, Executor};

const FILE: &str = "recoveries";

const TITLE: &str = "tidelog recoveries 1";

/// What stands in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Recoveries {
    /// Nodes that are lost, and since when they count as such.
    lost: BTreeMap<NodeId, Timestamp>,
    /// Groups that went on with what this node held, in the order in which they did.
    recovered: Vec<(GroupId, LogPosition, Timestamp)>,
}

/// Who is shut out. What is told of it is durable.
#[derive(Debug)]
pub(crate) struct Fence {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    executor: Arc<dyn Executor>,
    written: Arc<watch::Sender<Arc<Recoveries>>>,
    /// Held until the file is written, whether anybody still waits for it or not.
    turn: Arc<Mutex<()>>,
}

impl Fence {
    /// Reads what was declared in `data` before.
    pub(crate) async fn open(
        disk: Arc<dyn Disk>,
        data: PathBuf,
        executor: Arc<dyn Executor>,
    ) -> io::Result<Self> {
        let path = data.join(FILE);
        let (from, file) = (Arc::clone(&disk), path.clone());
        let read = move || match disk::read_all(&*from, &file) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Recoveries::default()),
            Err(err) => Err(err),
            Ok(bytes) => Recoveries::decode(&bytes).map_err(|reason| {
                let file = file.display();
                io::Error::other(format!("{file} is damaged: {reason}; put the file back"))
            }),
        };
        let held = executor::run(&*executor, read).await??;
        let (written, turn) = (Arc::new(watch::Sender::new(Arc::new(held))), Arc::default());
        Ok(Self { disk, path, executor, written, turn })
    }

    /// Whether `node` is shut out.
    pub(crate) fn is_out(&self, node: NodeId) -> bool {
        self.written.borrow().lost.contains_key(&node) && !canary!(LostLetIn)
    }

    /// Everybody who is shut out.
    pub(crate) fn out(&self) -> BTreeSet<NodeId> {
        self.written.borrow().lost.keys().copied().collect()
    }

    /// Shuts nodes out, for good, once it is on disk.
    pub(crate) async fn shut_out(
        &self,
        nodes: &BTreeSet<NodeId>,
        now: Timestamp,
    ) -> io::Result<()> {
        if nodes.is_subset(&self.out()) {
            return Ok(());
        }
        self.change(|held| {
            for node in nodes {
                held.lost.entry(*node).or_insert(now);
            }
        })
        .await
    }

    /// Notes that a group goes on alone from the entry at `at`.
    pub(crate) async fn note(
        &self,
        group: GroupId,
        at: LogPosition,
        now: Timestamp,
    ) -> io::Result<()> {
        self.change(|held| held.recovered.push((group, at, now))).await
    }

    async fn change(&self, change: impl FnOnce(&mut Recoveries)) -> io::Result<()> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let mut next = Recoveries::clone(&self.written.borrow());
        change(&mut next);
        let (disk, path, bytes) = (Arc::clone(&self.disk), self.path.clone(), next.encode());
        let written = Arc::clone(&self.written);
        let write = move || {
            disk::replace(&*disk, &path, bytes.as_bytes())?;
            written.send_replace(Arc::new(next));
            drop(turn);
            Ok(())
        };
        executor::run(&*self.executor, write).await?
    }
}

impl Recoveries {
    fn encode(&self) -> String {
        let mut text = format!("{TITLE}\n");
        for (node, at) in &self.lost {
            text.push_str(&format!("lost {node} {}\n", at.0));
        }
        for (group, position, at) in &self.recovered {
            let (term, index) = (position.term.0, position.index.0);
            text.push_str(&format!("recovered {group} {term}-{index} {}\n", at.0));
        }
        let crc = crc32c::crc32c(text.as_bytes());
        text.push_str(&format!("crc {crc:08x}\n"));
        text
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text")?;
        let at = text.rfind("crc ").ok_or("it has no checksum")?;
        let (body, crc) = text.split_at(at);
        if crc != format!("crc {:08x}\n", crc32c::crc32c(body.as_bytes())) {
            return Err("its checksum does not fit");
        }
        let mut lines = body.lines();
        if lines.next() != Some(TITLE) {
            return Err("it is of an unknown format");
        }
        let mut held = Self::default();
        lines.try_for_each(|line| held.read(line)).ok_or("a line is none of its own")?;
        Ok(held)
    }

    fn read(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["lost", node, at] => {
                let (broker, incarnation) = node.split_once('.')?;
                let node = NodeId::new(broker.parse().ok()?, incarnation.parse().ok()?);
                self.lost.insert(node, Timestamp(at.parse().ok()?));
            }
            ["recovered", group, position, at] => {
                let (term, index) = position.split_once('-')?;
                let term = Term(term.parse().ok()?);
                let position = LogPosition { term, index: LogIndex(index.parse().ok()?) };
                self.recovered.push((group.parse().ok()?, position, Timestamp(at.parse().ok()?)));
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use tidelog_log::sim::SimDisk;

    use super::*;
    use crate::executor::InlineExecutor;

    fn held() -> Recoveries {
        let at = LogPosition { term: Term(7), index: LogIndex(4711) };
        let mut held = Recoveries::default();
        held.lost.insert(NodeId::new(2, 1), Timestamp(5));
        held.lost.insert(NodeId::new(30, 2), Timestamp(6));
        held.recovered.push((GroupId::METADATA, at, Timestamp(7)));
        let topic = tidelog_types::TopicId(0xfeed << 100);
        let group = GroupId::new(topic, tidelog_types::PartitionId(3));
        held.recovered.push((group, at, Timestamp(8)));
        held
    }

    #[test]
    fn recoveries_read_back_and_every_changed_byte_is_seen() {
        let bytes = held().encode().into_bytes();
        assert_eq!(Recoveries::decode(&bytes), Ok(held()));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Recoveries::decode(&damaged).is_err(), "byte {at}");
            assert!(Recoveries::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn mutated_recoveries_are_refused_or_read_back() {
        crate::mutated::each(held().encode().as_bytes(), |bytes| {
            // With a checksum that fits, so that the lines are looked at.
            let text = String::from_utf8_lossy(bytes);
            let body = text.rfind("crc ").map_or(&*text, |at| &text[..at]);
            let whole = format!("{body}crc {:08x}\n", crc32c::crc32c(body.as_bytes()));
            if let Ok(held) = Recoveries::decode(whole.as_bytes()) {
                assert_eq!(Recoveries::decode(held.encode().as_bytes()), Ok(held));
            }
        });
    }

    #[tokio::test]
    async fn who_is_shut_out_stays_out_when_the_node_comes_back() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
        disk.create_dir("data".as_ref()).unwrap();
        let open = || Fence::open(Arc::clone(&disk), "data".into(), Arc::new(InlineExecutor));
        let fence = open().await.unwrap();
        let (lost, other) = (NodeId::new(2, 1), NodeId::new(2, 2));
        fence.shut_out(&BTreeSet::from([lost]), Timestamp(5)).await.unwrap();
        for fence in [fence, open().await.unwrap()] {
            assert!(fence.is_out(lost));
            assert!(!fence.is_out(other), "another incarnation has another disk");
        }
    }
}
