//! All other brokers that this node talks to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tidelog_proto::v1::StreamHello;
use tidelog_types::NodeId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::fence::Fence;
use crate::link::connector::Connector;
use crate::link::peer::{Peer, PeerStatus, Probing};
use crate::pace::Pace;

/// A death or a return, told to whoever follows liveness.
pub(crate) type Liveness = BTreeMap<NodeId, PeerStatus>;

/// The peers of this node, each with a task of its own.
#[derive(Debug)]
pub(crate) struct Peers {
    me: NodeId,
    cluster_id: String,
    /// Where this node is found.
    address: String,
    connector: Arc<dyn Connector>,
    probing: Probing,
    /// How fast nodes that learn are sent what they lack.
    pub(crate) pace: Pace,
    known: Mutex<Known>,
    liveness: watch::Sender<Liveness>,
    deaths: mpsc::UnboundedSender<NodeId>,
    /// Who is lost for good: not looked for.
    fence: Arc<Fence>,
    /// Why another node has shut this one out.
    cast_out: watch::Sender<Option<String>>,
}

#[derive(Debug, Default)]
struct Known {
    peers: BTreeMap<NodeId, Arc<Peer>>,
    addresses: BTreeMap<NodeId, String>,
    tasks: JoinSet<()>,
}

impl Peers {
    /// No peers yet. The receiver tells of every death of one.
    pub(crate) fn new(
        me: NodeId,
        cluster_id: String,
        address: String,
        connector: Arc<dyn Connector>,
        probing: Probing,
        pace: Pace,
        fence: Arc<Fence>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<NodeId>) {
        let known = Mutex::new(Known::default());
        let liveness = watch::Sender::new(Liveness::new());
        let (deaths, died) = mpsc::unbounded_channel();
        let cast_out = watch::Sender::new(None);
        let peers = Self {
            me,
            cluster_id,
            address,
            connector,
            probing,
            pace,
            known,
            liveness,
            deaths,
            fence,
            cast_out,
        };
        (Arc::new(peers), died)
    }

    /// The peer that is `node`; its task starts with the first call.
    pub(crate) fn get(self: &Arc<Self>, node: NodeId) -> Arc<Peer> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = known.peers.get(&node) {
            return Arc::clone(peer);
        }
        let hello = StreamHello {
            cluster_id: self.cluster_id.clone(),
            from: self.me.to_u64(),
            to: node.to_u64(),
            address: self.address.clone(),
        };
        let peer = Peer::new(hello, node, self.deaths.clone(), self.cast_out.clone());
        peer.set_address(self.address(&known, node));
        known.peers.insert(node, Arc::clone(&peer));
        known.tasks.spawn(Arc::clone(&peer).run(Arc::clone(&self.connector), self.probing));
        known.tasks.spawn(follow(peer.status(), node, self.liveness.clone()));
        peer
    }

    /// Tells where the brokers listen; peers that are not named keep no address.
    pub(crate) fn set_addresses(self: &Arc<Self>, addresses: BTreeMap<NodeId, String>) {
        let others: Vec<NodeId> =
            addresses.keys().copied().filter(|node| *node != self.me).collect();
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.addresses = addresses;
            for (node, peer) in &known.peers {
                peer.set_address(self.address(&known, *node));
            }
        }
        for node in others {
            // Dialled at once, so that liveness is known before a group needs it.
            self.get(node);
        }
    }

    /// Where a node is looked for, if it is.
    fn address(&self, known: &Known, node: NodeId) -> Option<String> {
        known.addresses.get(&node).filter(|_| !self.fence.is_out(node)).cloned()
    }

    /// Ends the connections to those who were shut out meanwhile.
    pub(crate) fn shut_out(&self) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, peer) in known.peers.iter().filter(|(node, _)| self.fence.is_out(**node)) {
            peer.set_address(None);
            peer.close();
        }
    }

    /// Why another node has shut this one out, if one has.
    pub(crate) fn cast_out(&self) -> watch::Receiver<Option<String>> {
        self.cast_out.subscribe()
    }

    /// A node that this one has heard of says where it listens. It counts beside the address that was
    /// told for it, which may be of before: a leader that does not find a broker any more is the very
    /// one that the broker would have to tell.
    pub(crate) fn met(&self, node: NodeId, address: &str) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = known.peers.get(&node) {
            peer.said(address);
        }
    }

    /// The state of every peer, as it changes.
    pub(crate) fn liveness(&self) -> watch::Receiver<Liveness> {
        self.liveness.subscribe()
    }

    /// Peers that answer, and this node.
    pub(crate) fn live(&self) -> BTreeSet<NodeId> {
        let liveness = self.liveness.borrow();
        let live = liveness.iter().filter(|(_, status)| **status == PeerStatus::Live);
        live.map(|(node, _)| *node).chain([self.me]).collect()
    }

    /// Peers that answer and whose disk is nearly full.
    pub(crate) fn low_on_space(&self) -> BTreeSet<NodeId> {
        let live = self.live();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let low = known.peers.iter().filter(|(_, peer)| peer.is_low_on_space());
        low.map(|(node, _)| *node).filter(|node| live.contains(node)).collect()
    }

    /// Peers that live and have said whether they understand beats.
    pub(crate) fn taking_beats(&self) -> BTreeMap<NodeId, bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let said = |(node, peer): (&NodeId, &Arc<Peer>)| Some((*node, peer.takes_beats()?));
        known.peers.iter().filter_map(said).collect()
    }

    /// Ends every connection.
    pub(crate) fn close(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.tasks.abort_all();
        for peer in known.peers.values() {
            peer.close();
        }
    }
}

async fn follow(
    mut status: watch::Receiver<PeerStatus>,
    node: NodeId,
    all: watch::Sender<Liveness>,
) {
    loop {
        let now = *status.borrow_and_update();
        all.send_modify(|liveness| {
            liveness.insert(node, now);
        });
        if status.changed().await.is_err() {
            return;
        }
    }
}
