//! What is fed, room by room.

mod backup;
mod batch;
mod broker;
mod log;
mod proto;
mod state;
mod text;

use crate::engine::Target;

/// All targets.
pub static ALL: &[Target] = &[
    batch::BATCH,
    log::START_POINT,
    log::SEGMENT,
    log::VOTES,
    log::RECOVERY_OF_SEGMENT,
    log::RECOVERY_OF_INDEX,
    log::RECOVERY_OF_START,
    log::RECOVERY_OF_COMPACTED,
    state::PARTITION_COMMAND,
    state::PARTITION_SNAPSHOT,
    state::METADATA_COMMAND,
    state::METADATA_REPLY,
    state::METADATA_SNAPSHOT,
    state::METADATA_TOPIC,
    state::METADATA_BROKER,
    state::GROUP_COMMAND,
    state::GROUP_SNAPSHOT,
    proto::MESSAGES,
    proto::STATUS,
    text::NAMES,
    broker::IDENTITY,
    backup::BACKUP,
];

/// What came of a decoder, as a verdict.
fn verdict<T, E: std::fmt::Display>(result: Result<T, E>, ok: impl FnOnce(T) -> String) -> String {
    result.map_or_else(|err| err.to_string(), ok)
}

/// The beginning of how a value prints: which variant it is. The rest is not even made.
fn variant(value: &impl std::fmt::Debug) -> String {
    struct Beginning(String);
    impl std::fmt::Write for Beginning {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.push_str(text);
            if self.0.len() < 16 { Ok(()) } else { Err(std::fmt::Error) }
        }
    }
    let mut beginning = Beginning(String::new());
    // It ends with an error as soon as enough was written.
    let _ = std::fmt::write(&mut beginning, format_args!("{value:?}"));
    beginning.0
}
