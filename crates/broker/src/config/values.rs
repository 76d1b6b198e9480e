//! The types of configuration values, and how they are written.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tidelog_types::BrokerId;

/// A value of a configuration key: read from text, shown as text, compared with its bounds.
pub(super) trait Value: Sized {
    /// How the value is written, for the reference.
    const TYPE: &'static str;

    /// Reads it; `None` when the text is not of this type.
    fn read(text: &str) -> Option<Self>;

    /// Writes it so that [`Value::read`] gets it back.
    fn show(&self) -> String;

    /// Whether it lies within the bounds, both included and written as values of the type.
    fn within(&self, _least: &str, _most: &str) -> bool {
        true
    }
}

/// A number of bytes, written with a binary unit: `64MiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const BYTE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteSize {
    /// `count` mebibytes.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The number, as sizes in memory are counted.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit): &&(&str, u64)| self.0 >= *unit && self.0.is_multiple_of(*unit);
        let (name, unit) = BYTE_UNITS.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Value for ByteSize {
    const TYPE: &'static str = "size";

    fn read(text: &str) -> Option<Self> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = text[digits.len()..].trim();
        let unit = match unit {
            "" => 1,
            unit => BYTE_UNITS.iter().find(|(name, _)| *name == unit)?.1,
        };
        digits.trim().parse::<u64>().ok()?.checked_mul(unit).map(Self)
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn within(&self, least: &str, most: &str) -> bool {
        Self::read(least) <= Some(*self) && Some(*self) <= Self::read(most)
    }
}

/// A length of time, written with a unit: `500ms`, `2s`, `5m`, `1h`, `7d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const TIME_UNITS_MS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    /// `count` milliseconds.
    #[must_use]
    pub const fn ms(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis() as u64;
        let fits = |(_, unit): &&(&str, u64)| ms >= *unit && ms.is_multiple_of(*unit);
        let (name, unit) = TIME_UNITS_MS.iter().find(fits).unwrap_or(&("ms", 1));
        write!(f, "{}{name}", ms / unit)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Value for Span {
    const TYPE: &'static str = "duration";

    fn read(text: &str) -> Option<Self> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = text[digits.len()..].trim();
        // A bare number is refused: nobody can tell seconds from milliseconds.
        let unit = TIME_UNITS_MS.iter().find(|(name, _)| *name == unit)?.1;
        let ms = digits.trim().parse::<u64>().ok()?.checked_mul(unit)?;
        Some(Self(Duration::from_millis(ms)))
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn within(&self, least: &str, most: &str) -> bool {
        Self::read(least) <= Some(*self) && Some(*self) <= Self::read(most)
    }
}

impl Value for u32 {
    const TYPE: &'static str = "number";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn within(&self, least: &str, most: &str) -> bool {
        Self::read(least) <= Some(*self) && Some(*self) <= Self::read(most)
    }
}

impl Value for PathBuf {
    const TYPE: &'static str = "path";

    fn read(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::from(text))
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for String {
    const TYPE: &'static str = "text";

    fn read(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl<T: Value> Value for Option<T> {
    const TYPE: &'static str = T::TYPE;

    fn read(text: &str) -> Option<Self> {
        T::read(text).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, T::show)
    }

    fn within(&self, least: &str, most: &str) -> bool {
        self.as_ref().is_none_or(|value| value.within(least, most))
    }
}

/// A host and a port: `127.0.0.1:7071`, `broker-1.example:7071`, `[::1]:7071`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// The port; 0 lets the system choose, where that makes sense.
    pub port: u16,
}

impl HostPort {
    /// Whether the host stands for every address of the machine, so that nobody can dial it.
    #[must_use]
    pub fn is_unspecified(&self) -> bool {
        matches!(self.host.as_str(), "0.0.0.0" | "::")
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for HostPort {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.strip_suffix(']').ok_or(())?,
            None if host.contains(':') => return Err(()),
            None => host,
        };
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if host.is_empty() || !host.chars().all(named) {
            return Err(());
        }
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| ())? })
    }
}

