//! Where reading begins and ends: `--from`, `--until` and `--to`.

use std::str::FromStr;

use tidelog_types::Offset;

use crate::moment::Moment;

/// Where to begin in each partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// At the first record that is retained.
    Start,
    /// Behind the last record.
    End,
    /// At an offset.
    Offset(Offset),
    /// So many records before the end.
    Last(u64),
    /// At the first record that is as new as a time.
    Time(Moment),
}

/// Where to end in each partition; none of it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// At what is the end when reading begins.
    End,
    /// At an offset.
    Offset(Offset),
    /// At the first record that is as new as a time.
    Time(Moment),
}

/// Where a group goes on in each partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// At the first record that is retained.
    Start,
    /// Behind the last record.
    End,
    /// At an offset as it was written: it may be negative, and is refused then.
    Offset(i64),
    /// At the first record that is as new as a time.
    Time(Moment),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(moment) = text.strip_prefix('@') {
            return moment.parse().map(Self::Time).map_err(display);
        }
        let back = text.strip_prefix('-').filter(|count| is_number(count));
        match text {
            "start" => Ok(Self::Start),
            "end" => Ok(Self::End),
            _ if back.is_some_and(|count| count.len() <= 18) => {
                Ok(Self::Last(back.unwrap_or_default().parse().map_err(display)?))
            }
            _ => offset(text).map(Self::Offset).ok_or_else(|| {
                format!("{text:?} is no position: write start, end, an offset, -N, @TIME or @-1h")
            }),
        }
    }
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(moment) = text.strip_prefix('@') {
            return moment.parse().map(Self::Time).map_err(display);
        }
        match text {
            "end" => Ok(Self::End),
            _ => offset(text).map(Self::Offset).ok_or_else(|| {
                format!("{text:?} is no position: write end, an offset, @TIME or @-1h")
            }),
        }
    }
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(moment) = text.strip_prefix('@') {
            return moment.parse().map(Self::Time).map_err(display);
        }
        let number =
            || is_number(text.strip_prefix('-').unwrap_or(text)).then(|| text.parse().ok());
        match text {
            "start" => Ok(Self::Start),
            "end" => Ok(Self::End),
            _ => number().flatten().map(Self::Offset).ok_or_else(|| {
                format!("{text:?} is no position: write start, end, an offset, @TIME or @-1h")
            }),
        }
    }
}

fn display(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn offset(text: &str) -> Option<Offset> {
    let number: i64 = is_number(text).then(|| text.parse().ok()).flatten()?;
    Offset::from_wire(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_read() {
        let cases = [
            ("start", From::Start),
            ("end", From::End),
            ("0", From::Offset(Offset(0))),
            ("41", From::Offset(Offset(41))),
            ("-5", From::Last(5)),
            ("@-1h", From::Time("-1h".parse().unwrap())),
            ("@2026-11-02T10:00:00Z", From::Time("2026-11-02T10:00:00Z".parse().unwrap())),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn ends_are_read() {
        let cases = [
            ("end", Until::End),
            ("7", Until::Offset(Offset(7))),
            ("@now", Until::Time("now".parse().unwrap())),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn places_to_go_on_are_read() {
        let cases = [
            ("start", To::Start),
            ("end", To::End),
            ("41", To::Offset(41)),
            ("-5", To::Offset(-5)),
            ("@-1h", To::Time("-1h".parse().unwrap())),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in ["", "begin", "-", "-x", "+1", "1.5", "@", "@x", "9223372036854775808", "--5"] {
            assert!(text.parse::<From>().is_err(), "{text}");
            assert!(text.parse::<Until>().is_err(), "{text}");
            assert!(text.parse::<To>().is_err(), "{text}");
        }
        assert!("start".parse::<Until>().is_err());
    }
}
