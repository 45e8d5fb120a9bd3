//! The files of one log in order, across rotations, and where the last N records begin.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use super::format::Format;
use super::source::Source;
use crate::shim::log::Identity;

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn open(path: &Path, number: u32, format: Format) -> Option<Source> {
    let plain = numbered(path, number);
    Source::plain(&plain, format).or_else(|| {
        let mut name = plain.into_os_string();
        name.push(".gz");
        Source::gzip(Path::new(&name), format)
    })
}

/// Numbers of the log's files, as far as one must look: a crash within a rotation leaves a number out.
fn highest(path: &Path) -> u32 {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = |entry: io::Result<std::fs::DirEntry>| {
        let file = entry.ok()?.file_name();
        let rest = file.to_str()?.strip_prefix(&*name)?.strip_prefix('.')?;
        rest.strip_suffix(".gz").unwrap_or(rest).parse::<u32>().ok()
    };
    let Some(Ok(entries)) = path.parent().map(std::fs::read_dir) else { return 0 };
    entries.filter_map(number).max().unwrap_or(0)
}

/// Existing files of the log with their numbers, the oldest first. A rotation meanwhile moves files upwards: one is then
/// met twice.
fn existing(path: &Path, format: Format) -> VecDeque<(u32, Source)> {
    let mut files: VecDeque<(u32, Source)> = VecDeque::new();
    for number in 0..=highest(path) + 2 {
        if let Some(source) = open(path, number, format)
            && (source.identity.is_none() || files.iter().all(|(_, known)| known.identity != source.identity))
        {
            files.push_front((number, source));
        }
    }
    files
}

/// A place between two records of a log, whatever its file is called by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    file: Identity,
    /// Of the uncompressed file.
    offset: u64,
}

impl Position {
    pub const LENGTH: usize = 24;

    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..16].copy_from_slice(&self.file.to_bytes());
        bytes[16..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    pub fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        let (file, offset) = bytes.split_at(16);
        let file = Identity::from_bytes(std::array::from_fn(|index| file[index]));
        Self { file, offset: u64::from_le_bytes(std::array::from_fn(|index| offset[index])) }
    }
}

/// A reader of whole records over all files of a log.
pub struct Records {
    path: PathBuf,
    format: Format,
    /// Being read, and those after it that were there at the beginning.
    current: Option<Source>,
    later: VecDeque<Source>,
    /// Files that are not read any more.
    done: Vec<Identity>,
}

impl Records {
    /// At the beginning, or where the last `tail` records begin.
    pub fn open(path: &Path, format: Format, tail: Option<u64>) -> io::Result<Self> {
        let mut files = existing(path, format);
        let mut first = 0;
        if let Some(tail) = tail {
            let mut wanted = tail;
            first = files.len();
            while first > 0 && (wanted > 0 || first == files.len()) {
                first -= 1;
                let (number, source) = &mut files[first];
                wanted -= source.seek_last(wanted, || open(path, *number, format))?;
            }
        }
        let done = files.drain(..first).filter_map(|(_, source)| source.identity).collect();
        let mut later: VecDeque<Source> = files.into_iter().map(|(_, source)| source).collect();
        Ok(Self { path: path.to_owned(), format, current: later.pop_front(), later, done })
    }

    /// Behind the record that `position` was told of. Where its file is not there any more, at the beginning.
    pub fn open_behind(path: &Path, format: Format, position: Position) -> io::Result<Self> {
        let mut files: Vec<Source> = existing(path, format).into_iter().map(|(_, source)| source).collect();
        let mut done = Vec::new();
        if let Some(first) = files.iter().position(|source| source.identity == Some(position.file)) {
            done.extend(files.drain(..first).filter_map(|source| source.identity));
            files[0].seek(position.offset)?;
        }
        let mut later = VecDeque::from(files);
        Ok(Self { path: path.to_owned(), format, current: later.pop_front(), later, done })
    }

    /// Of what follows the record that was found last. None in a compressed file that is not ours.
    pub fn position(&self) -> Option<Position> {
        let current = self.current.as_ref()?;
        Some(Position { file: current.identity?, offset: current.offset() })
    }

