//! The ledger's file: one JSON record per line, only ever appended to.
//!
//! A record is written with one `write` before the request is answered, so whatever a client was told is in
//! the file even if the process is killed at the next instant. Nothing is synced to the disk: the file
//! survives the process, not the machine, which is what a simulator needs.
//!
//! A kill can leave the last line half written. Nobody was answered for it, so it is cut off at the next
//! start. Anything else that cannot be read means that someone changed the file, and the start is refused.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::Error;

/// The first line, by which the file is known to be ours (or it might be cut where it should not be).
const HEADER: &[u8] = b"{\"psp_ledger\":1}\n";

/// The longest record, in bytes: a request body and the objects made of it fit many times.
const RECORD_MAX_BYTES: u64 = 1024 * 1024;

/// Where a record stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

/// The open file. It is locked, so that no second process writes into it.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    end: u64,
    /// A write failed, so there may be a piece of a record behind `end`.
    torn: bool,
}

impl Journal {
    /// Opens or makes the file and hands each record to `replay`, which says what is wrong with it, if anything.
    pub(crate) fn open(
        path: &Path,
        mut replay: impl FnMut(Place, &[u8]) -> Result<(), String>,
    ) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Ledger {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::LedgerInUse {
                path: path.to_owned(),
            },
            TryLockError::Error(source) => failed(source),
        })?;
        let mut journal = Self {
            file,
            end: 0,
            torn: false,
        };
        journal.read_header(path).map_err(failed)??;
        let mut lines = BufReader::with_capacity(1 << 20, &journal.file);
        let mut line = Vec::new();
        let mut number: u64 = 1;
        loop {
            line.clear();
            number += 1;
            let length = (&mut lines)
                .take(RECORD_MAX_BYTES)
                .read_until(b'\n', &mut line)
                .map_err(failed)?;
            if length == 0 {
                break;
            }
            let place = Place {
                offset: journal.end,
                length: u32::try_from(length).unwrap_or(u32::MAX),
            };
            let wrong = match line.strip_suffix(b"\n") {
                Some(record) => replay(place, record).err(),
                None => Some("it has no end".to_owned()),
            };
            let Some(reason) = wrong else {
                journal.end += length as u64;
                continue;
            };
            if !lines.fill_buf().map_err(failed)?.is_empty() {
                return Err(Error::LedgerCorrupt {
                    path: path.to_owned(),
                    line: number,
                    offset: place.offset,
                    reason,
                });
            }
            tracing::warn!(path = %path.display(), line = number, bytes = length, %reason,
                "the ledger's last record is unreadable; it was never answered for and is cut off");
            break;
        }
        journal.file.set_len(journal.end).map_err(failed)?;
        Ok(journal)
    }

    /// Writes the header into an empty file, or checks it; leaves the cursor behind it.
    fn read_header(&mut self, path: &Path) -> io::Result<Result<(), Error>> {
        let mut head = Vec::new();
        (&self.file)
            .take(HEADER.len() as u64)
            .read_to_end(&mut head)?;
        if head != HEADER {
            if !HEADER.starts_with(&head) {
                return Ok(Err(Error::LedgerForeign {
                    path: path.to_owned(),
                }));
            }
            self.file.write_all_at(HEADER, 0)?;
            // The cursor stands where the cut-off header ended.
            io::Seek::seek(&mut &self.file, io::SeekFrom::Start(HEADER.len() as u64))?;
        }
        self.end = HEADER.len() as u64;
        Ok(Ok(()))
    }

    /// Appends a record, which must end in its only line feed. On an error the file is as before.
    pub(crate) fn append(&mut self, record: &[u8]) -> io::Result<Place> {
        debug_assert_eq!(
            record.iter().position(|byte| *byte == b'\n'),
            Some(record.len() - 1)
        );
        if record.len() as u64 > RECORD_MAX_BYTES {
            return Err(io::Error::other("the record is too long"));
        }
        if self.torn {
            self.file.set_len(self.end)?;
            self.torn = false;
        }
        if let Err(error) = self.file.write_all_at(record, self.end) {
            self.torn = self.file.set_len(self.end).is_err();
            return Err(error);
        }
        let place = Place {
            offset: self.end,
            length: u32::try_from(record.len()).unwrap_or(u32::MAX),
        };
        self.end += record.len() as u64;
        Ok(place)
    }

    /// Reads a record back, without its line feed.
    pub(crate) fn read(&self, place: Place) -> io::Result<Vec<u8>> {
        let mut record = vec![0; place.length as usize];
        self.file.read_exact_at(&mut record, place.offset)?;
        record.pop();
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of its own that is gone at the end.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(content: &[u8]) -> Self {
            let name = format!("psp-journal-{}", uuid::Uuid::now_v7());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, content).expect("the temporary folder is writable");
            Self(path)
        }

        /// What is replayed; every record but `bad` is a good one.
        fn open(&self) -> Result<(Journal, Vec<String>), Error> {
            let mut seen = Vec::new();
            let journal = Journal::open(&self.0, |_, record| {
                if record == b"bad" {
                    return Err("it is bad".to_owned());
                }
                seen.push(String::from_utf8_lossy(record).into_owned());
                Ok(())
            })?;
            Ok((journal, seen))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn with_header(rest: &str) -> Vec<u8> {
        [HEADER, rest.as_bytes()].concat()
    }

    #[test]
    fn records_are_read_back_and_replayed() {
        let scratch = Scratch::new(b"");
        let (mut journal, seen) = scratch.open().expect("an empty file is a ledger");
        assert!(seen.is_empty());
        let first = journal.append(b"one\n").expect("written");
        let second = journal.append(b"second\n").expect("written");
        assert_eq!(journal.read(first).expect("read"), b"one");
        assert_eq!(journal.read(second).expect("read"), b"second");
        drop(journal);
        let (journal, seen) = scratch.open().expect("its own file");
        assert_eq!(seen, ["one", "second"]);
        assert_eq!(journal.read(second).expect("read"), b"second");
    }

    #[test]
    fn a_half_written_end_is_cut_off() {
        for end in ["tw", "bad\n", "bad"] {
            let scratch = Scratch::new(&with_header(&format!("one\n{end}")));
            let (mut journal, seen) = scratch.open().expect("the end is forgiven");
            assert_eq!(seen, ["one"], "{end:?}");
            journal.append(b"two\n").expect("written");
            drop(journal);
            assert_eq!(scratch.open().expect("whole again").1, ["one", "two"]);
        }
        let header_only = Scratch::new(&HEADER[..5]);
        assert!(header_only.open().is_ok());
        assert_eq!(fs::read(&header_only.0).expect("readable"), HEADER);
    }

    #[test]
    fn a_broken_middle_is_named() {
        let scratch = Scratch::new(&with_header("one\nbad\nthree\n"));
        let error = scratch.open().expect_err("corrupt");
        let text = error.to_string();
        assert!(
            matches!(error, Error::LedgerCorrupt { line: 3, .. }),
            "{text}"
        );
        assert!(
            text.contains("line 3") && text.contains("it is bad"),
            "{text}"
        );
        let untouched = fs::read(&scratch.0).expect("readable");
        assert_eq!(untouched, with_header("one\nbad\nthree\n"));
    }

    #[test]
    fn another_file_is_left_alone() {
        let scratch = Scratch::new(b"dear diary");
        let error = scratch.open().expect_err("no ledger");
        assert!(matches!(error, Error::LedgerForeign { .. }), "{error}");
        assert_eq!(fs::read(&scratch.0).expect("readable"), b"dear diary");
    }

    #[test]
    fn two_writers_are_refused() {
        let scratch = Scratch::new(b"");
        let first = scratch.open().expect("free");
        let error = scratch.open().expect_err("in use");
        assert!(matches!(error, Error::LedgerInUse { .. }), "{error}");
        drop(first);
        assert!(scratch.open().is_ok());
    }
}
