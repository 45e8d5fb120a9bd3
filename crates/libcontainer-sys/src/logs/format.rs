//! The two formats of a log, as the shim writes them (shim/log): where a record ends, where the last ones begin, what is in
//! one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::Deserialize;

const BLOCK: usize = 128 << 10;
/// Length of a length in the local format.
const LENGTH: usize = 4;
/// A longer local record is none: the shim's are 16 KiB, and so are Docker's.
const MAX_RECORD: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    JsonFile,
    Local,
}

/// What a buffer begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Start {
    /// A record from `from` to `to`; the next begins at `end`.
    Record { from: usize, to: usize, end: usize },
    /// Bytes that belong to no record: a write was torn by a full disk or a power cut.
    Junk(usize),
    /// Not all of a record.
    Incomplete,
}

pub enum Time<'a> {
    Text(Cow<'a, str>),
    Nanos(u64),
}

pub struct Record<'a> {
    pub text: Cow<'a, [u8]>,
    pub ends_line: bool,
    pub stream: Cow<'a, str>,
    pub time: Time<'a>,
    pub attrs: BTreeMap<String, String>,
}

impl Format {
    pub fn start(self, buffer: &[u8]) -> Start {
        match self {
            Self::JsonFile => match memchr::memchr(b'\n', buffer) {
                Some(end) => Start::Record { from: 0, to: end, end: end + 1 },
                None => Start::Incomplete,
            },
            Self::Local => local_start(buffer),
        }
    }

    /// Where the last `wanted` records of a file begin, and how many there are (at most `wanted`). Reads backwards; None
    /// where that is not possible, because a write was torn.
    pub fn last(self, file: &File, wanted: u64) -> io::Result<Option<(u64, u64)>> {
        let size = file.metadata()?.len();
        match self {
            _ if wanted == 0 => Ok(Some((size, 0))),
            Self::JsonFile => last_lines(file, size, wanted).map(Some),
            Self::Local => last_frames(file, size, wanted),
        }
    }

    pub fn parse(self, record: &[u8]) -> Option<Record<'_>> {
        match self {
            Self::JsonFile => parse_json(record),
            Self::Local => parse_local(record),
        }
    }
}

fn local_start(buffer: &[u8]) -> Start {
    let Some(length) = buffer.first_chunk::<LENGTH>() else { return Start::Incomplete };
    let to = LENGTH + u32::from_be_bytes(*length) as usize;
    // the first field is always the stream
    let plausible = to > LENGTH && to <= LENGTH + MAX_RECORD && buffer.get(LENGTH).is_none_or(|tag| *tag == 0x0a);
    match buffer.get(to..to + LENGTH) {
        _ if !plausible => Start::Junk(1),
        Some(again) if again == length => Start::Record { from: LENGTH, to, end: to + LENGTH },
        Some(_) => Start::Junk(1),
        None => Start::Incomplete,
    }
}

fn last_lines(file: &File, size: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut end = size;
    let mut newlines = 0u64;
    let mut block = vec![0; BLOCK];
    while end > 0 {
        let size = (BLOCK as u64).min(end);
        let start = end - size;
        let block = &mut block[..size as usize];
        file.read_exact_at(block, start)?;
        for index in memchr::memrchr_iter(b'\n', block) {
            newlines += 1;
            if newlines > wanted {
                return Ok((start + index as u64 + 1, wanted));
            }
        }
        end = start;
    }
    Ok((0, newlines))
}

fn last_frames(file: &File, size: u64, wanted: u64) -> io::Result<Option<(u64, u64)>> {
    const WORD: u64 = LENGTH as u64;
    let (mut at, mut found) = (size, 0);
    // `block` is what the file holds from `start`
    let (mut start, mut block) = (size, Vec::new());
    while found < wanted && at >= WORD {
        if at - WORD < start {
            start = at.saturating_sub(BLOCK as u64);
            block.resize((at - start) as usize, 0);
            file.read_exact_at(&mut block, start)?;
        }
        let Some(length) = block[..(at - start) as usize].last_chunk::<LENGTH>() else { break };
        let length = u64::from(u32::from_be_bytes(*length));
        if length == 0 || length > MAX_RECORD as u64 || length + 2 * WORD > at {
            return Ok(None);
        }
        at -= length + 2 * WORD;
        found += 1;
    }
    Ok(Some((at, found)))
}

#[derive(Deserialize)]
struct JsonRecord<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

fn parse_json(line: &[u8]) -> Option<Record<'_>> {
    parse_plain_json(line).or_else(|| parse_any_json(line))
}

