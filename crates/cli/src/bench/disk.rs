//! `tidelog bench disk`: how fast the disk takes bytes that are to be safe, without a broker.
//!
//! Three processes write the same random bytes at the same time, as three replicas on one disk would,
//! and call `fdatasync` after every write. A broker cannot be faster than that, so the speed is that of
//! one process: what users of such a cluster could write. Each row first appends to new files and then
//! overwrites them, as a log that recycles its segments would: that needs no new blocks and no new size.
//! With eight files a thread writes each.

mod writer;
mod writers;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use self::writer::Shape;
pub(super) use self::writer::{WriterArgs, run as run_writer};
use self::writers::Writers;
use crate::Failure;
use crate::args::Globals;
use crate::interrupt::Interrupt;
use crate::output::{Column, Page};
use crate::progress::Teller;

/// Processes that write at the same time: one for each replica.
const WRITERS: u32 = 3;
const KIB: u32 = 1 << 10;
const MIB: u64 = 1 << 20;
const WRITE_BYTES: [u32; 4] = [64 * KIB, 256 * KIB, 1024 * KIB, 4096 * KIB];
const FILES: [u32; 2] = [1, 8];

/// Arguments of `tidelog bench disk`.
#[derive(Args, Debug)]
pub(crate) struct DiskArgs {
    /// Directory on the disk to measure; else where temporary files go
    #[arg(long)]
    dir: Option<PathBuf>,
    /// 2^20 bytes that each process writes for each row
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    mib: u32,
}

/// One way to write.
#[derive(Clone, Debug, Serialize)]
struct Row {
    write_bytes: u32,
    files: u32,
    /// Whether the files were there already.
    recycled: bool,
    /// Of one process.
    bytes: u64,
    seconds: f64,
    /// 10^6 bytes per second of one process.
    mb_per_s: f64,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    dir: PathBuf,
    processes: u32,
    /// Of the best row.
    mb_per_s: f64,
    best: Row,
    rows: Vec<Row>,
}

/// Measures, and takes away what it wrote, also after an error and on Ctrl-C.
pub(crate) async fn run(globals: &Globals, args: DiskArgs) -> Result<ExitCode, Failure> {
    let dir = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let failed = |err: &std::io::Error| {
        Failure::because(format!("cannot use directory {}", dir.display()), err)
    };
    refuse_full_disk(&dir, args.mib).map_err(|err| failed(&err))??;
    let place = tempfile::Builder::new().prefix("tidelog-disk-").tempdir_in(&dir);
    let place = place.map_err(|err| failed(&err))?;
    let mut interrupt = Interrupt::listen()?;
    let rows = tokio::select! {
        biased;
        // The processes are killed before their files go.
        () = interrupt.asked() => return Err(Failure::new("interrupted, nothing was measured")),
        rows = measure(place.path(), args.mib) => rows?,
    };
    place.close().map_err(|err| failed(&err))?;
    let best = rows.iter().max_by(|a, b| a.mb_per_s.total_cmp(&b.mb_per_s)).cloned();
    let best = best.expect("there are rows");
    let report = Report { dir, processes: WRITERS, mb_per_s: best.mb_per_s, best, rows };
    globals.output().item("bench", &report, |_| report.page())?;
    Ok(ExitCode::SUCCESS)
}

/// A disk that fills up would measure something else, and trouble others.
fn refuse_full_disk(dir: &Path, mib: u32) -> std::io::Result<Result<(), Failure>> {
    let stat = rustix::fs::statvfs(dir)?;
    let (needed, free) = (u64::from(mib) * u64::from(WRITERS), stat.f_bavail * stat.f_frsize / MIB);
    if free > needed {
        return Ok(Ok(()));
    }
    let dir = dir.display();
    Ok(Err(Failure::new(format!("{dir} has {free} MiB free, {needed} are needed; use less --mib"))))
}

async fn measure(dir: &Path, mib: u32) -> Result<Vec<Row>, Failure> {
    let mut step = Teller::new().step("measuring", (FILES.len() * WRITE_BYTES.len() * 2) as u64);
    let mut rows = Vec::new();
    for files in FILES {
        for write_bytes in WRITE_BYTES {
            let shape = Shape { mib, write_bytes, files };
            let mut writers = Writers::start(dir, &shape).await?;
            for recycled in [false, true] {
                let seconds = writers.write().await?.as_secs_f64();
                let bytes = shape.bytes();
                let mb_per_s = bytes as f64 / seconds / 1e6;
                rows.push(Row { write_bytes, files, recycled, bytes, seconds, mb_per_s });
                step.reach(rows.len() as u64);
            }
            writers.end().await?;
        }
    }
    step.end(rows.len() as u64);
    Ok(rows)
}

const COLUMNS: &[Column] = &[
    Column::number("WRITE KIB"),
    Column::number("FILES"),
    Column::text("FILES ARE"),
    Column::number("MB/S"),
];

impl Report {
    fn page(&self) -> Page {
        let Row { write_bytes, files, mb_per_s, .. } = &self.best;
        let best = format!(
            "best: {mb_per_s:.1} MB/s with writes of {} KiB to {files} {} each",
            write_bytes / KIB,
            match (files, self.best.recycled) {
                (1, false) => "new file",
                (1, true) => "recycled file",
                (_, false) => "new files",
                (_, true) => "recycled files",
            }
        );
        Page::new().table(COLUMNS, self.rows.iter().map(Row::cells)).sentence(best)
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        vec![
            (self.write_bytes / KIB).to_string(),
            self.files.to_string(),
            if self.recycled { "recycled" } else { "new" }.to_owned(),
            format!("{:.1}", self.mb_per_s),
        ]
    }
}
