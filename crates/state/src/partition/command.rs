//! Commands to a partition, as they stand in the body of an entry.
//!
//! ```text
//! version u8 = 1 | tag u8 | body
//!                  1 trim:     to u64
//!                  2 compact:  to u64 | mature_to u64 | tombstones_to u64
//! ```

use tidelog_types::Offset;

use super::Goal;
use crate::DecodeError;
use crate::codec::{Reader, Writer};

const VERSION: u8 = 1;
const TRIM: u8 = 1;
const COMPACT: u8 = 2;

/// A command to one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Forget the records below `to`.
    Trim {
        /// The wanted log start; moved into `log_start..=high_watermark` when it is applied.
        to: Offset,
    },
    /// Take records out that are superseded.
    Compact(Goal),
}

impl Command {
    /// The command's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(VERSION);
        match self {
            Self::Trim { to } => {
                writer.u8(TRIM);
                writer.u64(to.0);
            }
            Self::Compact(Goal { to, mature_to, tombstones_to }) => {
                writer.u8(COMPACT);
                writer.u64(to.0);
                writer.u64(mature_to.0);
                writer.u64(tombstones_to.0);
            }
        }
        writer.finish()
    }

    /// The inverse of [`Command::encode`].
    ///
    /// # Errors
    /// When a newer version wrote the bytes, or they are not a command.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("partition command", VERSION, bytes)?;
        let command = match reader.u8()? {
            TRIM => Self::Trim { to: Offset(reader.u64()?) },
            COMPACT => Self::Compact(Goal {
                to: Offset(reader.u64()?),
                mature_to: Offset(reader.u64()?),
                tombstones_to: Offset(reader.u64()?),
            }),
            _ => return Err(reader.malformed()),
        };
        reader.finish()?;
        Ok(command)
    }
}
