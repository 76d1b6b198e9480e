//! One process that writes: a hidden command, which [`super::writers`] starts.
//!
//! It says `ready` on stdout, and for each line that it is sent it writes once and says `done`: at first
//! to new files, then over them. It ends with its input and takes its files away.

use std::fs::OpenOptions;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use clap::Args;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::Failure;

/// What the random bytes are made from: all processes write the same.
const SEED: u64 = 7;
/// Random bytes that are written over and over: longer than any write, so that two that follow each other
/// differ.
const RANDOM_BYTES: usize = 16 << 20;

/// How to write.
#[derive(Args, Clone, Debug)]
pub(crate) struct Shape {
    /// 2^20 bytes to write, over all files
    #[arg(long)]
    pub(super) mib: u32,
    /// Bytes of each write
    #[arg(long)]
    pub(super) write_bytes: u32,
    /// Files to write at the same time
    #[arg(long)]
    pub(super) files: u32,
}

impl Shape {
    /// Writes to each file, one at least.
    fn writes(&self) -> u64 {
        let all = (u64::from(self.mib) << 20) / u64::from(self.write_bytes);
        (all / u64::from(self.files)).max(1)
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.writes() * u64::from(self.write_bytes) * u64::from(self.files)
    }
}

/// Arguments of the hidden command.
#[derive(Args, Debug)]
pub(crate) struct WriterArgs {
    /// Directory for the files, its own
    #[arg(long)]
    dir: PathBuf,
    #[command(flatten)]
    shape: Shape,
}

/// Writes whenever it is told to.
pub(crate) fn run(args: &WriterArgs) -> Result<ExitCode, Failure> {
    let written = serve(args);
    // Whoever started it removes what is above, and all of it if this fails.
    let removed = std::fs::remove_dir_all(&args.dir);
    match written.and(removed) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(err) => {
            // When nobody reads it any more, nobody wants to know.
            let _ = say(&format!("cannot write in {}: {err}", args.dir.display()));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn serve(args: &WriterArgs) -> io::Result<()> {
    std::fs::create_dir(&args.dir)?;
    let mut random = vec![0; RANDOM_BYTES];
    StdRng::seed_from_u64(SEED).fill_bytes(&mut random);
    say("ready")?;
    for told in io::stdin().lock().lines() {
        told?;
        write(&args.dir, &args.shape, &random)?;
        say("done")?;
    }
    Ok(())
}

/// Writes all files from their beginning, a thread each.
fn write(dir: &Path, shape: &Shape, random: &[u8]) -> io::Result<()> {
    thread::scope(|scope| {
        let writer = |number| scope.spawn(move || write_file(dir, number, shape, random));
        let writers: Vec<_> = (0..shape.files).map(writer).collect();
        let panicked = |_| Err(io::Error::other("a thread panicked"));
        writers.into_iter().try_for_each(|writer| writer.join().unwrap_or_else(panicked))
    })
}

fn write_file(dir: &Path, number: u32, shape: &Shape, random: &[u8]) -> io::Result<()> {
    let path = dir.join(number.to_string());
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let length = shape.write_bytes as usize;
    for at in 0..shape.writes() {
        let from = (at as usize * length) % (random.len() - length + 1);
        file.write_all_at(&random[from..from + length], at * length as u64)?;
        file.sync_data()?;
    }
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_written_once_at_least_and_none_beyond_its_share() {
        for (mib, write_bytes, files, bytes) in [
            (512, 64 << 10, 1, 512 << 20),
            (512, 4 << 20, 8, 512 << 20),
            (1, 4 << 20, 8, 32 << 20),
            (1, 300_000, 2, 600_000),
        ] {
            let shape = Shape { mib, write_bytes, files };
            assert_eq!(shape.bytes(), bytes, "{shape:?}");
        }
    }

    #[test]
    fn files_are_as_long_the_second_time() {
        let dir = tempfile::tempdir().unwrap();
        let shape = Shape { mib: 1, write_bytes: 64 << 10, files: 2 };
        let random = (0..=255).cycle().take(1 << 20).collect::<Vec<u8>>();
        for _ in 0..2 {
            write(dir.path(), &shape, &random).unwrap();
            let lengths = ["0", "1"].map(|file| dir.path().join(file).metadata().unwrap().len());
            assert_eq!(lengths.iter().sum::<u64>(), shape.bytes());
        }
    }
}
