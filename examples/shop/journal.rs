//! What a service has done: its database, one JSON object a line, shared by all its processes, whatever
//! language they are written in.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// One line: an event that was applied, or came again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) event_id: String,
    /// It had been applied before, and was left alone.
    pub(crate) replay: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) product_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) quantity: Option<i64>,
    /// Of the product, afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stock: Option<i64>,
}

/// The file and what is known of it.
///
/// An event is applied once, whichever process gets it and however often: every line is written under a
/// lock, after what other processes have written was read. A killed process gives its lock back.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    read_to: u64,
    done: HashSet<String>,
    stock: HashMap<String, i64>,
}

impl Journal {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        Ok(Self { file, read_to: 0, done: HashSet::new(), stock: HashMap::new() })
    }

    /// Applies an event with the entry that `make` makes from the stock of each product; gives that
    /// entry, which says `replay` when the event had been applied before.
    pub(crate) fn record(
        &mut self,
        event_id: &str,
        make: impl FnOnce(&HashMap<String, i64>) -> Entry,
    ) -> io::Result<Entry> {
        flock(&self.file, FlockOperation::LockExclusive)?;
        let recorded = self.record_locked(event_id, make);
        flock(&self.file, FlockOperation::Unlock)?;
        recorded
    }

    fn record_locked(
        &mut self,
        event_id: &str,
        make: impl FnOnce(&HashMap<String, i64>) -> Entry,
    ) -> io::Result<Entry> {
        self.catch_up()?;
        let replay = self.done.contains(event_id);
        let entry = if replay { Entry::default() } else { make(&self.stock) };
        let entry = Entry { event_id: event_id.to_owned(), replay, ..entry };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.catch_up()?;
        Ok(entry)
    }

    fn catch_up(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.read_to))?;
        let mut lines = BufReader::new(&self.file);
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            if !line.ends_with('\n') {
                // Its writer was killed within it, so it was never done.
                return self.file.set_len(self.read_to);
            }
            self.read_to += line.len() as u64;
            let entry: Entry = serde_json::from_str(&line)?;
            line.clear();
            if entry.replay {
                continue;
            }
            if let (Some(product), Some(stock)) = (entry.product_id, entry.stock) {
                self.stock.insert(product, stock);
            }
            self.done.insert(entry.event_id);
        }
        Ok(())
    }
}

/// All whole lines of a journal that others write; none when it does not exist yet.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err),
    };
    // The last line may be in the making.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
}
