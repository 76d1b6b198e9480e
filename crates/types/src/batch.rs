//! Record batches: Kafka's format, version 2, byte for byte.
//!
//! What a producer encodes is what lies on disk and what a consumer gets. All numbers are big
//! endian. The source of the layout is Kafka's protocol guide, "Record Batch" (KIP-98, KIP-82).
//!
//! ```text
//!  at  bytes  field
//!   0      8  base offset            stamped by the leader  ┐
//!   8      4  batch length           of all that follows    │ not covered
//!  12      4  partition leader epoch stamped by the leader  │ by the CRC
//!  16      1  magic = 2                                     │
//!  17      4  CRC-32C                of all from byte 21    ┘
//!  21      2  attributes             bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control
//!  23      4  last offset delta
//!  27      8  base timestamp         milliseconds since the Unix epoch
//!  35      8  max timestamp
//!  43      8  producer id            -1: none
//!  51      2  producer epoch         -1: none
//!  53      4  base sequence          -1: none
//!  57      4  record count
//!  61      …  records, as one block under the codec
//!
//!  a record:  length varint · attributes i8 · timestamp delta varlong · offset delta varint
//!             key length varint (-1: null) · key · value length varint (-1: null) · value
//!             header count varint · headers
//!  a header:  name length varint · name · value length varint (-1: null) · value
//! ```
//! Varints are zigzag-encoded, seven bits a byte, the lowest bits first. Header names may repeat.
//!
//! Base offset and leader epoch lie before the CRC, so that [`stamp`] leaves the producer's checksum
//! valid from one end to the other. A broker calls [`check`] at produce and [`verify_crc`] on what it
//! gets from a leader or a disk; it inflates or encodes no batch again, but for topics that are
//! compacted ([`check_keys`], [`retain`]).
//!
//! ```
//! use tidelog_types::batch::{self, Builder, Codec, Limits, NewRecord};
//! use tidelog_types::{Offset, Timestamp};
//!
//! let mut builder = Builder::new();
//! let timestamp = Timestamp(1_700_000_000_000);
//! builder.push(&NewRecord { value: Some(b"hello"), timestamp, ..NewRecord::default() })?;
//! let encoded = builder.finish(Codec::None, None)?;
//!
//! let info = batch::check(&encoded, &Limits { batch_bytes_max: 1 << 20 })?;
//! assert_eq!(info.count, 1);
//! let mut appended = encoded.to_vec();
//! batch::stamp_in_place(&mut appended, Offset(41), 3);
//!
//! for record in batch::records(&appended.into(), 1 << 20)? {
//!     let record = record?;
//!     assert_eq!((record.offset, record.value), (Offset(41), Some("hello".into())));
//! }
//! # Ok::<(), batch::BatchError>(())
//! ```

mod builder;
mod check;
mod codec;
mod compact;
mod error;
mod info;
mod layout;
mod record;
mod records;
mod split;
mod stamp;
mod varint;
mod view;

pub use builder::{Builder, NewRecord};
pub use check::{Limits, check, check_keys, verify_crc};
pub use codec::Codec;
pub use compact::{Keyed, each_key, retain};
pub use error::BatchError;
pub use info::Info;
pub use layout::{CRC_FROM, HEADER_BYTES, MAGIC, STAMP_BYTES};
pub use record::{Header, HeaderName, Record};
pub use records::{Records, records};
pub use split::{Split, split};
pub use stamp::{set_producer, stamp, stamp_in_place};
pub use view::{Batch, BatchView, TimestampType};
