//! Record batches, as producers, brokers and readers see them.

use bytes::Bytes;
use tidelog_types::batch::{self, Builder, CRC_FROM, Codec, HEADER_BYTES, Info, Limits, NewRecord};
use tidelog_types::{ProducerEpoch, ProducerId, Timestamp};

use super::verdict;
use crate::engine::Target;

/// What a reader lets a batch inflate to.
const INFLATE_BYTES_MAX: usize = 256 * 1024;

pub(super) const BATCH: Target = Target {
    name: "batch",
    samples,
    run,
    mend: Some(mend),
    // Inflated a few times, one after the other, each time into a buffer that doubles, beside the tables of codecs.
    allocates: (8 * INFLATE_BYTES_MAX + 1024 * 1024, 128),
};

fn samples() -> Vec<Vec<u8>> {
    let codecs = [Codec::None, Codec::Lz4, Codec::Zstd];
    let producers = [None, Some((ProducerId(7), ProducerEpoch(1), 12))];
    codecs.into_iter().flat_map(|codec| producers.map(|producer| sample(codec, producer))).collect()
}

/// A batch with some records of every shape.
pub(super) fn sample(codec: Codec, producer: Option<(ProducerId, ProducerEpoch, i32)>) -> Vec<u8> {
    let mut builder = Builder::new();
    let keys: [Option<&[u8]>; 4] = [Some(b"key"), None, Some(b""), Some(b"k")];
    let values: [Option<&[u8]>; 4] = [Some(b"value value"), Some(b""), None, Some(&[b'v'; 200])];
    for (n, (key, value)) in (0..).zip(keys.into_iter().zip(values)) {
        let headers: &[(&str, Option<&[u8]>)] = &[("kind", Some(b"order")), ("none", None)];
        let timestamp = Timestamp(1_700_000_000_000 + n);
        let record = NewRecord { key, value, headers, timestamp };
        builder.push(&record).expect("the record is small");
    }
    builder.finish(codec, producer).expect("the codec is built in").to_vec()
}

fn run(input: &[u8]) -> String {
    let bytes = Bytes::copy_from_slice(input);
    let checked = batch::check(&bytes, &Limits { batch_bytes_max: 1024 * 1024 });
    let read = batch::records(&bytes, INFLATE_BYTES_MAX)
        .and_then(|records| records.map(|record| record.map(drop)).collect::<Result<Vec<()>, _>>());
    if let Ok(info) = &checked {
        assert_eq!(Info::read(&bytes).as_ref(), Ok(info));
        assert!(batch::verify_crc(&bytes).is_ok(), "what was checked has a checksum that holds");
        if info.codec == Codec::None {
            let count = read.as_ref().map(Vec::len).expect("what was checked can be read");
            assert_eq!(count, info.count as usize);
        }
    }
    // What is left of a batch that can be read can be read, too.
    if let Ok(Some(left)) = batch::retain(&bytes, INFLATE_BYTES_MAX, |record| record.key.is_none())
    {
        assert!(batch::verify_crc(&left).is_ok(), "what is left has a checksum that holds");
        let read = batch::records(&left, INFLATE_BYTES_MAX).expect("it inflates to less");
        assert!(read.map(|record| record.expect("it was read")).all(|left| left.key.is_none()));
    }
    let keys = batch::check_keys(&bytes, INFLATE_BYTES_MAX);
    // One after the other in one buffer, as a reader gets them: never out of its bounds.
    let whole: usize = batch::split(&bytes).map_while(Result::ok).map(|part| part.len()).sum();
    assert!(whole <= bytes.len());
    let read = verdict(read, |all| format!("{} read", all.len().min(3)));
    let (checked, keys) = (verdict(checked, |_| "ok".into()), verdict(keys, |()| "ok".into()));
    format!("{checked}, {keys}, {read}")
}

/// Puts length and checksum right.
pub(super) fn mend(input: &mut [u8]) {
    if input.len() < HEADER_BYTES {
        return;
    }
    let length = (input.len() - 12) as i32;
    input[8..12].copy_from_slice(&length.to_be_bytes());
    input[16] = batch::MAGIC;
    let crc = crc32c::crc32c(&input[CRC_FROM..]);
    input[17..21].copy_from_slice(&crc.to_be_bytes());
}
