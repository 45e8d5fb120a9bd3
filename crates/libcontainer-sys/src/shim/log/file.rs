//! The files of a log: appended to, rotated, and begun anew when somebody outside has taken them away.
//!
//! ```text
//! path        being written
//! path.1      the one before, path.2 the one before that, … up to maxFiles - 1
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the writer looks whether the file is still at its path.
const CHECK_EVERY: Duration = Duration::from_secs(1);

pub struct LogFile {
    path: PathBuf,
    file: Option<File>,
    /// Bytes in the current file.
    size: u64,
    max_size: Option<u64>,
    max_files: u32,
    checked: Duration,
}

impl LogFile {
    pub fn open(path: PathBuf, max_size: Option<u64>, max_files: u32) -> io::Result<Self> {
        let mut log =
            Self { path, file: None, size: 0, max_size, max_files: max_files.max(1), checked: Duration::ZERO };
        log.reopen()?;
        Ok(log)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Whether `more` bytes behind the `batched` ones, which are still to be written, belong in the next file.
    pub fn is_full(&mut self, batched: usize, more: usize) -> bool {
        let Some(max) = self.max_size else { return false };
        let full = |size: u64| size + batched as u64 > 0 && size + (batched + more) as u64 > max;
        if !full(self.size) {
            return false;
        }
        // asked only now: somebody may have truncated it
        if let Some(Ok(metadata)) = self.file.as_ref().map(File::metadata) {
            self.size = metadata.len();
        }
        full(self.size)
    }

    /// All of `records` or nothing: a torn record would be lost for readers together with the next one.
    pub fn append(&mut self, records: &[u8], now: Duration) -> io::Result<()> {
        if now.saturating_sub(self.checked) >= CHECK_EVERY {
            self.checked = now;
            if !self.is_in_place() {
                self.file = None;
            }
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut rest = records;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(count @ 1..) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                failure => {
                    let written = (records.len() - rest.len()) as u64;
                    // Best effort: a reader skips a torn record too.
                    if written > 0
                        && let Ok(metadata) = file.metadata()
                    {
                        let _ = file.set_len(metadata.len().saturating_sub(written));
                    }
                    return Err(failure.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into()));
                }
            }
        }
        self.size += records.len() as u64;
        Ok(())
    }

    /// False when it was deleted or renamed from outside.
    fn is_in_place(&self) -> bool {
        let Some(file) = &self.file else { return true };
        let (Ok(ours), Ok(there)) = (file.metadata(), std::fs::metadata(&self.path)) else { return false };
        (ours.dev(), ours.ino()) == (there.dev(), there.ino())
    }

    pub fn rotate(&mut self) {
        self.file = None;
        for number in (1..self.max_files).rev() {
            let from = if number == 1 { self.path.clone() } else { numbered(&self.path, number - 1) };
            // One that is not there yet has nothing to be moved.
            let _ = std::fs::rename(from, numbered(&self.path, number));
        }
        if self.max_files == 1 {
            // A new file and not a truncated one: who reads the old one can read it to its end.
            let _ = std::fs::remove_file(&self.path);
        }
        self.size = 0;
    }

    #[cfg(test)]
    pub fn replace(&mut self, file: Option<File>) {
        self.file = file;
    }
}

pub fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
