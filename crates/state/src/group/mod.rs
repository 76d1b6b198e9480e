//! Consumer groups: members, what they hold, and how far they are.
//!
//! Coordinators are Raft groups; each holds the consumer groups whose names hash to it. The machine
//! decides everything when a command is applied, the assignment included, so that a new leader goes on
//! without asking anybody. See docs/adr/0006.
//!
//! ```text
//! join, leave, expire, resolve ─> target (who should hold what)
//!                                   │ differs from the holder
//!                                   v
//!   held ──> revoking ──> free ──> held by the next, under a new epoch
//!                  acknowledge
//! ```

mod assignor;
mod command;
mod consumer_group;
mod encoding;
mod machine;
mod member;
mod membership;
mod offsets;
mod outcome;
mod reconcile;
mod snapshot;
mod topics;

use tidelog_types::{PartitionId, TopicId};

pub use assignor::assign;
pub use command::{Command, Committer, Join, OffsetChange};
pub use consumer_group::{Group, State};
pub use machine::{Applied, GROUPS_MAX, Machine};
pub use member::{Holding, Member, Subscription};
pub use membership::{
    CLIENT_ID_BYTES_MAX, MEMBERS_MAX, PATTERN_BYTES_MAX, PATTERNS_MAX, SUBSCRIBED_TOPICS_MAX,
    TIMEOUT_MAX, TIMEOUT_MIN,
};
pub use offsets::{Committed, OFFSET_METADATA_BYTES_MAX, OFFSETS_MAX};
pub use outcome::{Outcome, Refusal};
pub use snapshot::VERSION as SNAPSHOT_VERSION;
pub use topics::Topics;

/// A partition of a topic, as groups know it: by the topic's id, not by its name.
type Partition = (TopicId, PartitionId);
