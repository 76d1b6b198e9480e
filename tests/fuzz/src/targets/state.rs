//! Commands, replies and snapshots of the state machines.

use std::fmt::Debug;

use tidelog_state::{DecodeError, group, metadata, partition};

use super::{variant, verdict};
use crate::engine::Target;

/// What a machine may allocate: a list of the smallest things there are is large in memory.
const ALLOCATES: (usize, usize) = (16 * 1024, 512);

macro_rules! target {
    ($name:literal, $samples:expr, $decode:expr, $encode:expr) => {
        Target {
            name: $name,
            samples: || $samples,
            run: |input| round(input, $decode, $encode),
            mend: None,
            allocates: ALLOCATES,
        }
    };
}

pub(super) const PARTITION_COMMAND: Target = target!(
    "partition-command",
    both(
        include_str!("../../../../crates/state/tests/golden/bytes/partition_command_v1.hex"),
        include_str!(
            "../../../../crates/state/tests/golden/bytes/partition_command_compact_v1.hex"
        )
    ),
    partition::Command::decode,
    partition::Command::encode
);

pub(super) const PARTITION_SNAPSHOT: Target = target!(
    "partition-snapshot",
    both(
        include_str!("../../../../crates/state/tests/golden/bytes/partition_snapshot_v1.hex"),
        include_str!("../../../../crates/state/tests/golden/bytes/partition_snapshot_v2.hex")
    ),
    partition::Machine::decode,
    partition::Machine::encode
);

pub(super) const METADATA_COMMAND: Target =
    target!("metadata-command", commands(), metadata::Command::decode, metadata::Command::encode);

pub(super) const METADATA_REPLY: Target = target!(
    "metadata-reply",
    golden(include_str!("../../../../crates/state/tests/golden/bytes/metadata_replies_v1.hex")),
    metadata::decode_reply,
    metadata::encode_reply
);

pub(super) const METADATA_SNAPSHOT: Target =
    target!("metadata-snapshot", snapshots(), metadata::Machine::decode, metadata::Machine::encode);

pub(super) const METADATA_TOPIC: Target = target!(
    "metadata-topic",
    machine().topics().map(metadata::Topic::encode).collect(),
    metadata::Topic::decode,
    metadata::Topic::encode
);

pub(super) const METADATA_BROKER: Target = target!(
    "metadata-broker",
    machine().brokers().map(metadata::Broker::encode).collect(),
    metadata::Broker::decode,
    metadata::Broker::encode
);

pub(super) const GROUP_COMMAND: Target = target!(
    "group-command",
    golden(include_str!("../../../../crates/state/tests/golden/bytes/group_commands_v1.hex")),
    group::Command::decode,
    group::Command::encode
);

pub(super) const GROUP_SNAPSHOT: Target = target!(
    "group-snapshot",
    golden(include_str!("../../../../crates/state/tests/golden/bytes/group_snapshot_v1.hex")),
    group::Machine::decode,
    group::Machine::encode
);

/// Decodes; what came, encoded again, is the same.
fn round<T: PartialEq + Debug>(
    input: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> String {
    verdict(decode(input), |value| {
        let again = decode(&encode(&value)).expect("what was encoded is decoded");
        assert_eq!(again, value);
        variant(&value)
    })
}

fn both(first: &str, second: &str) -> Vec<Vec<u8>> {
    [golden(first), golden(second)].concat()
}

fn commands() -> Vec<Vec<u8>> {
    let all = include_str!("../../../../crates/state/tests/golden/bytes/metadata_commands_v1.hex");
    let levels = include_str!(
        "../../../../crates/state/tests/golden/bytes/metadata_commands_of_levels_v1.hex"
    );
    both(all, levels)
}

fn snapshots() -> Vec<Vec<u8>> {
    let levels =
        include_str!("../../../../crates/state/tests/golden/bytes/metadata_snapshot_v4.hex");
    let newest =
        include_str!("../../../../crates/state/tests/golden/bytes/metadata_snapshot_v2.hex");
    let first =
        include_str!("../../../../crates/state/tests/golden/bytes/metadata_snapshot_v1.hex");
    [golden(newest), golden(first), golden(levels)].concat()
}

fn machine() -> metadata::Machine {
    metadata::Machine::decode(&snapshots()[0]).expect("the golden bytes are good")
}

/// The bytes of a file of rows of hexadecimal numbers; each line that is no row begins the next.
fn golden(text: &str) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for line in text.lines() {
        let row = line.split_once("  ");
        let Some((place, bytes)) =
            row.filter(|(place, _)| usize::from_str_radix(place, 16).is_ok())
        else {
            continue;
        };
        if usize::from_str_radix(place, 16) == Ok(0) {
            all.push(Vec::new());
        }
        let bytes = bytes.split(' ').filter_map(|byte| u8::from_str_radix(byte, 16).ok());
        all.last_mut().expect("the first row is at 0").extend(bytes);
    }
    all
}
