//! Connecting to a cluster, and saying what to do when it refuses.

use std::time::Duration;

use tidelog_client::{Client, Error, ErrorCode};

use crate::args::Globals;
use crate::target::Target;
use crate::{Failure, chain};

/// The longest time that finding a broker may take: who waits longer has mistyped the address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// What the client calls a broker when one answer stands for whichever was asked.
const ANY_BROKER: &str = "any";

/// Connects to the cluster that the command line names.
pub(crate) async fn connect(globals: &Globals) -> Result<Client, Failure> {
    let target = Target::find(globals)?;
    let within = globals.request_timeout();
    let mut builder = Client::builder(&target.bootstrap)
        .client_id("tidelog-cli")
        .connect_timeout(CONNECT_TIMEOUT.min(within))
        .request_timeout(within);
    if let Some(cluster) = target.cluster {
        builder = builder.cluster(cluster);
    }
    builder.connect().await.map_err(Failure::from)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = match (&error, error.code()) {
            (Error::Refused(refusal), _) => {
                let (message, name) = (&refusal.message, &refusal.name);
                match refusal.address.as_str() {
                    ANY_BROKER => format!("{message} ({name})"),
                    address => format!("{message} ({name}, broker {address})"),
                }
            }
            (error, Some(code)) => format!("{} ({code})", chain(error)),
            (error, None) => chain(error),
        };
        let failure = Self::new(message).code(error.code());
        match next_step(&error) {
            Some(next_step) => failure.next_step(next_step),
            None => failure,
        }
    }
}

/// What a user can do about an error.
fn next_step(error: &Error) -> Option<String> {
    let step = match error {
        Error::Unreachable { .. } | Error::Unavailable { .. } => {
            "start a broker (`tidelog dev` runs three), or name others with -b"
        }
        Error::TimedOut { .. } => {
            "look at `tidelog cluster health`, or give more time with --timeout"
        }
        Error::UnknownTopic { topic } => {
            return Some(format!("create it: tidelog topic create {topic}"));
        }
        Error::UnknownPartition { topic, .. } => {
            return Some(format!("look at them: tidelog topic describe {topic}"));
        }
        Error::OtherCluster { .. } => {
            "see which brokers the context names, and why: tidelog context show"
        }
        Error::NotFormed { .. } => "start the brokers that it waits for",
        _ => match error.code()? {
            ErrorCode::TopicAlreadyExists => "pass --if-not-exists to accept that",
            ErrorCode::InvalidReplicationFactor => "see the brokers: tidelog cluster brokers",
            ErrorCode::NotController
            | ErrorCode::NotLeader
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::BrokerNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::RequestTimedOut
            | ErrorCode::OffsetNotAvailable => "look at `tidelog cluster health`, then try again",
            ErrorCode::MessageTooLarge => {
                "raise the topic's max.message.bytes (tidelog topic config TOPIC --set …) or send less"
            }
            ErrorCode::StorageError | ErrorCode::StorageFull | ErrorCode::ReplicaQuarantined => {
                "look at the broker's log and disk"
            }
            ErrorCode::OffsetOutOfRange => "read from where records begin: --from start",
            ErrorCode::GroupIdNotFound => "see which groups there are: tidelog group list",
            ErrorCode::NonEmptyGroup => {
                "stop its members first; see who they are: tidelog group describe GROUP"
            }
            ErrorCode::GroupSubscribedToTopic => {
                "stop the members that subscribe to it; see them: tidelog group describe GROUP"
            }
            ErrorCode::FencedInstanceId => "give each consumer an instance id of its own",
            ErrorCode::ResourceExhausted => "try again in a moment",
            _ => return None,
        },
    };
    Some(step.to_owned())
}

#[cfg(test)]
mod tests {
    use tidelog_types::{PartitionId, TopicName};

    use super::*;

    #[test]
    fn an_unknown_topic_comes_with_the_line_that_creates_it() {
        let topic = TopicName::new("orders").unwrap();
        let failure = Failure::from(Error::UnknownTopic { topic: topic.clone() });
        assert_eq!(
            failure.to_string(),
            "topic orders does not exist (UNKNOWN_TOPIC_OR_PARTITION); \
             create it: tidelog topic create orders"
        );
        let partition = PartitionId(7);
        let failure = Failure::from(Error::UnknownPartition { topic, partition, partitions: 3 });
        assert!(failure.to_string().ends_with("tidelog topic describe orders"));
    }

    #[test]
    fn a_dead_bootstrap_names_every_address() {
        let mut globals = Globals::for_tests();
        globals.bootstrap = vec!["127.0.0.1:1".into(), "127.0.0.1:2".into()];
        let failure = crate::runtime::block_on(connect(&globals)).map(drop).unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("127.0.0.1:1") && text.contains("127.0.0.1:2"), "{text}");
        assert!(text.contains("-b") && !text.contains('\n'), "{text}");
    }
}
