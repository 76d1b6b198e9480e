//! The fields of a batch's header that the machines look at, until the types crate has its header.

use tidelog_types::{ProducerEpoch, ProducerId};

/// The header of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// The producer, or none.
    pub producer_id: ProducerId,
    /// Its epoch, or none.
    pub producer_epoch: ProducerEpoch,
    /// The sequence number of the first record.
    pub base_sequence: i32,
    /// How many records.
    pub count: u32,
}
