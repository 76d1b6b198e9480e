//! Errors of the wire and the error codes of Tidelog.

use std::fmt;
use std::time::Duration;

use tidelog_types::{BrokerId, ErrorCode, Kind};

use crate::v1::{Error, LeaderHint};

/// A number that this version has no error code for: a newer broker sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCode {
    /// The number.
    pub number: i32,
}

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown error code {}", self.number)
    }
}

impl std::error::Error for UnknownCode {}

impl Error {
    /// An error of `code`; whether it is retriable follows from the code.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code: code.number(),
            name: code.name().to_owned(),
            message: message.into(),
            retriable: matches!(code.kind(), Kind::Retry | Kind::Redirect),
            leader: None,
            retry_after_ms: 0,
            // This code says so by its meaning; see `with_maybe_written` for the others.
            maybe_written: code == ErrorCode::RequestTimedOut,
        }
    }

    /// The same, with where the leader is.
    #[must_use]
    pub fn with_leader(mut self, leader: Option<LeaderHint>) -> Self {
        self.leader = leader;
        self
    }

    /// The same, with how long to wait; at least a millisecond.
    #[must_use]
    pub fn with_retry_after(mut self, pause: Duration) -> Self {
        self.retry_after_ms = u32::try_from(pause.as_millis()).unwrap_or(u32::MAX).max(1);
        self
    }

    /// The same, with whether the records may have been written.
    #[must_use]
    pub fn with_maybe_written(mut self, maybe_written: bool) -> Self {
        self.maybe_written = maybe_written;
        self
    }

    /// The code.
    ///
    /// # Errors
    /// When this version does not know the number; `retriable` and `name` still tell what it is.
    pub fn error_code(&self) -> Result<ErrorCode, UnknownCode> {
        ErrorCode::from_number(self.code).ok_or(UnknownCode { number: self.code })
    }

    /// How long to wait before the next try, if the broker said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        (self.retry_after_ms > 0).then(|| Duration::from_millis(self.retry_after_ms.into()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}: {}", self.name, self.message)
    }
}

impl std::error::Error for Error {}

impl LeaderHint {
    /// A hint at `broker`, of which the address may be unknown.
    #[must_use]
    pub fn new(broker: BrokerId, address: Option<String>, leader_epoch: i32) -> Self {
        Self { broker_id: broker.0, address: address.unwrap_or_default(), leader_epoch }
    }

    /// The broker.
    #[must_use]
    pub const fn broker(&self) -> BrokerId {
        BrokerId(self.broker_id)
    }

    /// The address, if the answering broker knew it.
    #[must_use]
    pub fn known_address(&self) -> Option<&str> {
        (!self.address.is_empty()).then_some(self.address.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_from_the_wire() {
        for code in ErrorCode::ALL {
            let error = Error::new(*code, "");
            assert_eq!(error.error_code(), Ok(*code));
            assert_eq!(error.name, code.name());
        }
    }

    #[test]
    fn a_code_of_a_newer_version_is_kept() {
        let error = Error { code: 31_337, retriable: true, ..Error::default() };
        assert_eq!(error.error_code(), Err(UnknownCode { number: 31_337 }));
    }

    #[test]
    fn a_pause_below_a_millisecond_is_not_none() {
        let error = Error::new(ErrorCode::ResourceExhausted, "budget is used up");
        assert_eq!(error.retry_after(), None);
        let error = error.with_retry_after(Duration::from_micros(3));
        assert_eq!(error.retry_after(), Some(Duration::from_millis(1)));
    }
}
