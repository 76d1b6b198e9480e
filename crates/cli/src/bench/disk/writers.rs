//! The processes that write at the same time.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::WRITERS;
use super::writer::Shape;
use crate::Failure;

/// They end with it, whatever they are doing, and have ended once it is dropped.
#[derive(Debug)]
pub(super) struct Writers(Vec<Writer>);

impl Writers {
    /// Starts them below `dir`; all are ready when this returns.
    pub(super) async fn start(dir: &Path, shape: &Shape) -> Result<Self, Failure> {
        let mut writers = Self(Vec::new());
        for number in 0..WRITERS {
            writers.0.push(Writer::start(&dir.join(format!("writer{number}")), shape)?);
        }
        writers.hear("ready").await?;
        Ok(writers)
    }

    /// Has all of them write once. Gives the time until the last was done.
    pub(super) async fn write(&mut self) -> Result<Duration, Failure> {
        let begun = Instant::now();
        self.0.iter_mut().try_for_each(Writer::tell)?;
        self.hear("done").await?;
        Ok(begun.elapsed())
    }

    /// Has them take their files away, and waits for it.
    pub(super) async fn end(mut self) -> Result<(), Failure> {
        for writer in &mut self.0 {
            writer.input = None;
        }
        // An answer that ends without a word: they have ended.
        self.hear("").await
    }

    async fn hear(&mut self, word: &str) -> Result<(), Failure> {
        for writer in &mut self.0 {
            writer.hear(word).await?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Writer {
    process: Child,
    input: Option<ChildStdin>,
    /// Taken while a thread waits for an answer.
    answers: Option<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(dir: &Path, shape: &Shape) -> Result<Self, Failure> {
        let binary = std::env::current_exe();
        let binary = binary.map_err(|err| Failure::because("find this binary", &err))?;
        let mut command = Command::new(binary);
        command.args(["bench", "disk-writer", "--dir"]).arg(dir);
        command.args(["--mib", &shape.mib.to_string(), "--files", &shape.files.to_string()]);
        command.args(["--write-bytes", &shape.write_bytes.to_string()]);
        // A group of its own: Ctrl-C on the terminal is for the parent, who ends it.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let process = command.spawn();
        let mut process = process.map_err(|err| Failure::because("run this binary", &err))?;
        let (input, answers) = (process.stdin.take(), process.stdout.take().map(BufReader::new));
        Ok(Self { process, input, answers })
    }

    fn tell(&mut self) -> Result<(), Failure> {
        let input = self.input.as_mut().expect("it is told nothing after its end");
        input.write_all(b"go\n").map_err(|err| Failure::because("a writing process is gone", &err))
    }

    /// Waits for its next line, which should be `word`; anything else says what is wrong.
    async fn hear(&mut self, word: &str) -> Result<(), Failure> {
        let mut answers = self.answers.take().expect("one answer is awaited at a time");
        let heard = spawn_blocking(move || {
            let mut line = String::new();
            let read = answers.read_line(&mut line);
            (answers, read.map(|_| line))
        });
        let (answers, line) = heard.await.expect("reading a line does not panic");
        self.answers = Some(answers);
        let line = line.map_err(|err| Failure::because("a writing process is gone", &err))?;
        match line.trim_end() {
            line if line == word => Ok(()),
            "" => Err(Failure::new("a writing process ended too early")),
            problem => Err(Failure::new(problem)),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have ended; one that cannot be killed still sees its input close.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
