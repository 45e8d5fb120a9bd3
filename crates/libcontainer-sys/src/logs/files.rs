//! The files of one log in order, across rotations, and where the last N records begin.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

const BLOCK: usize = 128 << 10;

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Existing files of the log, the oldest first.
fn existing(path: &Path) -> Vec<File> {
    let mut files: Vec<File> = (0..).map_while(|number| File::open(numbered(path, number)).ok()).collect();
    files.reverse();
    files
}

/// A reader of whole lines over all files of a log.
pub struct Lines {
    path: PathBuf,
    /// Being read, and those after it that were there at the beginning.
    current: Option<File>,
    later: std::collections::VecDeque<File>,
    buffer: Vec<u8>,
    /// Of `buffer`: what has been given out.
    taken: usize,
}

impl Lines {
    /// At the beginning, or where the last `tail` records begin.
    pub fn open(path: &Path, tail: Option<u64>) -> io::Result<Self> {
        let mut files = existing(path);
        if let Some(tail) = tail {
            let mut wanted = tail;
            let mut first = files.len();
            while first > 0 && (wanted > 0 || first == files.len()) {
                first -= 1;
                let (start, found) = last_lines(&files[first], wanted)?;
                files[first].seek(SeekFrom::Start(start))?;
                wanted -= found;
            }
            files.drain(..first);
        }
        let mut later = std::collections::VecDeque::from(files);
        Ok(Self { path: path.to_owned(), current: later.pop_front(), later, buffer: Vec::new(), taken: 0 })
    }

    /// The next line without its newline; None when there is no whole one (yet).
    pub fn next(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            if let Some(length) = self.buffer[self.taken..].iter().position(|byte| *byte == b'\n') {
                let start = self.taken;
                self.taken += length + 1;
                return Ok(Some(&self.buffer[start..start + length]));
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            if !self.fill()? && !self.advance()? {
                return Ok(None);
            }
        }
    }

    fn fill(&mut self) -> io::Result<bool> {
        let Some(file) = &mut self.current else { return Ok(false) };
        let start = self.buffer.len();
        self.buffer.resize(start + BLOCK, 0);
        let got = file.read(&mut self.buffer[start..])?;
        self.buffer.truncate(start + got);
        Ok(got > 0)
    }

    /// To the file that follows the current one, which has been read to its end. A line that ends with its file without a
    /// newline was torn and is dropped.
    fn advance(&mut self) -> io::Result<bool> {
        if let Some(next) = self.later.pop_front() {
            self.current = Some(next);
            self.buffer.clear();
            return Ok(true);
        }
        let Some(current) = &self.current else {
            self.current = File::open(&self.path).ok();
            return Ok(self.current.is_some());
        };
        let identity = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
        let mine = identity(current)?;
        let files = existing(&self.path);
        let mut at = None;
        for (index, file) in files.iter().enumerate() {
            if identity(file)? == mine {
                at = Some(index);
            }
        }
        if files.is_empty() || at == Some(files.len() - 1) {
            return Ok(false);
        }
        // it may have grown between the last read and its rotation
        if self.fill()? {
            return Ok(true);
        }
        // rotated away altogether: on with the oldest that is left
        self.later = files.into_iter().skip(at.map_or(0, |index| index + 1)).collect();
        self.current = self.later.pop_front();
        self.buffer.clear();
        Ok(self.current.is_some())
    }
}

/// Where the last `wanted` lines of a file begin, and how many there are (at most `wanted`). Reads backwards.
fn last_lines(file: &File, wanted: u64) -> io::Result<(u64, u64)> {
    let mut end = file.metadata()?.len();
    if wanted == 0 {
        return Ok((end, 0));
    }
    let mut newlines = 0u64;
    let mut block = vec![0; BLOCK];
    while end > 0 {
        let size = (BLOCK as u64).min(end);
        let start = end - size;
        let block = &mut block[..size as usize];
        file.read_exact_at(block, start)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            newlines += 1;
            if newlines > wanted {
                return Ok((start + index as u64 + 1, wanted));
            }
        }
        end = start;
    }
    Ok((0, newlines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    struct Log(PathBuf);

    impl Log {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("caisson-log-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir.join("log"))
        }

        fn append(&self, text: &str) {
            fs::OpenOptions::new().append(true).create(true).open(&self.0).unwrap().write_all(text.as_bytes()).unwrap();
        }

        fn rotate(&self, keep: u32) {
            for number in (0..keep - 1).rev() {
                let _ = fs::rename(numbered(&self.0, number), numbered(&self.0, number + 1));
            }
            self.append("");
        }
    }

    impl Drop for Log {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.parent().unwrap());
        }
    }

    fn all(lines: &mut Lines) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push(String::from_utf8(line.to_vec()).unwrap());
        }
        found
    }

    #[test]
    fn reads_across_files_and_tails() {
        let log = Log::new("tail");
        log.append("1\n2\n");
        log.rotate(3);
        log.append("3\n4\n5\n");
        assert_eq!(all(&mut Lines::open(&log.0, None).unwrap()), ["1", "2", "3", "4", "5"]);
        assert_eq!(all(&mut Lines::open(&log.0, Some(4)).unwrap()), ["2", "3", "4", "5"]);
        assert_eq!(all(&mut Lines::open(&log.0, Some(2)).unwrap()), ["4", "5"]);
        assert_eq!(all(&mut Lines::open(&log.0, Some(0)).unwrap()), Vec::<String>::new());
        assert_eq!(all(&mut Lines::open(&log.0, Some(99)).unwrap()).len(), 5);
    }

    #[test]
    fn follows_rotations_without_losing_a_line() {
        let log = Log::new("follow");
        log.append("0\n");
        let mut lines = Lines::open(&log.0, Some(0)).unwrap();
        assert!(all(&mut lines).is_empty());
        let mut found = Vec::new();
        for number in 1..=100 {
            log.append(&format!("{number}\n"));
            if number % 3 == 0 {
                log.rotate(4);
            }
            if number % 7 == 0 {
                found.extend(all(&mut lines));
            }
        }
        found.extend(all(&mut lines));
        assert_eq!(found, (1..=100).map(|n| n.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn an_unfinished_line_waits() {
        let log = Log::new("unfinished");
        log.append("one\ntw");
        let mut lines = Lines::open(&log.0, None).unwrap();
        assert_eq!(all(&mut lines), ["one"]);
        log.append("o\n");
        assert_eq!(all(&mut lines), ["two"]);
    }
}
