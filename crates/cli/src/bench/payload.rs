//! What the values are made of: random bytes, and where it matters a stamp that says whose they are.

use std::sync::Arc;

use bytes::Bytes;
use rand::RngCore;

/// Different payloads, so that nothing compresses across records of a batch.
const PAYLOADS: usize = 64;

/// Random values, made once: cheap to clone and to give out.
#[derive(Clone, Debug)]
pub(super) struct Payloads(Arc<[Bytes]>);

impl Payloads {
    /// Values of this size.
    pub(super) fn random(bytes: u32) -> Self {
        let mut random = rand::rng();
        let mut payload = || {
            let mut payload = vec![0; bytes as usize];
            random.fill_bytes(&mut payload);
            payload.into()
        };
        Self((0..PAYLOADS).map(|_| payload()).collect())
    }

    /// The value of a record.
    pub(super) fn of(&self, number: u64) -> Bytes {
        self.0[number as usize % PAYLOADS].clone()
    }
}

/// Who wrote a record. Stands at the beginning of its value:
///
/// ```text
/// run u64 · client u32 · number u64, little endian
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Of the run, random.
    pub(super) run: u64,
    /// Of the client within the run, from zero.
    pub(super) client: u32,
    /// Of the record within its client's, from zero.
    pub(super) number: u64,
}

impl Stamp {
    /// The least size of a value that has room for a stamp.
    pub(super) const BYTES: u32 = 20;

    /// The value of the record, stamped.
    pub(super) fn on(&self, payloads: &Payloads) -> Bytes {
        let payload = payloads.of(self.number);
        let rest = &payload[Self::BYTES as usize..];
        let Self { run, client, number } = self;
        let mut value = Vec::with_capacity(payload.len());
        value.extend_from_slice(&run.to_le_bytes());
        value.extend_from_slice(&client.to_le_bytes());
        value.extend_from_slice(&number.to_le_bytes());
        value.extend_from_slice(rest);
        value.into()
    }

    /// The stamp of a value; any bytes that are long enough have one, so look at the run.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let (run, rest) = value.split_first_chunk()?;
        let (client, rest) = rest.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        Some(Self {
            run: u64::from_le_bytes(*run),
            client: u32::from_le_bytes(*client),
            number: u64::from_le_bytes(*number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_as_written_and_keep_the_size() {
        let stamp = Stamp { run: u64::MAX - 3, client: 7, number: 1 << 40 };
        for bytes in [Stamp::BYTES, 1024] {
            let value = stamp.on(&Payloads::random(bytes));
            assert_eq!((value.len(), Stamp::read(&value)), (bytes as usize, Some(stamp)));
        }
        assert_eq!(Stamp::read(&[0; Stamp::BYTES as usize - 1]), None);
    }

    #[test]
    fn payloads_come_round_and_differ() {
        let payloads = Payloads::random(16);
        assert_eq!(payloads.of(3), payloads.of(3 + PAYLOADS as u64));
        assert_ne!(payloads.of(3), payloads.of(4));
    }
}
