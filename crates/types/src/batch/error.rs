//! Why bytes are refused as a record batch.

use thiserror::Error;

use super::Codec;
use crate::{ErrorCode, Kind};

/// Why bytes are refused as a record batch, or records cannot be made one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("batch needs {needed} bytes, {bytes} are there")]
    Truncated {
        /// The bytes there are.
        bytes: usize,
        /// The bytes that the header, or its length field, calls for.
        needed: usize,
    },
    /// The length field does not fit the bytes.
    #[error("batch length field is {length} in {bytes} bytes")]
    Length {
        /// The length field, which leaves out the batch's first 12 bytes.
        length: i32,
        /// The bytes there are.
        bytes: usize,
    },
    /// The batch is of another version of the format.
    #[error("batch has magic {magic}, only 2 is supported")]
    Magic {
        /// The version.
        magic: u8,
    },
    /// The checksum does not hold.
    #[error("batch carries crc {stated:#010x}, its bytes give {computed:#010x}")]
    Crc {
        /// The checksum in the header.
        stated: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A header field is out of bounds.
    #[error("batch has {field} {value}, which is out of bounds")]
    Field {
        /// The name of the field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// The number of records is not what the offsets call for.
    #[error("batch counts {count} records, last offset delta is {last_offset_delta}")]
    Count {
        /// The record count of the header.
        count: i32,
        /// The last offset delta of the header.
        last_offset_delta: i32,
    },
    /// The batch, or what it inflates to, is larger than is allowed.
    #[error("batch has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// Its size; of an inflated batch, where inflating stopped.
        bytes: usize,
        /// The most that is allowed.
        bytes_max: usize,
    },
    /// The codec is unknown, or not in this build.
    #[error("batch has codec {number}, which is not supported")]
    Codec {
        /// The codec's number.
        number: u8,
    },
    /// An attribute is set that is not for clients to set.
    #[error("batch is marked {mark}, which a client may not set (attributes={attributes:#06x})")]
    Attributes {
        /// The attributes of the header.
        attributes: i16,
        /// What is wrong with them.
        mark: &'static str,
    },
    /// A producer id without epoch or sequence.
    #[error("batch of producer {id} has epoch {epoch} and base sequence {base_sequence}")]
    Producer {
        /// The producer id.
        id: i64,
        /// The producer epoch.
        epoch: i16,
        /// The base sequence.
        base_sequence: i32,
    },
    /// The timestamps contradict each other, or their type is not for clients to set.
    #[error("batch has {reason}")]
    Timestamp {
        /// What is wrong.
        reason: &'static str,
    },
    /// A record is malformed, or breaks a rule of the topic.
    #[error("record {index} of the batch {reason}")]
    Record {
        /// The place of the record in its batch, from zero.
        index: u32,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The records could not be compressed or inflated.
    #[error("codec {codec} failed on the records: {reason}")]
    Compression {
        /// The codec.
        codec: Codec,
        /// What the codec says.
        reason: String,
    },
}

impl BatchError {
    /// The code to answer with, as Kafka's.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::Truncated { .. }
            | Self::Length { .. }
            | Self::Crc { .. }
            | Self::Field { .. }
            | Self::Compression { .. } => ErrorCode::CorruptMessage,
            // 0 and 1 are versions of Kafka's that are no longer written.
            Self::Magic { magic: 0 | 1 } => ErrorCode::InvalidRecord,
            Self::Magic { .. } => ErrorCode::CorruptMessage,
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::Codec { .. } => ErrorCode::UnsupportedCompression,
            Self::Timestamp { .. } => ErrorCode::InvalidTimestamp,
            Self::Count { .. }
            | Self::Attributes { .. }
            | Self::Producer { .. }
            | Self::Record { .. } => ErrorCode::InvalidRecord,
        }
    }

    /// What a caller can do.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.error_code().kind()
    }
}
