//! Faults of a real disk, planted while a broker runs. Only in builds with `--cfg tidelog_faults`;
//! `docs/faults.md` says how. Nothing of this folder is in what ships.

mod disk;
mod target;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use disk::FaultyDisk;
use target::Target;
use tidelog_types::failpoint;

/// The variable that plants faults when the broker starts, as `fdatasync-delay=500ms`.
pub const VARIABLE: &str = "TIDELOG_FAULTS";

/// What the broker says when a step fails on purpose.
pub const FAILING: &str = "failed on purpose";

/// What is wrong with a disk. It can change while the disk is in use.
#[derive(Debug, Default)]
pub struct Faults {
    fdatasync_delay_ms: AtomicU64,
    errors: Vec<Failing>,
}

/// A step that fails with `EIO` when it is made the nth time.
#[derive(Debug)]
struct Failing {
    what: String,
    step: String,
    left: AtomicU64,
}

impl Faults {
    /// The faults that the environment asks for, or none.
    ///
    /// # Errors
    /// One line that says what is wrong with the variable.
    pub fn from_environment() -> io::Result<Self> {
        match std::env::var(VARIABLE) {
            Ok(text) => Self::parse(&text).map_err(io::Error::other),
            Err(std::env::VarError::NotPresent) => Ok(Self::default()),
            Err(err) => Err(io::Error::other(format!("{VARIABLE}: {err}"))),
        }
    }

    /// Reads a list as `fdatasync-delay=500ms,eio=segment/sync:3`, separated by commas.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut faults = Self::default();
        for fault in text.split(',').filter(|fault| !fault.is_empty()) {
            let unknown = || {
                format!(
                    "{VARIABLE}: {fault:?} is no fault: expected fdatasync-delay=500ms or \
                     eio=segment/sync:3"
                )
            };
            match fault.split_once('=').ok_or_else(unknown)? {
                ("fdatasync-delay", delay) => {
                    let ms = delay.strip_suffix("ms").and_then(|ms| ms.parse().ok());
                    faults.delay_fdatasync(Duration::from_millis(ms.ok_or_else(unknown)?));
                }
                ("eio", step) => faults.errors.push(Failing::parse(step).ok_or_else(unknown)?),
                _ => return Err(unknown()),
            }
        }
        Ok(faults)
    }

    /// From now on every fdatasync and fsync of a file takes this much longer.
    pub fn delay_fdatasync(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.fdatasync_delay_ms.store(ms, Ordering::Relaxed);
    }

    fn before_sync(&self) {
        let delay = Duration::from_millis(self.fdatasync_delay_ms.load(Ordering::Relaxed));
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }

    /// Fails when the step is one that is to fail now.
    fn check(&self, target: Target, step: &str) -> io::Result<()> {
        let named = |failing: &&Failing| (&*failing.what, &*failing.step) == (target.name(), step);
        for failing in self.errors.iter().filter(named) {
            if failing.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                tracing::warn!(fault = %format_args!("{}/{step}", target.name()), "{FAILING}");
                return Err(io::Error::from_raw_os_error(EIO));
            }
        }
        Ok(())
    }
}

/// Linux: the device did not do it.
const EIO: i32 = 5;

impl Failing {
    fn parse(text: &str) -> Option<Self> {
        let (place, left) = text.rsplit_once(':')?;
        let (what, step) = place.split_once('/')?;
        let left = left.parse().ok().filter(|left: &u64| *left > 0)?;
        let known = Target::ALL.iter().any(|target| target.name() == what);
        let steps = failpoint::STEPS.iter().filter(|(kind, _)| known && *kind == what);
        let exists = steps.flat_map(|(_, steps)| *steps).any(|known| *known == step);
        exists.then(|| Self {
            what: what.to_owned(),
            step: step.to_owned(),
            left: AtomicU64::new(left),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_of_faults_is_read_and_nonsense_is_refused() {
        let faults = Faults::parse("fdatasync-delay=20ms,eio=votes/sync:2").unwrap();
        assert_eq!(faults.fdatasync_delay_ms.load(Ordering::Relaxed), 20);
        assert!(faults.check(Target::Votes, "sync").is_ok(), "the second time, not the first");
        assert!(faults.check(Target::Segment, "sync").is_ok());
        assert_eq!(faults.check(Target::Votes, "sync").unwrap_err().raw_os_error(), Some(EIO));
        assert!(faults.check(Target::Votes, "sync").is_ok(), "once");
        for text in ["x", "fdatasync-delay=5", "eio=votes/sync", "eio=votes/sync:0", "eio=a/b:1"] {
            assert!(Faults::parse(text).is_err(), "{text}");
        }
        assert!(Faults::parse("eio=replica/append:1").is_err(), "that is no step of a disk");
    }
}
