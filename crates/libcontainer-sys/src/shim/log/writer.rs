//! What the container writes in, records out, many in one write.
//!
//! A log that cannot be written never stops the container: what is lost is counted, and a record says so as soon as
//! records can be written again.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::StreamName;
use super::encoder::Encoder;
use super::file::LogFile;
use super::json::JsonFile;
use super::local::Local;
use crate::clock::now;
use crate::shim::config::{LogConfig, LogDriver};

/// A longer line is cut into records of this size, its newline included; only the last of them ends a line.
const MAX_LINE: usize = 16 * 1024;
/// Records are collected up to this size before they are written. Small enough to stay in the second-level cache.
const BATCH: usize = 256 * 1024;

pub struct LogWriter {
    file: LogFile,
    encoder: Box<dyn Encoder>,
    /// Beginning of a line whose end has not come yet.
    partial: [Vec<u8>; 2],
    /// Records that are still to be written: the first `filled` bytes. Empty while nothing is logged.
    batch: Vec<u8>,
    filled: usize,
    /// Bytes of the container's output that those records carry.
    payload: u64,
    lost: u64,
    stream: StreamName,
    time: Duration,
}

impl LogWriter {
    /// `None` when this container has no log.
    pub fn open(config: &LogConfig) -> io::Result<Option<Self>> {
        let Some(path) = config.path.clone() else { return Ok(None) };
        let encoder: Box<dyn Encoder> = match config.driver {
            LogDriver::None => return Ok(None),
            LogDriver::JsonFile => Box::new(JsonFile::new(&config.attrs)),
            LogDriver::Local => Box::<Local>::default(),
        };
        let mut file = LogFile::open(path, config)?;
        // Best effort: a reader skips a torn record too.
        let _ = file.repair(|file, size| encoder.whole(file, size));
        Ok(Some(Self {
            file,
            encoder,
            partial: [Vec::new(), Vec::new()],
            batch: Vec::new(),
            filled: 0,
            payload: 0,
            lost: 0,
            stream: StreamName::Stdout,
            time: Duration::ZERO,
        }))
    }

    /// Takes what was read in one go. One time for all of its records: they came in one read. The last of them are in the
    /// file only after `flush`.
    pub fn write(&mut self, stream: StreamName, mut data: &[u8]) {
        self.begin(stream);
        let index = stream as usize;
        if !self.partial[index].is_empty() {
            let window = &data[..data.len().min(MAX_LINE - self.partial[index].len())];
            let end = memchr::memchr(b'\n', window);
            let mut line = std::mem::take(&mut self.partial[index]);
            line.extend_from_slice(&window[..end.unwrap_or(window.len())]);
            data = &data[end.map_or(window.len(), |end| end + 1)..];
            if end.is_none() && line.len() < MAX_LINE {
                self.partial[index] = line;
                return;
            }
            self.push(&line, end.is_some());
            line.clear();
            self.partial[index] = line;
        }
        while !data.is_empty() {
            let window = &data[..data.len().min(MAX_LINE)];
            match memchr::memchr(b'\n', window) {
                Some(end) => {
                    self.push(&data[..end], true);
                    data = &data[end + 1..];
                }
                None if window.len() == MAX_LINE => {
                    self.push(window, false);
                    data = &data[MAX_LINE..];
                }
                None => {
                    self.partial[index].extend_from_slice(window);
                    break;
                }
            }
        }
    }

    /// The stream has ended: a line without an end becomes a record without a newline.
    pub fn end(&mut self, stream: StreamName) {
        let line = std::mem::take(&mut self.partial[stream as usize]);
        if !line.is_empty() {
            self.begin(stream);
            self.push(&line, false);
        }
        self.flush();
    }

    /// Bytes of this stream were left out: a line that was begun ends here, so that no other is taken for its rest.
    pub fn gap(&mut self, stream: StreamName, count: u64) {
        let line = std::mem::take(&mut self.partial[stream as usize]);
        if !line.is_empty() {
            self.begin(stream);
            self.push(&line, true);
        }
        self.lost += count;
        self.finish();
    }

    /// Tells what was lost also when no record follows.
    pub fn finish(&mut self) {
        self.flush();
        // Where even this cannot be written, nobody reads the log either.
        let _ = self.tell_lost();
    }

    pub fn descriptor(&self) -> Option<RawFd> {
        self.file.descriptor()
    }

    /// Gives back the memory that only a busy log needs.
    pub fn rest(&mut self) {
        self.flush();
        self.batch = Vec::new();
        self.partial.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// The next write looks whether the file is still in its place.
    #[cfg(test)]
    pub fn look_again(&mut self) {
        self.file.look_again();
    }

    fn begin(&mut self, stream: StreamName) {
        self.stream = stream;
        self.time = now();
        self.encoder.begin(stream, self.time);
    }

    fn push(&mut self, text: &[u8], ends_line: bool) {
        let room = self.encoder.worst_case(text.len());
        if self.batch.len() < self.filled + room {
            self.flush();
            if self.batch.len() < room {
                // zeroed by the kernel, page by page when they are used
                self.batch = vec![0; room.max(BATCH)];
            }
        }
        let start = self.filled;
        let length = self.encoder.record(text, ends_line, &mut self.batch[start..]);
        if self.file.is_full(start, length) {
            self.flush();
            self.file.rotate();
            self.batch.copy_within(start..start + length, 0);
        }
        self.filled += length;
        self.payload += text.len() as u64 + u64::from(ends_line);
    }

    /// Writes what was collected.
    pub fn flush(&mut self) {
        if self.filled == 0 {
            return;
        }
        let payload = std::mem::take(&mut self.payload);
        if self.append().is_err() {
            self.lost += payload;
        }
        self.filled = 0;
    }

    fn append(&mut self) -> io::Result<()> {
        self.tell_lost()?;
        self.file.append(&self.batch[..self.filled], self.time)
    }

    fn tell_lost(&mut self) -> io::Result<()> {
        if self.lost > 0 {
            let text = format!("{} bytes lost", self.lost);
            let mut record = vec![0; self.encoder.worst_case(text.len())];
            self.encoder.begin(StreamName::Stderr, self.time);
            let length = self.encoder.record(text.as_bytes(), true, &mut record);
            self.encoder.begin(self.stream, self.time);
            self.file.append(&record[..length], self.time)?;
            self.lost = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::log::file::numbered;
    use std::path::{Path, PathBuf};

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
        log.flush();
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
            if number % 7 == 0 {
                log.flush();
            }
        }
        log.flush();
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
        let path = dir.join("x-json.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut log = writer(&dir, None, 1);
        for line in ["gone\n", "gone too\n"] {
            log.write(StreamName::Stdout, line.as_bytes());
            log.flush();
        }
        std::fs::remove_file(&path).unwrap();
        log.file.look_again();
        log.write(StreamName::Stdout, b"here\n");
        log.flush();
        assert_eq!(logs(&path), ["stderr:14 bytes lost\n", "stdout:here\n"]);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
