//! A batch built here is checked, stamped, split and read here.

use bytes::Bytes;
use tidelog_types::batch::{self, Builder, Codec, Limits, NewRecord};
use tidelog_types::{Offset, ProducerEpoch, ProducerId, Timestamp};

#[test]
fn a_built_batch_is_accepted_stamped_and_read() {
    let mut builder = Builder::new();
    let headers = [("trace", Some(&b"1"[..])), ("trace", None)];
    let first = NewRecord {
        key: Some(b"k"),
        value: Some(b"v"),
        headers: &headers,
        timestamp: Timestamp(1000),
    };
    builder.push(&first).unwrap();
    builder.push(&NewRecord { timestamp: Timestamp(990), ..NewRecord::default() }).unwrap();
    let size = builder.bytes();
    let built = builder.finish(Codec::None, Some((ProducerId(7), ProducerEpoch(2), 40))).unwrap();
    assert_eq!(built.len(), size);

    let info = batch::check(&built, &Limits { batch_bytes_max: size }).unwrap();
    assert_eq!((info.count, info.bytes as usize, info.base_sequence), (2, size, 40));
    assert_eq!(info.max_timestamp, Timestamp(1000));

    let mut stamped = batch::stamp(&built, Offset(500), 9).to_vec();
    stamped.extend_from_slice(&built[batch::STAMP_BYTES..]);
    batch::verify_crc(&stamped).unwrap();
    let two = Bytes::from([&stamped[..], &built[..]].concat());
    let cut: Vec<_> = batch::split(&two).collect::<Result<_, _>>().unwrap();
    assert_eq!(cut.len(), 2);
    assert_eq!(batch::BatchView::new(&cut[0]).unwrap().leader_epoch(), 9);

    let read: Vec<_> = batch::records(&cut[0], 0).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!((read[0].offset, read[1].offset), (Offset(500), Offset(501)));
    assert_eq!(read[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(read[0].headers[1].name, "trace");
    assert_eq!((read[1].timestamp, &read[1].value), (Timestamp(990), &None));
}
