//! The log file of one supervised process: everything it writes, bounded in size.
//!
//! The process writes into a pipe and we into the file, so that a file that is full can be moved
//! aside between two lines: nothing is lost and nothing is truncated under a writer. The last lines
//! stay in memory for the message about a failed start.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::unix::pipe::Receiver,
};

/// Size at which a file is moved aside.
const FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Older files kept beside the current one.
const OLD_FILES: u32 = 3;
/// A longer line is taken in pieces.
const LINE_MAX_BYTES: usize = 64 * 1024;
/// Lines kept for the message about a failed start.
const TAIL_LINES: usize = 15;
/// A longer line is cut in memory (not in the file).
const TAIL_LINE_CHARS: usize = 400;

/// The last lines that one life of a process wrote.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(text.trim_end().chars().take(TAIL_LINE_CHARS).collect());
    }

    /// The lines, oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }
}

/// A pipe for a process to write into, and the reader for [`pump`].
pub(crate) fn pipe() -> io::Result<(io::PipeWriter, Receiver)> {
    let (reader, writer) = io::pipe()?;
    Ok((writer, Receiver::from_owned_fd(OwnedFd::from(reader))?))
}

/// Copies lines from the pipe to the file until the last writer has closed its end.
pub(crate) async fn pump(reader: Receiver, path: PathBuf, tail: Tail) {
    let mut reader = BufReader::with_capacity(LINE_MAX_BYTES, reader);
    let mut file = Rotating::open(path, FILE_BYTES);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut piece = (&mut reader).take(LINE_MAX_BYTES as u64);
        match piece.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                tail.push(&line);
                file.write(&line);
            }
        }
    }
}

/// A file that moves itself aside when it is full. A disk that refuses writes costs log lines and
/// never the process: the next line tries again.
struct Rotating {
    path: PathBuf,
    limit_bytes: u64,
    current: Option<(File, u64)>,
}

impl Rotating {
    fn open(path: PathBuf, limit_bytes: u64) -> Self {
        Self {
            path,
            limit_bytes,
            current: None,
        }
    }

    fn write(&mut self, line: &[u8]) {
        if self.try_write(line).is_err() {
            self.current = None;
        }
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        if self
            .current
            .as_ref()
            .is_some_and(|(_, bytes)| *bytes >= self.limit_bytes)
        {
            self.current = None;
            rotate(&self.path)?;
        }
        if self.current.is_none() {
            let file = File::options().create(true).append(true).open(&self.path)?;
            let bytes = file.metadata()?.len();
            self.current = Some((file, bytes));
        }
        if let Some((file, bytes)) = &mut self.current {
            file.write_all(line)?;
            *bytes += line.len() as u64;
        }
        Ok(())
    }
}

fn rotate(path: &Path) -> io::Result<()> {
    let old = |n: u32| PathBuf::from(format!("{}.{n}", path.display()));
    for n in (1..OLD_FILES).rev() {
        if old(n).exists() {
            fs::rename(old(n), old(n + 1))?;
        }
    }
    fs::rename(path, old(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn a_full_file_moves_aside_and_the_oldest_goes() {
        let temp = TempDir::new();
        let path = temp.path().join("x.log");
        let mut file = Rotating::open(path, 4);
        for n in 0..6 {
            file.write(format!("line {n}\n").as_bytes());
        }
        let read = |name: &str| fs::read_to_string(temp.path().join(name)).ok();
        assert_eq!(read("x.log").as_deref(), Some("line 5\n"));
        assert_eq!(read("x.log.1").as_deref(), Some("line 4\n"));
        assert_eq!(read("x.log.3").as_deref(), Some("line 2\n"));
        assert_eq!(read("x.log.4"), None);
    }

    #[test]
    fn a_restart_appends_to_what_is_there() {
        let temp = TempDir::new();
        let path = temp.path().join("x.log");
        for word in ["first\n", "second\n"] {
            Rotating::open(path.clone(), 1000).write(word.as_bytes());
        }
        assert_eq!(
            fs::read_to_string(path).expect("written"),
            "first\nsecond\n"
        );
    }

    #[tokio::test]
    async fn the_pump_keeps_the_end_in_memory() {
        let temp = TempDir::new();
        let (mut writer, reader) = pipe().expect("a pipe");
        for n in 0..30 {
            writeln!(writer, "line {n}").expect("it fits the pipe");
        }
        drop(writer);
        let tail = Tail::default();
        pump(reader, temp.path().join("x.log"), tail.clone()).await;
        let lines = tail.lines();
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.last().map(String::as_str), Some("line 29"));
        let file = fs::read_to_string(temp.path().join("x.log")).expect("written");
        assert_eq!(file.lines().count(), 30);
    }

    #[tokio::test]
    async fn a_line_without_an_end_does_not_fill_the_memory() {
        let temp = TempDir::new();
        let (mut writer, reader) = pipe().expect("a pipe");
        let bytes = 5 * LINE_MAX_BYTES + 1;
        let writing = std::thread::spawn(move || {
            writer.write_all(&vec![b'x'; bytes])?;
            writer.write_all(b"\nlast\n")
        });
        let tail = Tail::default();
        pump(reader, temp.path().join("x.log"), tail.clone()).await;
        writing.join().expect("no panic").expect("it is read");
        let lines = tail.lines();
        assert_eq!(lines.len(), 7, "six pieces and the last line");
        assert!(lines.iter().all(|line| line.len() <= TAIL_LINE_CHARS));
        let file = fs::read_to_string(temp.path().join("x.log")).expect("written");
        assert_eq!(file.len(), bytes + 6, "the file has all of it");
    }
}