impl Serialize for HostPort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Value for HostPort {
    const TYPE: &'static str = "host:port";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A broker of the first cluster: `1@127.0.0.1:7171`, its id and where its internal listener is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InitialBroker {
    /// Its id.
    pub id: BrokerId,
    /// Its internal listener, as the others dial it.
    pub address: HostPort,
}

impl fmt::Display for InitialBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.address)
    }
}

impl FromStr for InitialBroker {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (id, address) = text.trim().split_once('@').ok_or(())?;
        Ok(Self { id: BrokerId(id.parse().map_err(|_| ())?), address: address.parse()? })
    }
}

impl Serialize for InitialBroker {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Value for Vec<InitialBroker> {
    const TYPE: &'static str = "list of id@host:port";

    fn read(text: &str) -> Option<Self> {
        let list: Self = text.split(',').map(|one| one.parse().ok()).collect::<Option<_>>()?;
        // Sorted, so that equal lists are equal however they are written.
        let mut sorted = list;
        sorted.sort();
        Some(sorted)
    }

    fn show(&self) -> String {
        self.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

impl Value for Vec<HostPort> {
    const TYPE: &'static str = "list of host:port";

    fn read(text: &str) -> Option<Self> {
        text.split(',').map(|one| one.trim().parse().ok()).collect()
    }

    fn show(&self) -> String {
        self.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $type:literal { $($(#[$word_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($(#[$word_doc])* $variant,)*
        }

        impl $name {
            /// The word in the configuration.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The value of this word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }

        impl Value for $name {
            const TYPE: &'static str = $type;

            fn read(text: &str) -> Option<Self> {
                Self::from_word(text)
            }

            fn show(&self) -> String {
                self.word().to_owned()
            }
        }
    };
}

words! {
    /// How log lines are written.
    LogFormat: "`text` or `json`" {
        /// For people.
        Text = "text",
        /// One object a line.
        Json = "json",
    }
}

words! {
    /// How much is logged.
    LogLevel: "`error`, `warn`, `info`, `debug` or `trace`" {
        /// A person must look.
        Error = "error",
        /// Unexpected; the broker carried on.
        Warn = "warn",
        /// Changes of state.
        Info = "info",
        /// One line per request.
        Debug = "debug",
        /// The inside.
        Trace = "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back_as_they_are_shown() {
        for bytes in [0, 1, 1023, 1024, 65_536, 3 << 20, 5 << 30, (1 << 20) + 1] {
            assert_eq!(ByteSize::read(&ByteSize(bytes).show()), Some(ByteSize(bytes)));
        }
        for ms in [0, 1, 999, 1_000, 90_000, 60_000, 7_200_000] {
            assert_eq!(Span::read(&Span::ms(ms).show()), Some(Span::ms(ms)));
        }
        let brokers = Vec::<InitialBroker>::read("2@[::1]:7171, 1@b-1.example:1").unwrap();
        assert_eq!(brokers.show(), "1@b-1.example:1,2@[::1]:7171");
    }

    #[test]
    fn what_is_ambiguous_or_malformed_is_refused() {
        for text in ["500", "ms", "5 days", "-1s", "18446744073709551615h"] {
            assert_eq!(Span::read(text), None, "{text}");
        }
        for text in ["", "MiB", "1 MB", "-1", "18446744073709551615GiB"] {
            assert_eq!(ByteSize::read(text), None, "{text}");
        }
        for text in ["", "host", "host:", ":1", "a b:1", "::1:70", "host:70000"] {
            assert_eq!(HostPort::read(text), None, "{text}");
        }
        for text in ["", "1", "@h:1", "x@h:1", "1@h:1,,2@h:2"] {
            assert_eq!(Vec::<InitialBroker>::read(text), None, "{text}");
        }
    }
}
