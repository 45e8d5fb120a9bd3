//! One file of a log, plain or compressed, as records.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use flate2::bufread::GzDecoder;

use super::format::{Format, Start};
use crate::shim::log::Identity;

const BLOCK: usize = 128 << 10;

enum Content {
    Plain(File),
    Gzip(Box<GzDecoder<BufReader<File>>>),
}

pub struct Source {
    content: Content,
    /// None of a compressed file that is not ours.
    pub identity: Option<Identity>,
    format: Format,
    buffer: Vec<u8>,
    /// Of `buffer`: the record that was found last, and where the next begins.
    record: Range<usize>,
    taken: usize,
    /// Where `buffer` begins in the (uncompressed) file.
    start: u64,
    /// Records that are not given out.
    skipped: u64,
}

impl Source {
    pub fn plain(path: &Path, format: Format) -> Option<Self> {
        let file = File::open(path).ok()?;
        let identity = Some(Identity::of(&file)?);
        Some(Self::new(Content::Plain(file), identity, format))
    }

    pub fn gzip(path: &Path, format: Format) -> Option<Self> {
        let decoder = GzDecoder::new(BufReader::new(File::open(path).ok()?));
        let identity = decoder.header().and_then(|header| origin(header.extra()?));
        Some(Self::new(Content::Gzip(Box::new(decoder)), identity, format))
    }

    fn new(content: Content, identity: Option<Identity>, format: Format) -> Self {
        Self { content, identity, format, buffer: Vec::new(), record: 0..0, taken: 0, start: 0, skipped: 0 }
    }

    /// Moves to where the last `wanted` records begin and returns how many there are. `again` opens the same file: what
    /// cannot be read backwards is counted first.
    pub fn seek_last(&mut self, wanted: u64, again: impl FnOnce() -> Option<Self>) -> io::Result<u64> {
        if let Content::Plain(file) = &mut self.content
            && let Some((start, found)) = self.format.last(file, wanted)?
        {
            file.seek(SeekFrom::Start(start))?;
            self.start = start;
            return Ok(found);
        }
        let Some(mut counted) = again() else { return Ok(0) };
        let mut count = 0;
        while counted.step()? {
            count += 1;
        }
        self.skipped = count - count.min(wanted);
        Ok(count.min(wanted))
    }

    /// Moves to an offset of the uncompressed file. One behind its end is that of a file which was truncated since: what is
    /// there now begins at its beginning.
    pub fn seek(&mut self, offset: u64) -> io::Result<()> {
        match &mut self.content {
            Content::Plain(file) if file.metadata()?.len() < offset => return Ok(()),
            Content::Plain(file) => _ = file.seek(SeekFrom::Start(offset))?,
            Content::Gzip(decoder) => _ = io::copy(&mut decoder.take(offset), &mut io::sink())?,
        }
        self.start = offset;
        Ok(())
    }

    /// Where the record behind the last one begins.
    pub fn offset(&self) -> u64 {
        self.start + self.taken as u64
    }

    /// Moves to the next record; false when there is no whole one (yet).
    pub fn step(&mut self) -> io::Result<bool> {
        loop {
            match self.format.start(&self.buffer[self.taken..]) {
                Start::Record { from, to, end } => {
                    self.record = self.taken + from..self.taken + to;
                    self.taken += end;
                    if self.skipped == 0 {
                        return Ok(true);
                    }
                    self.skipped -= 1;
                }
                Start::Junk(count) => self.taken += count,
                Start::Incomplete => {
                    self.buffer.drain(..self.taken);
                    self.start += self.taken as u64;
                    self.taken = 0;
                    if !self.fill()? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    pub fn record(&self) -> &[u8] {
        &self.buffer[self.record.clone()]
    }

    /// Reads on; false at the end of the file.
    pub fn fill(&mut self) -> io::Result<bool> {
        let start = self.buffer.len();
        self.buffer.resize(start + BLOCK, 0);
        let got = read(&mut self.content, &mut self.buffer[start..]);
        self.buffer.truncate(start + got.as_ref().map_or(0, |got| *got));
        if got? > 0 {
            return Ok(true);
        }
        if !self.is_truncated()? {
            return Ok(false);
        }
        // somebody has emptied it: what is written now begins at its beginning
        self.buffer.clear();
        self.start = 0;
        if let Content::Plain(file) = &mut self.content {
            file.seek(SeekFrom::Start(0))?;
        }
        self.fill()
    }

    fn is_truncated(&mut self) -> io::Result<bool> {
        let Content::Plain(file) = &mut self.content else { return Ok(false) };
        Ok(file.metadata()?.len() < file.stream_position()?)
    }

    /// Gives back the memory that nothing is waiting in.
    pub fn rest(&mut self) {
        if self.taken == self.buffer.len() {
            self.start += self.taken as u64;
            (self.buffer, self.record, self.taken) = (Vec::new(), 0..0, 0);
        }
    }

    /// Gives back what was read ahead, to be read again, where that can be.
    pub fn forget(&mut self) -> io::Result<()> {
        let offset = self.offset();
        let Content::Plain(file) = &mut self.content else { return Ok(()) };
        self.start = file.seek(SeekFrom::Start(offset))?;
        (self.buffer, self.record, self.taken) = (Vec::new(), 0..0, 0);
        Ok(())
    }
}

fn read(content: &mut Content, buffer: &mut [u8]) -> io::Result<usize> {
    match content {
        Content::Plain(file) => file.read(buffer),
        // what a damaged file still holds is better than none of its log
        Content::Gzip(decoder) => Ok(decoder.read(buffer).unwrap_or(0)),
    }
}

/// The field that the shim puts into the header of a compressed file.
fn origin(extra: &[u8]) -> Option<Identity> {
    Identity::from_header(extra.strip_prefix(b"cn\x10\0")?.try_into().ok()?)
}
