//! Times and durations as people write and read them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo};
use tidelog_types::Timestamp;

/// The clock that times are shown and read in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zone {
    /// Coordinated universal time.
    #[default]
    Utc,
    /// The machine's own.
    Local,
}

impl Zone {
    /// The time in RFC 3339 with milliseconds; out of the years that it can write, the number.
    #[must_use]
    pub fn show(self, timestamp: Timestamp) -> String {
        let Ok(time) = jiff::Timestamp::from_millisecond(timestamp.0) else {
            return timestamp.to_string();
        };
        let zoned = time.to_zoned_datetime(self.time_zone());
        // It has four digits for the year and no sign: what has one is read by nobody, not even here.
        if zoned.year() < 0 {
            return timestamp.to_string();
        }
        match self {
            Self::Utc => format!("{time:.3}"),
            Self::Local => zoned.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string(),
        }
    }

    fn time_zone(self) -> TimeZone {
        match self {
            Self::Utc => TimeZone::UTC,
            Self::Local => TimeZone::system(),
        }
    }
}

/// The present time by the machine's clock.
#[must_use]
pub(crate) fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// A time as given on the command line, behind the `@`.
///
/// One of: RFC 3339 (`2026-11-02T10:00:00Z`), the same without zone or without clock time (read in
/// the zone of `--local`), milliseconds since 1970, `now`, or a span back or ahead (`-1h`, `+5m`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A time that says its zone.
    At(Timestamp),
    /// A time on the clock that the zone decides.
    Clock(civil::DateTime),
    /// So far from now.
    Shifted(SignedDuration),
}

impl Moment {
    /// The time that is meant.
    ///
    /// # Errors
    /// When it lies outside the years that can be written.
    pub(crate) fn resolve(&self, now: Timestamp, zone: Zone) -> Result<Timestamp, InvalidMoment> {
        let out_of_range = |_| InvalidMoment { text: format!("{self:?}") };
        match self {
            Self::At(timestamp) => Ok(*timestamp),
            Self::Clock(clock) => {
                let time = zone.time_zone().to_timestamp(*clock).map_err(out_of_range)?;
                Ok(Timestamp(time.as_millisecond()))
            }
            Self::Shifted(shift) => {
                let shift = i64::try_from(shift.as_millis()).unwrap_or(i64::MIN);
                Ok(Timestamp(now.0.saturating_add(shift)))
            }
        }
    }
}

impl FromStr for Moment {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Self, InvalidMoment> {
        let invalid = || InvalidMoment { text: text.to_owned() };
        if text == "now" {
            return Ok(Self::Shifted(SignedDuration::ZERO));
        }
        if let Some(span) = text.strip_prefix('-') {
            return Ok(Self::Shifted(-signed(span).ok_or_else(invalid)?));
        }
        if let Some(span) = text.strip_prefix('+') {
            return Ok(Self::Shifted(signed(span).ok_or_else(invalid)?));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(|ms| Self::At(Timestamp(ms))).map_err(|_| invalid());
        }
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Ok(Self::At(Timestamp(time.as_millisecond())));
        }
        text.parse().map(Self::Clock).map_err(|_| invalid())
    }
}

/// A text that is no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvalidMoment {
    text: String,
}

impl fmt::Display for InvalidMoment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no time: write 2026-11-02T10:00:00Z, 2026-11-02, milliseconds, now, -1h or +5m",
            self.text
        )
    }
}

impl std::error::Error for InvalidMoment {}

/// Reads a duration such as `5s`, `1m30s`, `250ms` or `7d`. A day has 24 hours.
///
/// # Errors
/// A sentence for the user.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    signed(text)
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| format!("{text:?} is no duration: write 250ms, 5s, 1m30s or 7d"))
}

/// A span without sign, as `1h30m`.
fn signed(text: &str) -> Option<SignedDuration> {
    // The parser takes signs and words ("ago") of its own; one way to say a thing is enough.
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    let span: Span = plain.then(|| text.parse().ok()).flatten()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    (!duration.is_negative()).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    #[test]
    fn moments_are_read_as_people_write_them() {
        let check = |text: &str, expected: i64| {
            let moment: Moment = text.parse().unwrap();
            assert_eq!(moment.resolve(NOW, Zone::Utc), Ok(Timestamp(expected)), "{text}");
        };
        check("2026-11-02T10:00:00Z", 1_793_613_600_000);
        check("2026-11-02T10:00:00.250+01:00", 1_793_610_000_250);
        check("2026-11-02T10:00", 1_793_613_600_000);
        check("2026-11-02", 1_793_577_600_000);
        check("1700000000123", 1_700_000_000_123);
        check("now", NOW.0);
        check("-1h", NOW.0 - 3_600_000);
        check("-1h30m", NOW.0 - 5_400_000);
        check("-2d", NOW.0 - 172_800_000);
        check("+500ms", NOW.0 + 500);
    }

    #[test]
    fn what_is_no_moment_is_refused_with_examples() {
        for text in ["", "-", "yesterday", "1h", "--1h", "-1", "2026-13-01", "1h ago"] {
            let error = text.parse::<Moment>().unwrap_err();
            assert!(error.to_string().contains("2026-11-02T10:00:00Z"), "{text}");
        }
    }

    #[test]
    fn times_are_shown_in_rfc_3339_with_milliseconds() {
        assert_eq!(Zone::Utc.show(Timestamp(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
        assert_eq!(Zone::Utc.show(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(Zone::Utc.show(Timestamp(i64::MAX)), i64::MAX.to_string());
        let year_0 = -62_167_219_200_000;
        assert_eq!(Zone::Utc.show(Timestamp(year_0)), "0000-01-01T00:00:00.000Z");
        assert_eq!(Zone::Utc.show(Timestamp(year_0 - 1)), (year_0 - 1).to_string());
        let local: jiff::Timestamp = Zone::Local.show(NOW).parse().unwrap();
        assert_eq!(local.as_millisecond(), NOW.0);
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for text in ["5", "-5s", "", "soon", "1y"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
