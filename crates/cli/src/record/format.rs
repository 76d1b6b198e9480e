//! The templates of `consume -f`.
//!
//! `%t` topic, `%p` partition, `%o` offset, `%k` key, `%v` value, `%h` headers as `name=value` with
//! commas between them, `%T` time, `%K` and `%V` the sizes of key and value in bytes (-1: null),
//! `%%` a percent sign; `\n`, `\r`, `\t`, `\0`, `\\` and `\xHH` as in C. Nothing is added: without
//! `\n` there is no end of line.

use std::io;
use std::str::FromStr;

use super::Consumed;
use crate::moment::Zone;

/// A template that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Headers,
    Time,
    KeyBytes,
    ValueBytes,
}

impl Template {
    /// Writes a record through the template.
    ///
    /// # Errors
    /// When `out` takes no more.
    pub(crate) fn write(
        &self,
        out: &mut impl io::Write,
        record: &Consumed,
        zone: Zone,
    ) -> io::Result<()> {
        let content = &record.content;
        for part in &self.parts {
            match part {
                Part::Text(text) => out.write_all(text)?,
                Part::Topic => write!(out, "{}", record.topic)?,
                Part::Partition => write!(out, "{}", record.partition)?,
                Part::Offset => write!(out, "{}", record.offset)?,
                Part::Key => out.write_all(content.key.as_deref().unwrap_or_default())?,
                Part::Value => out.write_all(content.value.as_deref().unwrap_or_default())?,
                Part::Headers => {
                    for (at, (name, value)) in content.headers.iter().enumerate() {
                        write!(out, "{}{name}=", if at == 0 { "" } else { "," })?;
                        out.write_all(value.as_deref().unwrap_or_default())?;
                    }
                }
                Part::Time => out.write_all(zone.show(record.timestamp).as_bytes())?,
                Part::KeyBytes => write_size(out, content.key.as_deref())?,
                Part::ValueBytes => write_size(out, content.value.as_deref())?,
            }
        }
        Ok(())
    }
}

fn write_size(out: &mut impl io::Write, bytes: Option<&[u8]>) -> io::Result<()> {
    match bytes {
        Some(bytes) => write!(out, "{}", bytes.len()),
        None => out.write_all(b"-1"),
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut text = Vec::new();
        let mut chars = template.chars();
        while let Some(char) = chars.next() {
            let part = match char {
                '\\' => {
                    text.push(escape(&mut chars)?);
                    continue;
                }
                '%' => match part(chars.next())? {
                    Some(part) => part,
                    None => {
                        text.push(b'%');
                        continue;
                    }
                },
                char => {
                    text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(part);
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self { parts })
    }
}

/// What a percent sign and `letter` stand for; `None` for the percent sign itself.
fn part(letter: Option<char>) -> Result<Option<Part>, String> {
    Ok(Some(match letter {
        Some('%') => return Ok(None),
        Some('t') => Part::Topic,
        Some('p') => Part::Partition,
        Some('o') => Part::Offset,
        Some('k') => Part::Key,
        Some('v') => Part::Value,
        Some('h') => Part::Headers,
        Some('T') => Part::Time,
        Some('K') => Part::KeyBytes,
        Some('V') => Part::ValueBytes,
        letter => {
            let letter = letter.map(String::from).unwrap_or_default();
            return Err(format!("%{letter} is unknown: use %t %p %o %k %v %h %T %K %V or %%"));
        }
    }))
}

fn escape(chars: &mut std::str::Chars<'_>) -> Result<u8, String> {
    match chars.next() {
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let hex: String = chars.by_ref().take(2).collect();
            let whole = hex.len() == 2 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
            let byte = whole.then(|| u8::from_str_radix(&hex, 16).ok()).flatten();
            byte.ok_or_else(|| format!("\\x{hex} is no byte: write two hexadecimal digits"))
        }
        char => {
            let char = char.map(String::from).unwrap_or_default();
            Err(format!("\\{char} is unknown: use \\n \\r \\t \\0 \\\\ or \\xHH"))
        }
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::{Offset, PartitionId, Timestamp, TopicName};

    use super::*;
    use crate::record::Content;

    fn render(template: &str) -> Vec<u8> {
        let record = Consumed {
            topic: TopicName::new("orders").unwrap(),
            partition: PartitionId(3),
            offset: Offset(7),
            timestamp: Timestamp(1),
            content: Content {
                key: None,
                value: Some(vec![0xff, b'v'].into()),
                headers: vec![("a".into(), Some("1".into())), ("b".into(), None)],
            },
        };
        let template: Template = template.parse().unwrap();
        let mut out = Vec::new();
        template.write(&mut out, &record, Zone::Utc).unwrap();
        out
    }

    #[test]
    fn templates_are_filled_in() {
        assert_eq!(render("%t/%p@%o %T\\n"), b"orders/3@7 1970-01-01T00:00:00.001Z\n");
        assert_eq!(render("%k|%v|%h|%K|%V"), b"|\xffv|a=1,b=|-1|2");
        assert_eq!(render("100%% \u{e9}\\t\\x00\\0\\\\"), "100% \u{e9}\t\0\0\\".as_bytes());
        assert_eq!(render(""), b"");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for template in ["%", "%x", "\\", "\\q", "\\x1", "\\xzz", "\\x+1"] {
            assert!(template.parse::<Template>().is_err(), "{template}");
        }
    }
}
