//! Writes records to stdout.

use std::io::{self, BufWriter, Stdout, Write};

use super::args::Shown;
use crate::moment::Zone;
use crate::record::{self, Consumed, Template};

const BUFFER_BYTES: usize = 64 * 1024;

/// Writes records in the form that was asked for.
///
/// Nothing is flushed but by [`Sink::flush`] and a full buffer: the caller flushes before it waits.
#[derive(Debug)]
pub(crate) struct Sink<W: Write = Stdout> {
    out: BufWriter<W>,
    form: Form,
    zone: Zone,
}

#[derive(Debug)]
enum Form {
    /// The value and a line feed. A tombstone is an empty line; `--json` tells them apart.
    Value,
    Json,
    Template(Template),
}

impl Sink {
    pub(crate) fn stdout(shown: &Shown, json: bool, zone: Zone) -> Self {
        Self::new(io::stdout(), shown, json, zone)
    }
}

impl<W: Write> Sink<W> {
    /// `json` asks for JSON, as does `shown.json`.
    fn new(out: W, shown: &Shown, json: bool, zone: Zone) -> Self {
        let form = match &shown.format {
            Some(template) => Form::Template(template.clone()),
            None if shown.json || json => Form::Json,
            None => Form::Value,
        };
        Self { out: BufWriter::with_capacity(BUFFER_BYTES, out), form, zone }
    }

    /// Writes one record.
    pub(crate) fn write(&mut self, record: &Consumed) -> io::Result<()> {
        match &self.form {
            Form::Value => {
                self.out.write_all(record.content.value.as_deref().unwrap_or_default())?;
                self.out.write_all(b"\n")
            }
            Form::Json => record::write(&mut self.out, record, self.zone),
            Form::Template(template) => template.write(&mut self.out, record, self.zone),
        }
    }

    /// Hands over what was written.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::{Offset, PartitionId, Timestamp, TopicName};

    use super::*;
    use crate::record::Content;

    fn written(shown: &Shown, json: bool, value: Option<&'static [u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut sink = Sink::new(&mut out, shown, json, Zone::Utc);
        let record = Consumed {
            topic: TopicName::new("orders").unwrap(),
            partition: PartitionId(0),
            offset: Offset(1),
            timestamp: Timestamp(0),
            content: Content { value: value.map(Into::into), ..Content::default() },
        };
        sink.write(&record).unwrap();
        sink.flush().unwrap();
        drop(sink);
        out
    }

    #[test]
    fn a_value_is_a_line_as_it_is() {
        let raw = Shown { format: None, json: false };
        assert_eq!(written(&raw, false, Some(b"\xff\r")), b"\xff\r\n");
        assert_eq!(written(&raw, false, None), b"\n");
        assert!(written(&raw, true, None).starts_with(b"{\"topic\":\"orders\""));
        let template = Shown { format: Some("%o".parse().unwrap()), json: false };
        assert_eq!(written(&template, false, None), b"1");
    }
}
