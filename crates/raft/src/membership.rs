//! A group's membership in bytes, for membership entries and start points.
//!
//! ```text
//! format u8 = 1 | applied u8 (0 none, 1 present) | term u64 | index u64
//! | configs u16 | each: voters u16, node u64 each | nodes u16 | node u64 each
//! ```
//! All integers big endian. `nodes` lists voters and learners alike. A membership entry carries no
//! position of its own; a start point does.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tidelog_types::{LogIndex, LogPosition, NodeId, Term};

use crate::config::{Members, StoredMembership, log_id, position};

const FORMAT: u8 = 1;

/// Membership bytes that are not laid out as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed membership")]
pub(crate) struct Malformed;

/// Encodes a membership entry's members.
pub(crate) fn encode(members: &Members) -> Bytes {
    encode_stored(&StoredMembership::new(None, members.clone()))
}

/// Decodes a membership entry's members.
pub(crate) fn decode(bytes: &[u8]) -> Result<Members, Malformed> {
    let mut rest = bytes;
    let stored = decode_stored(&mut rest)?;
    if !rest.is_empty() {
        return Err(Malformed);
    }
    Ok(stored.membership().clone())
}

/// Encodes the membership in force, with the position of its entry.
pub(crate) fn encode_stored(stored: &StoredMembership) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(FORMAT);
    let at = stored.log_id().as_ref().map(position);
    out.put_u8(u8::from(at.is_some()));
    let at = at.unwrap_or_default();
    out.put_u64(at.term.0);
    out.put_u64(at.index.0);
    let configs = stored.membership().get_joint_config();
    out.put_u16(configs.len() as u16);
    for config in configs {
        out.put_u16(config.len() as u16);
        config.iter().for_each(|node| out.put_u64(node.to_u64()));
    }
    let nodes: Vec<_> = stored.membership().nodes().map(|(node, ())| *node).collect();
    out.put_u16(nodes.len() as u16);
    nodes.iter().for_each(|node| out.put_u64(node.to_u64()));
    out.freeze()
}

/// Decodes the membership at the front of `bytes` and moves past it.
pub(crate) fn decode_stored(bytes: &mut &[u8]) -> Result<StoredMembership, Malformed> {
    if take(bytes, 1)?.get_u8() != FORMAT {
        return Err(Malformed);
    }
    let mut head = take(bytes, 17)?;
    let present = head.get_u8() == 1;
    let at = LogPosition { term: Term(head.get_u64()), index: LogIndex(head.get_u64()) };
    let configs = take(bytes, 2)?.get_u16();
    let configs = (0..configs).map(|_| nodes(bytes)).collect::<Result<Vec<_>, _>>()?;
    let all = nodes(bytes)?;
    let members = Members::new(
        configs,
        all.into_iter().map(|node| (node, ())).collect::<std::collections::BTreeMap<_, _>>(),
    )
    .map_err(|_| Malformed)?;
    Ok(StoredMembership::new(present.then(|| log_id(at)), members))
}

fn nodes(bytes: &mut &[u8]) -> Result<BTreeSet<NodeId>, Malformed> {
    let count = take(bytes, 2)?.get_u16();
    let mut list = take(bytes, usize::from(count) * 8)?;
    Ok((0..count).map(|_| NodeId::from_u64(list.get_u64())).collect())
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Malformed> {
    let (head, rest) = bytes.split_at_checked(count).ok_or(Malformed)?;
    *bytes = rest;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_survives_the_round_trip_and_cuts_are_refused() {
        let voters =
            |list: &[u32]| list.iter().map(|b| NodeId::new(*b, 1)).collect::<BTreeSet<_>>();
        let members =
            Members::new_with_defaults(vec![voters(&[1, 2, 3]), voters(&[2, 3, 4])], voters(&[9]));
        let at = LogPosition { term: Term(3), index: LogIndex(17) };
        let stored = StoredMembership::new(Some(log_id(at)), members.clone());

        let bytes = encode_stored(&stored);
        let mut rest = &bytes[..];
        assert_eq!(decode_stored(&mut rest), Ok(stored));
        assert!(rest.is_empty());
        assert_eq!(decode(&encode(&members)), Ok(members));
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), Err(Malformed), "cut at {cut}");
        }
    }

    #[test]
    fn mutated_membership_is_refused_or_says_the_same_once_more() {
        let voters =
            |list: &[u32]| list.iter().map(|b| NodeId::new(*b, 1)).collect::<BTreeSet<_>>();
        let joint = vec![voters(&[1, 2, 3]), voters(&[2, 3, 4])];
        let members = Members::new_with_defaults(joint, voters(&[9]));
        let sample = encode(&members);
        let mut taken = 0;
        crate::mutated::each(&sample, |bytes| {
            let mut rest = bytes;
            if let Ok(stored) = decode_stored(&mut rest) {
                let again = encode_stored(&stored);
                assert_eq!(decode_stored(&mut &again[..]), Ok(stored));
                taken += 1;
            }
        });
        assert!(taken > 0, "some mutations leave a membership");
    }
}
