//! A record as one line of JSON, the same for `consume --json` and `produce --json`.
//!
//! ```json
//! {"topic":"orders","partition":0,"offset":7,"timestamp":"2026-11-02T10:00:00.000Z",
//!  "key":"c42","value":{"base64":"/w=="},"headers":[{"name":"trace","value":"a1"}]}
//! ```
//! Bytes that are UTF-8 are a string, others `{"base64": …}`; `null` is no key, and a value of `null`
//! a tombstone. Nothing is lost: what one command writes, the other reads back byte for byte.
//! `produce` needs only `value`; it takes `partition` and `timestamp` over, and passes over `topic`
//! and `offset`.

use std::fmt;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidelog_types::{Offset, PartitionId, Timestamp, TopicName};

use super::{Consumed, Content, Input};
use crate::moment::{Moment, Zone};

/// Writes a record as a line.
///
/// # Errors
/// When `out` takes no more.
pub(crate) fn write(out: &mut impl io::Write, record: &Consumed, zone: Zone) -> io::Result<()> {
    let content = &record.content;
    let line = Written {
        topic: record.topic.as_str(),
        partition: record.partition.0,
        offset: record.offset.0,
        timestamp: Time { timestamp: record.timestamp, zone },
        key: content.key.as_deref().map(Data),
        value: content.value.as_deref().map(Data),
        headers: &content.headers,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// Reads a line.
///
/// # Errors
/// When it is no such JSON object; the error says where and why.
pub(crate) fn parse(line: &[u8]) -> Result<Input, InvalidLine> {
    let line: Parsed = serde_json::from_slice(line).map_err(|error| InvalidLine { error })?;
    let headers = line.headers.into_iter().map(|header| (header.name, header.value.0));
    Ok(Input {
        content: Content { key: line.key.0, value: line.value.0, headers: headers.collect() },
        partition: line.partition.map(PartitionId),
        timestamp: line.timestamp.map(|time| time.0),
    })
}

/// Reads a line as [`write()`] makes it: all of its fields must be there.
///
/// # Errors
/// When it is no such JSON object; the error says where and why.
pub(crate) fn parse_consumed(line: &[u8]) -> Result<Consumed, InvalidLine> {
    let line: Whole = serde_json::from_slice(line).map_err(|error| InvalidLine { error })?;
    let headers = line.headers.into_iter().map(|header| (header.name, header.value.0));
    Ok(Consumed {
        topic: line.topic.0,
        partition: PartitionId(line.partition),
        offset: Offset(line.offset),
        timestamp: line.timestamp.0,
        content: Content { key: line.key.0, value: line.value.0, headers: headers.collect() },
    })
}

/// A line that is no record.
#[derive(Debug)]
pub(crate) struct InvalidLine {
    error: serde_json::Error,
}

impl fmt::Display for InvalidLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The line in the library's message is always 1: it sees only this one.
        let message = self.error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        write!(f, "{message} (column {})", self.error.column())
    }
}

impl std::error::Error for InvalidLine {}

#[derive(Serialize)]
struct Written<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    timestamp: Time,
    key: Option<Data<'a>>,
    value: Option<Data<'a>>,
    #[serde(serialize_with = "write_headers")]
    headers: &'a [(String, Option<Bytes>)],
}

struct Data<'a>(&'a [u8]);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &STANDARD.encode(self.0))?;
                map.end()
            }
        }
    }
}

/// A time; as a number where RFC 3339 has no way to write it.
struct Time {
    timestamp: Timestamp,
    zone: Zone,
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.zone.show(self.timestamp);
        match text.contains('T') {
            true => serializer.serialize_str(&text),
            false => serializer.serialize_i64(self.timestamp.0),
        }
    }
}

#[derive(Serialize)]
struct WrittenHeader<'a> {
    name: &'a str,
    value: Option<Data<'a>>,
}

