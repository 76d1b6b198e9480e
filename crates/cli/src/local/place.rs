//! The directory of a run that makes a cluster of its own.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::Error;

/// Where data and logs go: a temporary directory goes when this is dropped, a given one stays.
#[derive(Debug)]
pub enum Place {
    /// One that was named; it was empty.
    Given(PathBuf),
    /// One of its own.
    Temporary(TempDir),
}

impl Place {
    /// The directory that was given, made if it does not exist; else a temporary one whose name begins
    /// with `prefix`.
    ///
    /// # Errors
    /// It cannot be made, or holds something: what an earlier run left would be taken for this one's.
    pub fn new(given: Option<&Path>, prefix: &str) -> Result<Self, Error> {
        let Some(given) = given else {
            let place = tempfile::Builder::new().prefix(prefix).tempdir();
            return place.map(Self::Temporary).map_err(Error::at("create", &std::env::temp_dir()));
        };
        let given = std::path::absolute(given).map_err(Error::at("find", given))?;
        std::fs::create_dir_all(&given).map_err(Error::at("create", &given))?;
        let mut entries = std::fs::read_dir(&given).map_err(Error::at("list", &given))?;
        if entries.next().is_some() {
            let problem = "is not empty: name a directory that is, or that does not exist";
            return Err(Error::Unfit { dir: given, problem: problem.to_owned() });
        }
        Ok(Self::Given(given))
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(place) => place.path(),
        }
    }

    /// Keeps what is there.
    #[must_use]
    pub fn keep(self) -> PathBuf {
        match self {
            Self::Given(path) => path,
            Self::Temporary(place) => place.keep(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_place_must_be_empty_and_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("new");
        let place = Place::new(Some(&new), "x").unwrap();
        assert_eq!(place.path(), new);
        drop(place);
        assert!(new.exists());
        let error = Place::new(Some(dir.path()), "x").unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
    }

    #[test]
    fn temporary_place_goes_unless_it_is_kept() {
        let place = || Place::new(None, "tidelog-place-").unwrap();
        let gone = place().path().to_owned();
        assert!(!gone.exists());
        let kept = place().keep();
        assert!(kept.exists());
        std::fs::remove_dir(kept).unwrap();
    }
}
