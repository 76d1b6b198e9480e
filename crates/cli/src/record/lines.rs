//! Lines of bytes, whatever they hold, within a bound.

use std::io::{self, BufRead, Read};

/// The longest line that is read: the largest record that a topic can be made to take, as base64 in
/// JSON. It bounds the memory that a file without line ends takes.
pub(crate) const LINE_BYTES_MAX: usize = 24 * 1024 * 1024;

/// The next line without its end, at most `bytes_max` long; `None` behind the last.
///
/// A line ends at a line feed or at the end of the input. Nothing else is looked at: a carriage
/// return or a byte that is not UTF-8 belongs to the line.
///
/// # Errors
/// When the input fails or the line is longer.
pub(crate) fn read_line(input: &mut impl BufRead, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let window = (bytes_max as u64).saturating_add(1);
    if input.take(window).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > bytes_max {
        return Err(io::Error::other(format!("has more than {bytes_max} bytes")));
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mut input: &[u8], bytes_max: usize) -> io::Result<Vec<Vec<u8>>> {
        std::iter::from_fn(|| read_line(&mut input, bytes_max).transpose()).collect()
    }

    #[test]
    fn lines_are_raw_bytes() {
        let expected: [&[u8]; 4] = [b"a\r", b"", b"\xff\x00", b"last"];
        assert_eq!(lines(b"a\r\n\n\xff\x00\nlast", 10).unwrap(), expected);
        assert!(lines(b"", 10).unwrap().is_empty());
    }

    #[test]
    fn a_line_over_the_bound_is_refused() {
        assert_eq!(lines(b"ab\ncd", 2).unwrap().len(), 2);
        let error = lines(b"ab\nabc\n", 2).unwrap_err();
        assert_eq!(error.to_string(), "has more than 2 bytes");
    }
}
