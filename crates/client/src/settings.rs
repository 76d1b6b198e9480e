//! Settings by Kafka's names, for files and for those who come from there.

use std::time::Duration;

use crate::Error;

/// A setting out of bounds or unknown, kept until the builder builds.
pub(crate) fn refuse(key: &str, value: &str, reason: impl Into<String>) -> Error {
    Error::Setting { key: key.to_owned(), value: value.to_owned(), reason: reason.into() }
}

/// A number of milliseconds.
pub(crate) fn millis(key: &str, value: &str) -> Result<Duration, Error> {
    number(key, value).map(Duration::from_millis)
}

/// A number.
pub(crate) fn number(key: &str, value: &str) -> Result<u64, Error> {
    value.parse().map_err(|_| refuse(key, value, "is not a whole number from 0"))
}

/// A number of bytes or records.
pub(crate) fn size(key: &str, value: &str) -> Result<usize, Error> {
    let number = number(key, value)?;
    usize::try_from(number).map_err(|_| refuse(key, value, "is too large"))
}
