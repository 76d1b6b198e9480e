//! Zigzag varints, as in protobuf: seven bits a byte, the lowest first.

use bytes::{BufMut, BytesMut};

/// The bytes that `value` takes.
pub(super) const fn bytes_of(value: i64) -> usize {
    let bits = u64::BITS - (zigzag(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Appends `value`. An `i32` has the same bytes whether it is written as varint or varlong.
pub(super) fn put(out: &mut BytesMut, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Reads a varint at `at` and moves `at` behind it; `None` when it is cut off or too long.
pub(super) fn read(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut zigzagged = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && bits > 1 {
            return None;
        }
        zigzagged |= bits << shift;
        if byte < 0x80 {
            return Some((zigzagged >> 1) as i64 ^ -((zigzagged & 1) as i64));
        }
    }
    None
}

const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_in_the_stated_number_of_bytes() {
        let edges =
            (0..63).flat_map(|bit| [1 << bit, (1 << bit) - 1, -(1 << bit), -(1 << bit) - 1]);
        for value in edges.chain([0, -1, i64::MAX, i64::MIN]) {
            let mut bytes = BytesMut::new();
            put(&mut bytes, value);
            assert_eq!(bytes.len(), bytes_of(value), "{value}");
            let mut at = 0;
            assert_eq!(read(&bytes, &mut at), Some(value));
            assert_eq!(at, bytes.len());
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut], &mut 0), None, "{value} cut to {cut} bytes");
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_protobuf_guide() {
        let table: [(i64, &[u8]); 5] =
            [(0, &[0]), (-1, &[1]), (1, &[2]), (150, &[0xac, 0x02]), (-64, &[0x7f])];
        for (value, expected) in table {
            let mut bytes = BytesMut::new();
            put(&mut bytes, value);
            assert_eq!(&bytes[..], expected, "{value}");
        }
    }

    #[test]
    fn more_than_64_bits_are_refused() {
        assert_eq!(read(&[0xff; 11], &mut 0), None);
        let mut too_much = [0xff; 10];
        too_much[9] = 0x02;
        assert_eq!(read(&too_much, &mut 0), None);
        too_much[9] = 0x01;
        assert_eq!(read(&too_much, &mut 0), Some(i64::MIN));
    }
}
