//! `tidelog dump segment`.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use tidelog_log::Kind;
use tidelog_log::disk::OsDisk;
use tidelog_log::dump::{self, Damage, DumpedEntry, SegmentHead};
use tidelog_types::Timestamp;
use tidelog_types::batch::Info;

use crate::args::Globals;
use crate::output::plural;
use crate::{Column, Failure, Page, Zone};

/// A segment file.
#[derive(Debug, Serialize)]
struct SegmentView {
    file: String,
    group: String,
    bytes: u64,
    first_index: u64,
    base_offset: u64,
    next_offset: u64,
    generation: String,
    entry_count: u64,
    record_count: u64,
    whole: bool,
    damage: Vec<DamageView>,
    /// Absent when only the verdict was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<EntryView>>,
}

#[derive(Debug, Serialize)]
struct DamageView {
    position: u64,
    reason: String,
    resumes_at: Option<u64>,
}

#[derive(Debug, Serialize)]
struct EntryView {
    position: u64,
    bytes: u64,
    index: u64,
    term: u64,
    kind: &'static str,
    void: bool,
    append_time_ms: i64,
    ordinal: u64,
    base_offset: u64,
    offsets_taken: u32,
    chain: String,
    synced_end: u64,
    batches: Vec<BatchView>,
}

#[derive(Debug, Serialize)]
struct BatchView {
    base_offset: u64,
    count: u32,
    bytes: u32,
    codec: &'static str,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    base_time_ms: i64,
    max_time_ms: i64,
    crc: String,
}

const COLUMNS: &[Column] = &[
    Column::number("POSITION"),
    Column::number("INDEX"),
    Column::number("TERM"),
    Column::text("KIND"),
    Column::text("OFFSETS"),
    Column::number("BATCHES"),
    Column::number("BYTES"),
    Column::text("TIME"),
    Column::text("PRODUCER").only_wide(),
    Column::text("CODEC").only_wide(),
    Column::number("ORDINAL").only_wide(),
    Column::number("SYNCED-END").only_wide(),
    Column::text("CHAIN").only_wide(),
];

pub(super) fn run(globals: &Globals, file: &Path, verify: bool) -> Result<ExitCode, Failure> {
    let segment = dump::segment(&OsDisk, file).map_err(|error| super::not_opened(&error))?;
    let mut view = SegmentView::new(file, segment.head());
    let mut entries = Vec::new();
    for found in segment {
        match found.map_err(|error| Failure::because(format!("read {}", file.display()), &error))? {
            Ok(entry) => {
                view.count(&entry);
                if !verify {
                    entries.push(EntryView::new(&entry));
                }
            }
            Err(damage) => view.damage.push(DamageView::new(damage)),
        }
    }
    view.whole = view.damage.is_empty();
    view.entries = (!verify).then_some(entries);
    globals.output().item("dump.segment", &view, |zone| view.page(zone))?;
    if view.whole {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!("{} is not whole", view.file)).next_step(
        "behind the last entry this may be what a crash tore off, which the broker cuts at its start",
    ))
}

impl SegmentView {
    fn new(file: &Path, head: &SegmentHead) -> Self {
        let frontier = head.frontier;
        Self {
            file: file.display().to_string(),
            group: head.group.to_string(),
            bytes: head.bytes,
            first_index: frontier.next_index().0,
            base_offset: frontier.next_offset.0,
            next_offset: frontier.next_offset.0,
            generation: format!("{:016x}", head.generation),
            entry_count: 0,
            record_count: 0,
            whole: true,
            damage: Vec::new(),
            entries: None,
        }
    }

    fn count(&mut self, entry: &DumpedEntry) {
        self.entry_count += 1;
        self.record_count += u64::from(entry.header.offsets_taken);
        self.next_offset = entry.header.next_offset().0;
    }

    fn page(&self, zone: Zone) -> Page {
        let mut page = Page::new().facts([
            ("file", self.file.clone()),
            ("group", self.group.clone()),
            ("size", plural(self.bytes, "byte")),
            ("first index", self.first_index.to_string()),
            ("offsets", format!("{}..{}", self.base_offset, self.next_offset)),
            ("generation", self.generation.clone()),
        ]);
        if let Some(entries) = &self.entries {
            page = page.table(COLUMNS, entries.iter().map(|entry| entry.cells(zone)));
        }
        for damage in &self.damage {
            page = page.verdict(false, damage.sentence());
        }
        let counts = format!(
            "{}, {}",
            plural(self.entry_count, "whole entry").replace("entrys", "entries"),
            plural(self.record_count, "record")
        );
        page.verdict(self.whole, if self.whole { format!("{counts}, no damage") } else { counts })
    }
}

impl DamageView {
    fn new(damage: Damage) -> Self {
        let Damage { position, reason, resumes_at } = damage;
        Self { position, reason, resumes_at }
    }

    fn sentence(&self) -> String {
        let behind = match self.resumes_at {
            Some(position) => format!("good again from byte {position}"),
            None => "nothing good behind it".to_owned(),
        };
        format!("damaged at byte {}: {}; {behind}", self.position, self.reason)
    }
}

impl EntryView {
    fn new(entry: &DumpedEntry) -> Self {
        let header = entry.header;
        Self {
            position: entry.position,
            bytes: entry.bytes,
            index: header.index().0,
            term: header.term().0,
            kind: match header.kind {
                Kind::Blank => "blank",
                Kind::Membership => "membership",
                Kind::Records => "records",
                Kind::Command => "command",
            },
            void: header.void,
            append_time_ms: header.append_time.0,
            ordinal: header.ordinal,
            base_offset: header.base_offset.0,
            offsets_taken: header.offsets_taken,
            chain: format!("{:08x}", header.chain),
            synced_end: entry.synced_end.0,
            batches: entry.batches.iter().map(BatchView::new).collect(),
        }
    }

    fn cells(&self, zone: Zone) -> Vec<String> {
        let end = self.base_offset + u64::from(self.offsets_taken);
        let offsets = match (self.void, self.offsets_taken) {
            (true, _) => "void".to_owned(),
            (false, 0) => "-".to_owned(),
            (false, _) => format!("{}..{end}", self.base_offset),
        };
        // Before the first records of a log there is no time yet.
        let time = match self.append_time_ms {
            0 => "-".to_owned(),
            ms => zone.show(Timestamp(ms)),
        };
        let first = self.batches.first();
        let producer = |batch: &BatchView| {
            format!("{}/{}@{}", batch.producer_id, batch.producer_epoch, batch.base_sequence)
        };
        vec![
            self.position.to_string(),
            self.index.to_string(),
            self.term.to_string(),
            self.kind.to_owned(),
            offsets,
            self.batches.len().to_string(),
            self.bytes.to_string(),
            time,
            first.map_or_else(|| "-".to_owned(), producer),
            first.map_or("-", |batch| batch.codec).to_owned(),
            self.ordinal.to_string(),
            self.synced_end.to_string(),
            self.chain.clone(),
        ]
    }
}

impl BatchView {
    fn new(info: &Info) -> Self {
        Self {
            base_offset: info.base_offset.0,
            count: info.count,
            bytes: info.bytes,
            codec: info.codec.name(),
            producer_id: info.producer_id.0,
            producer_epoch: info.producer_epoch.0,
            base_sequence: info.base_sequence,
            base_time_ms: info.base_timestamp.0,
            max_time_ms: info.max_timestamp.0,
            crc: format!("{:08x}", info.crc),
        }
    }
}