/// Most lines: nothing is escaped but the newline at the end, and there are no attributes.
fn parse_plain_json(line: &[u8]) -> Option<Record<'_>> {
    let rest = line.strip_prefix(b"{\"log\":\"")?;
    let (text, rest) = rest.split_at(memchr::memchr2(b'"', b'\\', rest)?);
    let newline = rest.strip_prefix(b"\\n");
    let rest = newline.unwrap_or(rest).strip_prefix(b"\",\"stream\":\"")?;
    let (stream, rest) = rest.split_at(memchr::memchr2(b'"', b'\\', rest)?);
    let time = rest.strip_prefix(b"\",\"time\":\"")?.strip_suffix(b"\"}")?;
    if memchr::memchr2(b'"', b'\\', time).is_some() {
        return None;
    }
    Some(Record {
        text: Cow::Borrowed(text),
        ends_line: newline.is_some(),
        stream: Cow::Borrowed(std::str::from_utf8(stream).ok()?),
        time: Time::Text(Cow::Borrowed(std::str::from_utf8(time).ok()?)),
        attrs: BTreeMap::new(),
    })
}

fn parse_any_json(line: &[u8]) -> Option<Record<'_>> {
    let JsonRecord { log, stream, time, attrs } = serde_json::from_slice(line).ok()?;
    let text = match log {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    Some(Record { text, ends_line: false, stream, time: Time::Text(time), attrs })
}

fn parse_local(mut message: &[u8]) -> Option<Record<'_>> {
    let (mut stream, mut nanos, mut text, mut partial, mut last): (&[u8], u64, &[u8], bool, bool) =
        (b"", 0, b"", false, false);
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => match (tag >> 3, varint(&mut message)?) {
                (2, value) => nanos = value,
                (4, value) => partial = value != 0,
                _ => {}
            },
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (value, rest) = message.split_at_checked(length)?;
                message = rest;
                match tag >> 3 {
                    1 => stream = value,
                    3 => text = value,
                    // Docker's description of a piece; its first field tells the last of them
                    5 => last = value.starts_with(&[8, 1]),
                    _ => {}
                }
            }
            _ => return None,
        }
    }
    let stream = Cow::Borrowed(std::str::from_utf8(stream).ok()?);
    let text = Cow::Borrowed(text);
    Some(Record { text, ends_line: !partial || last, stream, time: Time::Nanos(nanos), attrs: BTreeMap::new() })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(record: &Record) -> (String, String, String, usize) {
        let mut text = record.text.to_vec();
        if record.ends_line {
            text.push(b'\n');
        }
        let Time::Text(time) = &record.time else { panic!("a time of json-file is text") };
        (String::from_utf8(text).unwrap(), record.stream.to_string(), time.to_string(), record.attrs.len())
    }

    #[test]
    fn both_ways_to_read_a_json_record_agree() {
        let tail = r#","stream":"stdout","time":"2024-05-06T07:08:09.5Z"}"#;
        for text in
            [r#""""#, r#""a\n""#, r#""a\\n""#, r#""a\"b""#, r#""grün""#, r#""\n""#, r#""a\nb\n""#, r#""a","b":"c""#]
        {
            let line = format!("{{\"log\":{text}{tail}");
            let Some(any) = parse_any_json(line.as_bytes()) else { panic!("{line} is JSON") };
            let plain = parse_plain_json(line.as_bytes());
            assert!(plain.is_none_or(|plain| fields(&plain) == fields(&any)), "{line}");
        }
        let line = format!("{{\"log\":\"line\\n\"{tail}");
        assert_eq!(fields(&parse_plain_json(line.as_bytes()).unwrap()).0, "line\n");
        assert!(parse_plain_json(line.replace(",\"time", ",\"attrs\":{},\"time").as_bytes()).is_none());
    }

    #[test]
    fn a_local_record_is_told_from_junk() {
        let record = [&[0, 0, 0, 3, 0x0a, 1, b'x'][..], &[0, 0, 0, 3]].concat();
        assert_eq!(Format::Local.start(&record), Start::Record { from: 4, to: 7, end: 11 });
        for length in 0..record.len() {
            assert_eq!(Format::Local.start(&record[..length]), Start::Incomplete);
        }
        assert_eq!(Format::Local.start(&[0, 0, 0, 0]), Start::Junk(1));
        assert_eq!(Format::Local.start(b"\xff\xff\xff\xff\x0a"), Start::Junk(1));
        assert_eq!(Format::Local.start(&[0, 0, 0, 3, 0x0b]), Start::Junk(1));
        let damaged = [&record[..10], &[4]].concat();
        assert_eq!(Format::Local.start(&damaged), Start::Junk(1));
    }
}
