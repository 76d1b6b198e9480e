//! What changes after a batch is encoded, and what is shared instead of copied.

use bytes::Bytes;
use tidelog_types::batch::{self, Batch, TimestampType};
use tidelog_types::{Offset, ProducerEpoch, ProducerId};

use crate::sample::three;

#[test]
fn a_stamp_keeps_length_and_crc() {
    let batch = three();
    let stamped = [&batch::stamp(&batch, Offset(41), 9), &batch[batch::STAMP_BYTES..]].concat();
    assert_eq!(stamped[8..12], batch[8..12]);
    batch::verify_crc(&stamped).unwrap();

    let stamped = Batch::new(stamped.into()).unwrap();
    let view = stamped.view();
    assert_eq!((view.base_offset(), view.last_offset()), (Offset(41), Offset(43)));
    assert_eq!((view.next_offset(), view.leader_epoch()), (Offset(44), 9));
    assert_eq!(view.timestamp_type(), TimestampType::Create);
    assert!(!view.is_control() && !view.is_transactional());
    assert_eq!(batch::BatchView::new(&batch).unwrap().leader_epoch(), -1, "as built");
    assert_eq!(stamped.records(0).unwrap().count(), 3);
}

#[test]
fn keys_and_values_are_slices_of_the_batch() {
    let batch = three();
    let inside = |part: &Option<Bytes>| {
        let part = part.as_ref().unwrap().as_ptr_range();
        let whole = batch.as_ptr_range();
        whole.start <= part.start && part.end <= whole.end
    };
    for record in batch::records(&batch, 0).unwrap() {
        let record = record.unwrap();
        assert!(inside(&record.key) && inside(&record.value));
    }
}

#[test]
fn damage_is_not_hidden_under_a_new_crc() {
    let mut bytes = three().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let producer = Some((ProducerId(1), ProducerEpoch(0), 0));
    assert!(batch::set_producer(bytes.into(), producer).is_err());
}
