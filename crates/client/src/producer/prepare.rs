//! What a partition needs before it can send: a stream to its leader, and sometimes a new identity.

use std::sync::Arc;
use std::time::Duration;

use tidelog_proto::v1::log_service_client::LogServiceClient;
use tidelog_proto::v1::{InitProducerRequest, ProducerIdentity};
use tidelog_types::TopicPartition;
use tokio::time::{sleep, timeout};

use super::Core;
use super::link::Link;
use super::window::Identity;
use crate::Error;
use crate::cluster::{Backoff, Cluster, Leader, RESPONSE_BYTES_MAX};

/// While a stream is being opened, how often to look whether leadership has moved.
const LOOK_AROUND: Duration = Duration::from_millis(100);

/// How often all brokers may say that a topic does not exist before that is believed.
const UNKNOWN_TOPIC_MAX: u32 = 10;

/// A stream to the broker that was said to lead.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) link: Arc<Link>,
    pub(super) leader: Leader,
}

/// What is needed.
pub(super) struct Need {
    /// Wait first.
    pub(super) pause: Duration,
    /// The leadership that failed; nothing newer is known, or else it would not be asked for.
    pub(super) stale: Option<Leader>,
    /// Go on with this session, if it holds.
    pub(super) session: Option<Session>,
    /// A new identity is needed in place of this one.
    pub(super) spent: Option<Identity>,
}

/// What is there.
pub(super) struct Ready {
    pub(super) session: Session,
    pub(super) identity: Option<Identity>,
}

/// Gets what is needed, for as long as it takes. Fails only when trying is in vain; `tell` gets the
/// errors on the way.
pub(super) async fn prepare(
    core: Arc<Core>,
    partition: TopicPartition,
    topic_id: String,
    need: Need,
    tell: impl Fn(Error),
) -> Result<Ready, Error> {
    sleep(need.pause).await;
    let identity = match need.spent {
        Some(spent) => Some(init_producer(&core.cluster, Some(spent), &tell).await?),
        None => None,
    };
    let session = match need.session {
        Some(session) => session,
        None => find_leader(&core, &partition, &topic_id, need.stale, &tell).await?,
    };
    Ok(Ready { session, identity })
}

/// A new identity, from any broker.
pub(super) async fn init_producer(
    cluster: &Cluster,
    held: Option<Identity>,
    tell: &impl Fn(Error),
) -> Result<Identity, Error> {
    let spent = held;
    let held = held.map(|held| ProducerIdentity::from((held.id, held.epoch)));
    let mut backoff = Backoff::long();
    loop {
        let call = |channel| async move {
            LogServiceClient::new(channel)
                .max_decoding_message_size(RESPONSE_BYTES_MAX)
                .init_producer(InitProducerRequest { held })
                .await
        };
        match cluster.ask_any(cluster.request_timeout(), call).await {
            Ok(response) => {
                let identity = response.identity.and_then(|identity| identity.parts());
                let identity = identity.map(|(id, epoch)| Identity { id, epoch });
                // Under the old one again, what is new would pass for a duplicate.
                return identity
                    .filter(|identity| Some(*identity) != spent)
                    .ok_or_else(|| Error::protocol("any", "no new producer identity"));
            }
            Err(error) if error.is_retriable() => tell(error),
            Err(error) => return Err(error),
        }
        sleep(backoff.next()).await;
    }
}

/// A stream to the leader. Looks for a newer leader whenever the known one does not work out.
async fn find_leader(
    core: &Core,
    partition: &TopicPartition,
    topic_id: &str,
    mut stale: Option<Leader>,
    tell: &impl Fn(Error),
) -> Result<Session, Error> {
    let cluster = &core.cluster;
    let metadata = cluster.metadata();
    let known = || metadata.leader(&partition.topic, partition.partition);
    let mut backoff = Backoff::short();
    let mut unknown_for = 0;
    loop {
        let leader = known();
        if let Some(leader) = leader.as_ref().filter(|leader| Some(*leader) != stale.as_ref()) {
            let link = core.links.to(cluster, &leader.address)?;
            match timeout(LOOK_AROUND, link.opened()).await {
                Ok(Ok(())) => return Ok(Session { link, leader: leader.clone() }),
                Ok(Err(error)) => tell(error),
                // It goes on opening, and is looked at again.
                Err(_) => {}
            }
        }
        let address = leader.as_ref().map(|leader| &*leader.address);
        match cluster.refresh(&partition.topic, address).await {
            Ok(()) => {
                unknown_for = 0;
                if metadata.topic(&partition.topic).is_some_and(|topic| topic.id != topic_id) {
                    return Err(Error::UnknownTopic { topic: partition.topic.clone() });
                }
            }
            // The topic may be about to be made again.
            Err(error @ Error::UnknownTopic { .. }) => {
                unknown_for += 1;
                if unknown_for > UNKNOWN_TOPIC_MAX {
                    return Err(error);
                }
                tell(error);
                sleep(backoff.next()).await;
                continue;
            }
            Err(error) => tell(error),
        }
        if known() == leader {
            sleep(backoff.next()).await;
        }
        // The same leader may have been slow to take over, or may be back: it gets another chance.
        stale = None;
    }
}
