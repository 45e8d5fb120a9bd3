//! The files of a log: appended to, rotated, and begun anew when somebody outside has taken them away.
//!
//! ```text
//! path        being written
//! path.1      the one before, path.2 the one before that, … up to maxFiles - 1; compressed, path.1.gz
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::compress::Compressor;
use crate::shim::config::LogConfig;

/// How often the writer looks whether the file is still at its path.
const CHECK_EVERY: Duration = Duration::from_secs(1);

pub struct LogFile {
    path: PathBuf,
    file: Option<File>,
    /// Bytes in the current file.
    size: u64,
    max_size: Option<u64>,
    max_files: u32,
    compress: bool,
    compressor: Compressor,
    checked: Duration,
}

impl LogFile {
    pub fn open(path: PathBuf, config: &LogConfig) -> io::Result<Self> {
        let mut log = Self {
            path,
            file: None,
            size: 0,
            max_size: config.max_size_bytes,
            max_files: config.max_files.unwrap_or(1).max(1),
            compress: config.compress,
            compressor: Compressor::default(),
            checked: Duration::ZERO,
        };
        log.reopen()?;
        Ok(log)
    }

    /// Cuts off what a crash of the machine has torn: it would take the next record with it.
    pub fn repair(&mut self, whole: impl Fn(&File, u64) -> io::Result<u64>) -> io::Result<()> {
        if self.size > 0
            && let Some(file) = &self.file
        {
            // by another descriptor: this one can only append
            let whole = whole(&File::open(&self.path)?, self.size)?;
            if whole < self.size {
                file.set_len(whole)?;
                self.size = whole;
            }
        }
        Ok(())
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

    pub fn descriptor(&self) -> Option<RawFd> {
        self.file.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// False when it was deleted or renamed from outside.
    fn is_in_place(&self) -> bool {
        let Some(file) = &self.file else { return true };
        let (Ok(ours), Ok(there)) = (file.metadata(), fs::metadata(&self.path)) else { return false };
        (ours.dev(), ours.ino()) == (there.dev(), there.ino())
    }

    pub fn rotate(&mut self) {
        self.file = None;
        self.size = 0;
        self.compressor.stop();
        for number in (1..self.max_files).rev() {
            self.shift(number);
        }
        if self.max_files == 1 {
            // A new file and not a truncated one: who reads the old one can read it to its end.
            let _ = fs::remove_file(&self.path);
        }
        if self.compress {
            self.compressor.start(&self.path, self.max_files);
        }
    }

    /// Moves the file before it to `path.number`. What is not there has nothing to be moved. At each moment a number stands for
    /// one file: who reads after a SIGKILL could not tell which of two comes first.
    fn shift(&self, number: u32) {
        let compressed = |path: &Path| suffixed(path, ".gz");
        let to = numbered(&self.path, number);
        let from = if number == 1 { self.path.clone() } else { numbered(&self.path, number - 1) };
        if from.exists() {
            // where the compressor was stopped at its last step there are both
            if number > 1 {
                let _ = fs::remove_file(compressed(&from));
            }
            let _ = fs::remove_file(compressed(&to));
            let _ = fs::rename(&from, &to);
        } else if number > 1 && compressed(&from).exists() {
            let _ = fs::remove_file(&to);
            let _ = fs::rename(compressed(&from), compressed(&to));
        }
    }

    #[cfg(test)]
    pub fn look_again(&mut self) {
        self.checked = Duration::ZERO;
    }
}

pub fn numbered(path: &Path, number: u32) -> PathBuf {
    suffixed(path, &format!(".{number}"))
}

pub fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
