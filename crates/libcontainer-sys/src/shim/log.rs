//! The log writer: lines in, json-file records out, in batches, with rotation.
//!
//! ```text
//! path        being written
//! path.1      the one before, path.2 the one before that, … up to maxFiles - 1
//! ```
//!
//! A log that cannot be written never stops the container: what is lost is counted, and a record says so as soon as
//! records can be written again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::config::{LogConfig, LogDriver};
use super::record::{MAX_LINE, attributes, escape, timestamp};

/// Records are collected up to this size before they are written.
const BATCH: usize = 256 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamName {
    Stdout,
    Stderr,
}

impl StreamName {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// First byte of Docker's frame header.
    pub fn frame(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }
}

pub struct LogWriter {
    path: PathBuf,
    file: Option<File>,
    /// Bytes in the current file.
    size: u64,
    max_size: Option<u64>,
    max_files: u32,
    attrs: Vec<u8>,
    /// Beginning of a line whose end has not come yet.
    partial: [Vec<u8>; 2],
    batch: Vec<u8>,
    /// Bytes of the container's output that the records in `batch` carry.
    batch_payload: u64,
    lost: u64,
}

impl LogWriter {
    /// `None` when this container has no log.
    pub fn open(config: &LogConfig) -> io::Result<Option<Self>> {
        let Some(path) = config.path.clone() else { return Ok(None) };
        if config.driver == LogDriver::None {
            return Ok(None);
        }
        let file = open_append(&path)?;
        let size = file.metadata()?.len();
        Ok(Some(Self {
            path,
            file: Some(file),
            size,
            max_size: config.max_size_bytes,
            max_files: config.max_files.unwrap_or(1).max(1),
            attrs: attributes(&config.attrs),
            partial: [Vec::new(), Vec::new()],
            batch: Vec::new(),
            batch_payload: 0,
            lost: 0,
        }))
    }

    /// Takes what was read in one go. One time for all of its records: they came in one read.
    pub fn write(&mut self, stream: StreamName, mut data: &[u8]) {
        let tail = self.tail(stream);
        let index = stream as usize;
        if !self.partial[index].is_empty() {
            let missing = MAX_LINE - self.partial[index].len();
            let end = memchr::memchr(b'\n', &data[..data.len().min(missing)]).map(|at| at + 1);
            let taken = end.unwrap_or(data.len().min(missing));
            let mut line = std::mem::take(&mut self.partial[index]);
            line.extend_from_slice(&data[..taken]);
            data = &data[taken..];
            if end.is_none() && line.len() < MAX_LINE {
                self.partial[index] = line;
                return;
            }
            self.push(&line, &tail);
        }
        while !data.is_empty() {
            let window = &data[..data.len().min(MAX_LINE)];
            let end = match memchr::memchr(b'\n', window) {
                Some(at) => at + 1,
                None if window.len() == MAX_LINE => MAX_LINE,
                None => {
                    self.partial[index] = window.to_vec();
                    break;
                }
            };
            self.push(&data[..end], &tail);
            data = &data[end..];
        }
        self.flush();
    }

    /// The stream has ended: a line without an end becomes a record without a newline.
    pub fn end(&mut self, stream: StreamName) {
        let line = std::mem::take(&mut self.partial[stream as usize]);
        if !line.is_empty() {
            let tail = self.tail(stream);
            self.push(&line, &tail);
        }
        self.flush();
    }

