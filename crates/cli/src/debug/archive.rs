//! The file of a bundle: a gzipped tar, which gets its name when it is whole.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};
use tempfile::NamedTempFile;

/// A bundle in the making. Dropped before [`Archive::finish`], it leaves nothing.
pub(super) struct Archive {
    builder: Builder<GzEncoder<NamedTempFile>>,
    path: PathBuf,
    /// The folder that everything lies in when it is unpacked.
    folder: String,
    /// Seconds since the epoch, of every file.
    time: u64,
}

impl Archive {
    /// Begins the file that will be at `path`; only its owner may read it.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        if path.try_exists()? {
            let there = "a file of this name is there";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, there));
        }
        let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let file = NamedTempFile::new_in(beside.unwrap_or(Path::new(".")))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let folder = name.strip_suffix(".tar.gz").or(name.strip_suffix(".tgz")).unwrap_or(&name);
        // A clock from before the epoch is no reason to have no bundle.
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let builder = Builder::new(GzEncoder::new(file, Compression::default()));
        Ok(Self { builder, path: path.to_owned(), folder: folder.to_owned(), time })
    }

    /// Adds a file.
    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        self.builder.append_data(&mut header, format!("{}/{name}", self.folder), bytes)
    }

    /// Ends the file, puts it on the disk and gives it its name, if nobody took that meanwhile; tells how
    /// many bytes it has.
    pub(super) fn finish(self) -> io::Result<u64> {
        let file = self.builder.into_inner()?.finish()?;
        file.as_file().sync_all()?;
        let bytes = file.as_file().metadata()?.len();
        file.persist_noclobber(&self.path).map_err(|err| err.error)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_was_added_is_in_the_file_once_it_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.tar.gz");
        let mut archive = Archive::create(&path).unwrap();
        archive.add("version.json", b"{}").unwrap();
        archive.add("brokers/1/metrics.txt", b"x 1\n").unwrap();
        assert!(!path.exists(), "it is not whole yet");
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes, std::fs::metadata(&path).unwrap().len());
        let file = std::fs::File::open(&path).unwrap();
        let mut unpacked = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let mut found = Vec::new();
        for entry in unpacked.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((name, text));
        }
        let expected = [("b/version.json", "{}"), ("b/brokers/1/metrics.txt", "x 1\n")];
        assert_eq!(found, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }

    #[test]
    fn a_file_that_is_there_is_never_replaced_and_one_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.tar.gz");
        drop(Archive::create(&path).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let archive = Archive::create(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(archive.finish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(Archive::create(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
