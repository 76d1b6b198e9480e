//! The byte format of commands and snapshots: fixed-width big-endian integers, and lengths in front.
//!
//! A text is `u32 length, UTF-8`; a list is `u32 count, items`; an option is a byte 0 or 1 and the
//! value. Each format begins with its own version number, so that it can grow.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Why bytes are not a command, a reply or a snapshot of this version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// A newer version wrote them.
    NewerFormat {
        /// What was decoded.
        what: &'static str,
        /// The version found.
        version: u8,
        /// The newest version that this build reads.
        known: u8,
    },
    /// They break the format.
    Malformed {
        /// What was decoded.
        what: &'static str,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewerFormat { what, version, known } => {
                write!(f, "{what} has format {version}, this build reads up to {known}")
            }
            Self::Malformed { what } => write!(f, "malformed {what}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Collects encoded values.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An encoding that begins with its version.
    pub(crate) fn new(version: u8) -> Self {
        Self { bytes: vec![version] }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u128(&mut self, value: u128) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.length(value.len());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                write(self, value);
            }
        }
    }

    pub(crate) fn list<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.length(items.len());
        items.for_each(|item| write(self, item));
    }

    fn length(&mut self, length: usize) {
        self.u32(u32::try_from(length).expect("machines bound their lists and texts below 4 Gi"));
    }
}

/// Takes encoded values off the front of a slice.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    version: u8,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks the version in front; `what` names the thing in errors.
    pub(crate) fn new(what: &'static str, known: u8, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        match bytes.split_first() {
            Some((&version, rest)) if (1..=known).contains(&version) => {
                Ok(Self { what, version, rest })
            }
            Some((&version, _)) if version > known => {
                Err(DecodeError::NewerFormat { what, version, known })
            }
            _ => Err(DecodeError::Malformed { what }),
        }
    }

    /// The version in front.
    pub(crate) const fn version(&self) -> u8 {
        self.version
    }

    /// Succeeds only when everything was taken.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }

    pub(crate) fn malformed(&self) -> DecodeError {
        DecodeError::Malformed { what: self.what }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        if bytes > self.rest.len() {
            return Err(self.malformed());
        }
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed()),
        }
    }

    pub(crate) fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, DecodeError> {
        self.array().map(u128::from_be_bytes)
    }

    pub(crate) fn text(&mut self) -> Result<String, DecodeError> {
        let bytes = self.u32()? as usize;
        let text = std::str::from_utf8(self.take(bytes)?).map_err(|_| self.malformed())?;
        Ok(text.to_owned())
    }

    /// A text with a rule of its own: a name or an id.
    pub(crate) fn parse<T: std::str::FromStr>(&mut self) -> Result<T, DecodeError> {
        self.text()?.parse().map_err(|_| self.malformed())
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(self.malformed()),
        }
    }

    /// A list; memory grows with the bytes that are there, not with the count they claim.
    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// A list whose items ascend and are never equal, so that equal sets have equal bytes.
    pub(crate) fn ascending<T: Ord>(
        &mut self,
        read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<BTreeSet<T>, DecodeError> {
        let items = self.list(read)?;
        if items.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(self.malformed());
        }
        Ok(items.into_iter().collect())
    }

    /// As [`Reader::ascending`], with a value for each key.
    pub(crate) fn ascending_by_key<K: Ord, V>(
        &mut self,
        read: impl FnMut(&mut Self) -> Result<(K, V), DecodeError>,
    ) -> Result<BTreeMap<K, V>, DecodeError> {
        let items = self.list(read)?;
        if items.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(self.malformed());
        }
        Ok(items.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_reads_back() {
        let mut writer = Writer::new(1);
        writer.u128(7);
        writer.text("täge");
        writer.option(Some(-3), Writer::i64);
        writer.option(None, Writer::u32);
        writer.list([1i16, -2].into_iter(), Writer::i16);
        let bytes = writer.finish();

        let mut reader = Reader::new("test", 1, &bytes).unwrap();
        assert_eq!(reader.u128(), Ok(7));
        assert_eq!(reader.text().as_deref(), Ok("täge"));
        assert_eq!(reader.option(Reader::i64), Ok(Some(-3)));
        assert_eq!(reader.option(Reader::u32), Ok(None));
        assert_eq!(reader.list(Reader::i16), Ok(vec![1, -2]));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn bad_bytes_are_errors() {
        let malformed = DecodeError::Malformed { what: "test" };
        assert_eq!(Reader::new("test", 1, &[]).unwrap_err(), malformed);
        assert_eq!(Reader::new("test", 1, &[0]).unwrap_err(), malformed);
        let newer = DecodeError::NewerFormat { what: "test", version: 2, known: 1 };
        assert_eq!(Reader::new("test", 1, &[2]).unwrap_err(), newer);
        let huge = [1, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Reader::new("test", 1, &huge).unwrap().list(Reader::u8), Err(malformed.clone()));
        assert_eq!(Reader::new("test", 1, &huge).unwrap().text(), Err(malformed.clone()));
        assert_eq!(Reader::new("test", 1, &[1, 9]).unwrap().finish(), Err(malformed.clone()));
        for unordered in [[1, 0, 0, 0, 2, 7, 7], [1, 0, 0, 0, 2, 7, 6]] {
            let mut reader = Reader::new("test", 1, &unordered).unwrap();
            assert_eq!(reader.ascending(Reader::u8), Err(malformed.clone()));
        }
    }
}
