//! What a process uses, as Linux tells in `/proc`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// The unit of [`fs::Metadata::blocks`], whatever the file system's own is.
const BLOCK_BYTES: u64 = 512;

/// The time that all its threads have run, in user and kernel mode.
pub(super) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = cpu_ticks(&stat).ok_or_else(|| io::Error::other("/proc is not as expected"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// `utime` and `stime` of proc_pid_stat(5), the 14th and 15th field. The second is the name of the
/// program in parentheses, which may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut ticks = behind_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Some(ticks.next()?.ok()? + ticks.next()?.ok()?)
}

/// How many files and sockets it has open.
pub(super) fn open_files(pid: u32) -> io::Result<u64> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64)
}

/// What the files below a directory take on disk, in bytes. Files that go meanwhile count as gone.
pub(super) fn disk_bytes(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Some(entries) = unless_gone(fs::read_dir(dir))? else { continue };
        for entry in entries {
            let entry = entry?;
            let Some(metadata) = unless_gone(entry.metadata())? else { continue };
            bytes += metadata.blocks() * BLOCK_BYTES;
            if metadata.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

fn unless_gone<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let rest = "S 1 2 3 0 -1 4194560 10 20 30 40 70 5 8 9 20 0 4 0 100 200";
        for name in ["tidelog", "a) b (c", "x y"] {
            assert_eq!(cpu_ticks(&format!("42 ({name}) {rest}")), Some(75));
        }
        assert_eq!(cpu_ticks("42 (tidelog) S 1"), None);
    }

    #[test]
    fn own_process_is_told() {
        let pid = std::process::id();
        assert!(cpu_time(pid).is_ok() && open_files(pid).unwrap() >= 3);
    }

    #[test]
    fn directories_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let before = disk_bytes(dir.path()).unwrap();
        fs::create_dir(dir.path().join("deep")).unwrap();
        fs::write(dir.path().join("deep/file"), vec![7; 1 << 20]).unwrap();
        fs::File::open(dir.path().join("deep/file")).unwrap().sync_all().unwrap();
        assert!(disk_bytes(dir.path()).unwrap() >= before + (1 << 20));
        assert_eq!(disk_bytes(&dir.path().join("none")).unwrap(), 0);
    }
}
