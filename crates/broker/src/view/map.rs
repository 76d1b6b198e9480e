//! An ordered map of bytes: the seam in front of sled.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// A key and its new value; `None` removes it.
pub type Put = (Vec<u8>, Option<Vec<u8>>);

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// An ordered map of bytes.
pub trait Map: Send + Sync + fmt::Debug {
    /// The value under `key`.
    ///
    /// # Errors
    /// The map is damaged or its disk failed.
    fn find(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Up to `count` pairs behind `after` whose keys begin with `prefix`, in order.
    ///
    /// # Errors
    /// The map is damaged or its disk failed.
    fn page(&self, prefix: &[u8], after: &[u8], count: usize) -> io::Result<Vec<Pair>>;

    /// Makes all the changes, or none.
    ///
    /// # Errors
    /// The map is damaged or its disk failed.
    fn apply(&self, changes: Vec<Put>) -> io::Result<()>;
}

/// Opens maps.
pub trait OpenMap: Send + Sync + fmt::Debug + 'static {
    /// Opens the map in `dir`, or makes an empty one.
    ///
    /// # Errors
    /// It is damaged: [`OpenMap::set_aside`] makes room.
    fn open(&self, dir: &Path) -> io::Result<Arc<dyn Map>>;

    /// Moves what is in `dir` out of the way. Only the last such is kept, for a person to look at.
    ///
    /// # Errors
    /// The disk failed.
    fn set_aside(&self, dir: &Path) -> io::Result<()>;
}

/// A map in memory: for simulations, and for a broker whose disk keeps none.
#[derive(Debug, Default)]
pub struct MemoryMap(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Map for MemoryMap {
    fn find(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn page(&self, prefix: &[u8], after: &[u8], count: usize) -> io::Result<Vec<Pair>> {
        let from = Bound::Excluded(after.max(prefix).to_vec());
        // A prefix is no key of ours, so excluding it loses nothing.
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(map
            .range((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(count)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn apply(&self, changes: Vec<Put>) -> io::Result<()> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in changes {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }
}

/// Opens an empty map in memory each time.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryMaps;

impl OpenMap for MemoryMaps {
    fn open(&self, _dir: &Path) -> io::Result<Arc<dyn Map>> {
        Ok(Arc::new(MemoryMap::default()))
    }

    fn set_aside(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}