    /// What follows the text in each record of this moment.
    fn tail(&self, stream: StreamName) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut tail = format!("\",\"stream\":\"{}\",", stream.name()).into_bytes();
        tail.extend_from_slice(&self.attrs);
        tail.extend_from_slice(format!("\"time\":\"{}\"}}\n", timestamp(now)).as_bytes());
        tail
    }

    fn push(&mut self, line: &[u8], tail: &[u8]) {
        let before = self.batch.len();
        self.batch.extend_from_slice(b"{\"log\":\"");
        escape(line, &mut self.batch);
        self.batch.extend_from_slice(tail);
        if let Some(max) = self.max_size
            && self.size + self.batch.len() as u64 > max
            && self.size + before as u64 > 0
        {
            let record = self.batch.split_off(before);
            self.flush();
            self.rotate();
            self.batch.extend_from_slice(&record);
        }
        self.batch_payload += line.len() as u64;
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let payload = std::mem::take(&mut self.batch_payload);
        if self.append().is_err() {
            self.lost += payload;
        }
        self.batch.clear();
        if self.batch.capacity() > 2 * BATCH {
            self.batch.shrink_to(BATCH);
        }
    }

    fn append(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            let file = open_append(&self.path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        if self.lost > 0 {
            let notice = format!("{{\"log\":\"{} bytes lost\\n", self.lost).into_bytes();
            let record = [notice, self.tail(StreamName::Stderr)].concat();
            self.append_whole(&record)?;
            self.lost = 0;
        }
        let batch = std::mem::take(&mut self.batch);
        let result = self.append_whole(&batch);
        self.batch = batch;
        result
    }

    /// All of `records` or nothing: a torn record would hide those behind it from readers.
    fn append_whole(&mut self, records: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        match file.write_all(records) {
            Ok(()) => {
                self.size += records.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Best effort: a reader skips a torn line too.
                let _ = file.set_len(self.size);
                Err(error)
            }
        }
    }

    fn rotate(&mut self) {
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
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(dir: &Path, max_size_bytes: Option<u64>, max_files: u32) -> LogWriter {
        let config = LogConfig {
            driver: LogDriver::JsonFile,
            path: Some(dir.join("x-json.log")),
            max_size_bytes,
            max_files: Some(max_files),
            ..LogConfig::default()
        };
        LogWriter::open(&config).unwrap().unwrap()
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("caisson-log-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    fn logs(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let field = |line: &str| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            format!("{}:{}", record["stream"].as_str().unwrap(), record["log"].as_str().unwrap())
        };
        text.lines().map(field).collect()
    }

    #[test]
    fn lines_become_records_however_they_are_cut() {
        let dir = scratch("lines");
        let mut log = writer(&dir, None, 1);
        log.write(StreamName::Stdout, b"one\ntw");
        log.write(StreamName::Stderr, b"err\n");
        log.write(StreamName::Stdout, b"o\n\nlast");
        log.end(StreamName::Stdout);
        log.end(StreamName::Stderr);
        let expected = ["stdout:one\n", "stderr:err\n", "stdout:two\n", "stdout:\n", "stdout:last"];
        assert_eq!(logs(&dir.join("x-json.log")), expected);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn long_lines_become_partial_records() {
        let dir = scratch("long");
        let mut log = writer(&dir, None, 1);
        let mut line = vec![b'x'; 40_000];
        line.push(b'\n');
        log.write(StreamName::Stdout, &line[..10_000]);
        log.write(StreamName::Stdout, &line[10_000..]);
        let records = logs(&dir.join("x-json.log"));
        let lengths: Vec<usize> = records.iter().map(|record| record.len() - "stdout:".len()).collect();
        assert_eq!(lengths, [16_384, 16_384, 7_233]);
        assert!(records[2].ends_with('\n') && !records[0].ends_with('\n'));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn rotates_between_records_and_keeps_the_last_files() {
        let dir = scratch("rotate");
        let mut log = writer(&dir, Some(1000), 3);
        for number in 0..100 {
            log.write(StreamName::Stdout, format!("line {number}\n").as_bytes());
        }
        let path = dir.join("x-json.log");
        let all: Vec<String> =
            [numbered(&path, 2), numbered(&path, 1), path.clone()].iter().flat_map(|file| logs(file)).collect();
        let expected: Vec<String> = (100 - all.len()..100).map(|number| format!("stdout:line {number}\n")).collect();
        assert_eq!(all, expected);
        assert!(all.len() > 20);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 3);
        assert!(std::fs::read_dir(&dir).unwrap().all(|file| file.unwrap().metadata().unwrap().len() <= 1000));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn says_what_was_lost_once_it_can_write_again() {
        let dir = scratch("lost");
        let mut log = writer(&dir, None, 1);
        log.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        log.write(StreamName::Stdout, b"gone\n");
        log.write(StreamName::Stdout, b"gone too\n");
        log.file = None;
        log.write(StreamName::Stdout, b"here\n");
        assert_eq!(logs(&dir.join("x-json.log")), ["stderr:14 bytes lost\n", "stdout:here\n"]);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
