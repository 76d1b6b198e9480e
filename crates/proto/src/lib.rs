//! The wire: code generated from the protobuf contract in `/proto`, and the only conversions between
//! it and Tidelog's types.
//!
//! The generated code is committed, so that nobody needs a protobuf compiler; a test of this crate
//! generates it anew and compares. After a change of the contract:
//!
//! ```text
//! UPDATE=1 cargo test -p tidelog-proto
//! ```
//!
//! Clients call with the feature `client`, brokers serve with `server`; what brokers say to each other
//! is behind `raft`, so that a client links none of it.

mod error;
mod position;
mod status;

/// Package `tidelog.v1`, as generated.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::incompatible_msrv,
    reason = "generated"
)]
#[rustfmt::skip]
pub mod v1 {
    include!("gen/tidelog.v1.rs");
    #[cfg(feature = "raft")]
    include!("gen/tidelog.v1.raft.rs");
}

pub use error::UnknownCode;

/// The version of the protocol, which is the number in the name of its package.
pub const PROTOCOL: u32 = 1;

/// The descriptors of the public services: an encoded `google.protobuf.FileDescriptorSet`.
#[cfg(feature = "reflection")]
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/tidelog.v1.bin");
