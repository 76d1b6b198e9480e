//! sled as a [`Map`]; no other file names it.
//!
//! Nothing in it is the only copy of anything: sled 0.34 does not flush to the device and has failed
//! to open after an abrupt stop, so whatever is wrong with it, it is moved aside and written anew.

use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::map::{Map, OpenMap, Pair, Put};

/// Memory for pages. The view is small, and its hot part is a fraction of it.
const CACHE_BYTES: u64 = 4 << 20;

/// Pause between sled's own writes. A crash loses that much, which is rebuilt.
const FLUSH_EVERY_MS: u64 = 1_000;

/// Opens sled databases.
#[derive(Clone, Copy, Debug, Default)]
pub struct SledMaps;

#[derive(Debug)]
struct SledMap(sled::Db);

impl OpenMap for SledMaps {
    fn open(&self, dir: &Path) -> io::Result<Arc<dyn Map>> {
        let config = sled::Config::default()
            .path(dir)
            .mode(sled::Mode::LowSpace)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(FLUSH_EVERY_MS));
        // It has panicked on files that it could not read (sled#1533).
        let open = std::panic::AssertUnwindSafe(move || config.open());
        let opened = std::panic::catch_unwind(open);
        let opened = opened.map_err(|_| io::Error::other("sled panicked while it opened"))?;
        Ok(Arc::new(SledMap(opened?)))
    }

    fn set_aside(&self, dir: &Path) -> io::Result<()> {
        let aside = aside(dir);
        let remove =
            if aside.is_dir() { fs::remove_dir_all(&aside) } else { fs::remove_file(&aside) };
        match remove {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
        match fs::rename(dir, &aside) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

fn aside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push(".aside");
    dir.with_file_name(name)
}

impl Map for SledMap {
    fn find(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(key)?.map(|value| value.to_vec()))
    }

    fn page(&self, prefix: &[u8], after: &[u8], count: usize) -> io::Result<Vec<Pair>> {
        let from = Bound::Excluded(after.max(prefix));
        let range = self.0.range::<&[u8], _>((from, Bound::Unbounded));
        let mut pairs = Vec::new();
        for pair in range.take(count) {
            let (key, value) = pair?;
            if !key.starts_with(prefix) {
                break;
            }
            pairs.push((key.to_vec(), value.to_vec()));
        }
        Ok(pairs)
    }

    fn apply(&self, changes: Vec<Put>) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        Ok(self.0.apply_batch(batch)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::map::MemoryMap;
    use super::*;

    fn check(map: &dyn Map) {
        let put = |key: &str, value: Option<&str>| {
            (key.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec()))
        };
        map.apply(vec![put("a/1", Some("x")), put("a/2", Some("y")), put("b/1", Some("z"))])
            .unwrap();
        map.apply(vec![put("a/1", None), put("a/3", Some("w"))]).unwrap();
        let keys = |prefix: &str, after: &str, count| {
            let page = map.page(prefix.as_bytes(), after.as_bytes(), count).unwrap();
            page.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(keys("a/", "", 9), ["a/2", "a/3"]);
        assert_eq!(keys("a/", "a/2", 9), ["a/3"]);
        assert_eq!(keys("a/", "", 1), ["a/2"]);
        assert_eq!(keys("b/", "", 9), ["b/1"]);
        assert_eq!(map.find(b"a/2").unwrap().as_deref(), Some(&b"y"[..]));
        assert_eq!(map.find(b"a/1").unwrap(), None);
    }

    #[test]
    fn maps_in_memory_and_on_disk_agree() {
        check(&MemoryMap::default());
        let dir = tempfile::tempdir().unwrap();
        check(&*SledMaps.open(&dir.path().join("view")).unwrap());
    }

    #[test]
    fn what_does_not_open_is_moved_aside_and_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let view = dir.path().join("view");
        fs::write(&view, "no directory").unwrap();
        SledMaps.open(&view).unwrap_err();
        SledMaps.set_aside(&view).unwrap();
        check(&*SledMaps.open(&view).unwrap());
        SledMaps.set_aside(&view).unwrap();
        SledMaps.set_aside(&view).unwrap();
    }
}