fn write_headers<S: Serializer>(
    headers: &&[(String, Option<Bytes>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        headers
            .iter()
            .map(|(name, value)| WrittenHeader { name, value: value.as_deref().map(Data) }),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parsed {
    #[serde(default, rename = "topic")]
    _topic: de::IgnoredAny,
    partition: Option<u32>,
    #[serde(default, rename = "offset")]
    _offset: de::IgnoredAny,
    timestamp: Option<GivenTime>,
    #[serde(default)]
    key: Given,
    value: Given,
    #[serde(default)]
    headers: Vec<GivenHeader>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    topic: GivenTopic,
    partition: u32,
    offset: u64,
    timestamp: GivenTime,
    key: Given,
    value: Given,
    headers: Vec<GivenHeader>,
}

struct GivenTopic(TopicName);

impl<'de> Deserialize<'de> for GivenTopic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        TopicName::new(&name).map(Self).map_err(de::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenHeader {
    name: String,
    value: Given,
}

#[derive(Default)]
struct Given(Option<Bytes>);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GivenVisitor)
    }
}

struct GivenVisitor;

impl<'de> Visitor<'de> for GivenVisitor {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, {\"base64\": \"…\"} or null")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Given, E> {
        Ok(Given(None))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Given, E> {
        Ok(Given(Some(Bytes::copy_from_slice(text.as_bytes()))))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Given, E> {
        Ok(Given(Some(text.into())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
        let wrong = || de::Error::custom("expected only the field \"base64\" in an object");
        if map.next_key::<String>()?.as_deref() != Some("base64") {
            return Err(wrong());
        }
        let text: String = map.next_value()?;
        if map.next_key::<de::IgnoredAny>()?.is_some() {
            return Err(wrong());
        }
        let bytes = STANDARD.decode(text).map_err(de::Error::custom)?;
        Ok(Given(Some(bytes.into())))
    }
}

struct GivenTime(Timestamp);

impl<'de> Deserialize<'de> for GivenTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = GivenTime;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an RFC 3339 time or milliseconds since 1970")
    }

    fn visit_i64<E: de::Error>(self, ms: i64) -> Result<GivenTime, E> {
        Ok(GivenTime(Timestamp(ms)))
    }

    fn visit_u64<E: de::Error>(self, ms: u64) -> Result<GivenTime, E> {
        i64::try_from(ms).map(|ms| GivenTime(Timestamp(ms))).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<GivenTime, E> {
        match text.parse() {
            // Only what says its zone: a file of records must mean the same everywhere.
            Ok(Moment::At(timestamp)) => Ok(GivenTime(timestamp)),
            _ => Err(E::custom(format!("{text:?} is no RFC 3339 time with a zone"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn consumed(content: Content, timestamp: i64) -> Consumed {
        Consumed {
            topic: TopicName::new("orders").unwrap(),
            partition: PartitionId(3),
            offset: Offset(7),
            timestamp: Timestamp(timestamp),
            content,
        }
    }

    fn written(content: Content, timestamp: i64) -> String {
        let mut line = Vec::new();
        write(&mut line, &consumed(content, timestamp), Zone::Utc).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_line_has_a_stable_shape() {
        let content = Content {
            key: Some("c42".into()),
            value: Some(vec![0xff].into()),
            headers: vec![("a".into(), Some("1".into())), ("a".into(), None)],
        };
        let expected = concat!(
            r#"{"topic":"orders","partition":3,"offset":7,"timestamp":"1970-01-01T00:00:00.001Z","#,
            r#""key":"c42","value":{"base64":"/w=="},"#,
            r#""headers":[{"name":"a","value":"1"},{"name":"a","value":null}]}"#,
            "\n"
        );
        assert_eq!(written(content, 1), expected);
    }

    #[test]
    fn a_null_key_is_not_the_empty_one() {
        let parsed = |line: &str| parse(line.as_bytes()).unwrap().content;
        assert_eq!(parsed(r#"{"value":"v"}"#).key, None);
        assert_eq!(parsed(r#"{"key":null,"value":"v"}"#).key, None);
        assert_eq!(parsed(r#"{"key":"","value":"v"}"#).key, Some(Bytes::new()));
        assert_eq!(parsed(r#"{"value":null}"#).value, None);
        assert_eq!(parsed(r#"{"value":""}"#).value, Some(Bytes::new()));
    }

    #[test]
    fn what_is_no_record_is_refused_with_the_reason() {
        let cases = [
            ("{}", "missing field `value`"),
            (r#"{"vlaue":"x"}"#, "unknown field `vlaue`"),
            (r#"{"value":{"a":1}}"#, "only the field \"base64\""),
            (r#"{"value":{"base64":"AA==","x":1}}"#, "only the field \"base64\""),
            (r#"{"value":{"base64":"?"}}"#, "Invalid"),
            (r#"{"value":1}"#, "invalid type: integer `1`, expected a string"),
            (r#"{"value":"x"} {}"#, "trailing characters"),
            (r#"{"value":"x","timestamp":"2026-01-01T00:00"}"#, "no RFC 3339 time"),
            (r#"{"value":"x","partition":-1}"#, "invalid value"),
            ("value", "expected value (column 1)"),
        ];
        for (line, reason) in cases {
            let message = parse(line.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(reason), "{line}: {message}");
            assert!(!message.contains("line 1"), "{message}");
        }
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
            "\\PC{0,10}".prop_map(Bytes::from),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_record_comes_back_byte_for_byte(
            key in proptest::option::of(bytes()),
            value in proptest::option::of(bytes()),
            headers in proptest::collection::vec(
                ("\\PC{0,5}|a", proptest::option::of(bytes())), 0..4),
            timestamp in prop_oneof![any::<i64>(), 0..4_102_444_800_000_i64],
        ) {
            let content = Content { key, value, headers };
            let line = written(content.clone(), timestamp);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let input = parse(line.as_bytes()).unwrap();
            prop_assert_eq!(&input.content, &content);
            prop_assert_eq!(input.timestamp, Some(Timestamp(timestamp)));
            prop_assert_eq!(input.partition, Some(PartitionId(3)));
            let whole = parse_consumed(line.as_bytes()).unwrap();
            prop_assert_eq!(whole, consumed(content, timestamp));
            prop_assert_eq!(written(input.content, timestamp), line);
        }
    }
}
