//! `tidelog topic export` and `tidelog topic import`: a topic as a file, and back.
//!
//! ```text
//! format  the lines        writer, reader  of a file, with their checksums
//! contents        a whole file, checked     stored  the records of a topic in a cluster
//! sums    what a partition comes to, in either
//! export  a topic into a file (target)      import  a file into a new topic (place, filling, groups)
//! ```
//! A file counts only whole: it gets its name when it is complete, synced and read back once, and is
//! read to its end before an import writes anything.

mod args;
mod contents;
mod export;
mod filling;
mod format;
mod groups;
mod import;
mod imported;
mod place;
mod progress;
mod reader;
mod stored;
mod sums;
mod target;
mod writer;

pub(crate) use args::{ExportArgs, ImportArgs};
pub(crate) use export::run as export;
pub(crate) use format::VERSION;
pub(crate) use import::run as import;
pub use reader::Damage;

use reader::{Item, Reader};
use tidelog_types::Offset;
use writer::Writer;

/// Reads a backup from memory and writes it again: the same records, groups and facts, with blocks where
/// the writer has them. To see that nothing gets lost between the two.
///
/// # Errors
/// When it is damaged.
pub fn rewritten(input: &[u8]) -> Result<Vec<u8>, Damage> {
    let mut reader = Reader::open(input)?;
    let mut writer = Writer::begin(Vec::new(), reader.head())?;
    while let Some(item) = reader.next()? {
        match item {
            Item::Commit(commit) => writer.commit(&commit)?,
            Item::Record(record) => writer.record(&record)?,
        }
    }
    let ends = reader.end().into_iter().flat_map(|end| &end.partitions);
    let ends: Vec<Offset> = ends.map(|partition| Offset(partition.end)).collect();
    Ok(writer.finish(&ends)?.0)
}

#[cfg(test)]
mod tests;