    /// Moves to the next record; false when there is no whole one (yet).
    pub fn step(&mut self) -> io::Result<bool> {
        loop {
            if let Some(current) = &mut self.current
                && current.step()?
            {
                return Ok(true);
            }
            if !self.advance()? {
                return Ok(false);
            }
        }
    }

    pub fn record(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], Source::record)
    }

    /// To the file that follows the current one, which has been read to its end. What its end holds of a record was torn and
    /// is dropped.
    fn advance(&mut self) -> io::Result<bool> {
        if self.later.is_empty() {
            let mine = self.current.as_ref().and_then(|current| current.identity);
            if mine.is_some() && Identity::at(&self.path) == mine {
                return Ok(false);
            }
            let mut files = existing(&self.path, self.format);
            self.done.retain(|done| files.iter().any(|(_, source)| source.identity == Some(*done)));
            files.retain(|(_, source)| {
                source.identity.is_some_and(|identity| Some(identity) != mine && !self.done.contains(&identity))
            });
            if files.is_empty() {
                return Ok(false);
            }
            // it may have grown between the last read and its rotation
            if let Some(current) = &mut self.current
                && current.fill()?
            {
                return Ok(true);
            }
            self.later = files.into_iter().map(|(_, source)| source).collect();
        }
        self.done.extend(self.current.take().and_then(|current| current.identity));
        self.current = self.later.pop_front();
        Ok(true)
    }

    /// Gives back the memory that nothing is waiting in.
    pub fn rest(&mut self) {
        if let Some(current) = &mut self.current {
            current.rest();
        }
    }

    /// Gives back what was read ahead: whoever waits for a slow client needs it later, if at all.
    pub fn forget(&mut self) -> io::Result<()> {
        self.current.as_mut().map_or(Ok(()), Source::forget)
    }
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

    fn all(lines: &mut Records) -> Vec<String> {
        let mut found = Vec::new();
        while lines.step().unwrap() {
            found.push(String::from_utf8(lines.record().to_vec()).unwrap());
        }
        found
    }

    #[test]
    fn reads_across_files_and_tails() {
        let log = Log::new("tail");
        log.append("1\n2\n");
        log.rotate(3);
        log.append("3\n4\n5\n");
        assert_eq!(all(&mut Records::open(&log.0, Format::JsonFile, None).unwrap()), ["1", "2", "3", "4", "5"]);
        assert_eq!(all(&mut Records::open(&log.0, Format::JsonFile, Some(4)).unwrap()), ["2", "3", "4", "5"]);
        assert_eq!(all(&mut Records::open(&log.0, Format::JsonFile, Some(2)).unwrap()), ["4", "5"]);
        assert_eq!(all(&mut Records::open(&log.0, Format::JsonFile, Some(0)).unwrap()), Vec::<String>::new());
        assert_eq!(all(&mut Records::open(&log.0, Format::JsonFile, Some(99)).unwrap()).len(), 5);
    }

    #[test]
    fn follows_rotations_without_losing_a_line() {
        let log = Log::new("follow");
        log.append("0\n");
        let mut lines = Records::open(&log.0, Format::JsonFile, Some(0)).unwrap();
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
    fn what_was_read_ahead_is_read_again() {
        let log = Log::new("forget");
        log.append("one\ntwo\nthr");
        let mut lines = Records::open(&log.0, Format::JsonFile, None).unwrap();
        assert!(lines.step().unwrap());
        lines.forget().unwrap();
        assert_eq!(all(&mut lines), ["two"]);
        lines.forget().unwrap();
        log.append("ee\n");
        assert_eq!(all(&mut lines), ["three"]);
    }

    #[test]
    fn an_unfinished_line_waits() {
        let log = Log::new("unfinished");
        log.append("one\ntw");
        let mut lines = Records::open(&log.0, Format::JsonFile, None).unwrap();
        assert_eq!(all(&mut lines), ["one"]);
        log.append("o\n");
        assert_eq!(all(&mut lines), ["two"]);
    }
}
