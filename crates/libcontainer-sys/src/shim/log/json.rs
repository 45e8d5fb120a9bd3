//! Records of the json-file format, byte for byte as Docker writes them:
//! `{"log":"…\n","stream":"stdout","attrs":{…},"time":"2024-05-06T07:08:09.123456789Z"}` and a newline.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::StreamName;
use super::encoder::Encoder;
use crate::clock::Clock;

/// Records are copied in pieces of this size, because a call of memcpy costs more than a short record does.
const PIECE: usize = 16;
/// An escaped byte takes six at most: `\u001b`.
const WORST: usize = 6;
/// Holds the longest record.
const LAST: u64 = 256 * 1024;
const HEAD: &[u8; 8] = b"{\"log\":\"";

pub struct JsonFile {
    attrs: Vec<u8>,
    clock: Clock,
    /// `\n","stream":…}` and a newline: what follows the text in each record of this moment, then zeros up to whole pieces.
    tail: Vec<u8>,
    tail_length: usize,
}

impl JsonFile {
    pub fn new(attrs: &BTreeMap<String, String>) -> Self {
        Self { attrs: attributes(attrs), clock: Clock::default(), tail: Vec::new(), tail_length: 0 }
    }
}

impl Encoder for JsonFile {
    fn worst_case(&self, text: usize) -> usize {
        HEAD.len() + WORST * text + self.attrs.len() + 128
    }

    fn begin(&mut self, stream: StreamName, time: Duration) {
        let tail = &mut self.tail;
        tail.clear();
        tail.extend_from_slice(b"\\n\",\"stream\":\"");
        tail.extend_from_slice(stream.name().as_bytes());
        tail.extend_from_slice(b"\",");
        tail.extend_from_slice(&self.attrs);
        tail.extend_from_slice(b"\"time\":\"");
        tail.extend_from_slice(self.clock.format(time));
        tail.extend_from_slice(b"\"}\n");
        self.tail_length = tail.len();
        tail.resize(tail.len() + PIECE, 0);
    }

    fn record(&mut self, text: &[u8], ends_line: bool, out: &mut [u8]) -> usize {
        out[..HEAD.len()].copy_from_slice(HEAD);
        let mut to = HEAD.len() + escape(text, &mut out[HEAD.len()..]);
        let skipped = if ends_line { 0 } else { "\\n".len() };
        let mut from = skipped;
        while from < self.tail_length {
            out[to..to + PIECE].copy_from_slice(&self.tail[from..from + PIECE]);
            from += PIECE;
            to += PIECE;
        }
        to - (from - self.tail_length)
    }

    fn whole(&self, file: &File, size: u64) -> io::Result<u64> {
        let start = size.saturating_sub(LAST);
        let mut last = vec![0; (size - start) as usize];
        file.read_exact_at(&mut last, start)?;
        // a file without a single line end is none of ours
        Ok(memchr::memrchr(b'\n', &last).map_or(size, |end| start + end as u64 + 1))
    }
}

/// 0x80 in each byte up to and including the first that does not stand for itself: control characters, `"`, `\`, `<`, `>`,
/// `&` and what is not ASCII. Behind the first, false alarms are possible.
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero_in = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    // two pairs differ in one bit each: " and &, < and >
    let quote = zero_in((word | (ONES * 0x04)) ^ (ONES * b'&' as u64));
    let angle = zero_in((word | (ONES * 0x02)) ^ (ONES * b'>' as u64));
    let backslash = zero_in(word ^ (ONES * b'\\' as u64));
    (word | control | quote | angle | backslash) & HIGH
}

/// Writes `text` as the inside of a JSON string and returns its length. As Docker's encoder does: `<`, `>`, `&`, U+2028 and
/// U+2029 are escaped, what is no UTF-8 becomes U+FFFD. `out` holds `WORST * text.len()` and eight bytes more.
fn escape(text: &[u8], out: &mut [u8]) -> usize {
    let (mut at, mut to) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        let word = rest.first_chunk::<8>().copied().unwrap_or_else(|| padded(rest));
        out[to..to + 8].copy_from_slice(&word);
        let plain = (special(u64::from_le_bytes(word)).trailing_zeros() as usize / 8).min(rest.len());
        at += plain;
        to += plain;
        if plain < rest.len().min(8) {
            let (taken, written) = escape_one(&text[at..], &mut out[to..]);
            at += taken;
            to += written;
        }
    }
    to
}

/// A word of fewer than eight bytes.
fn padded(rest: &[u8]) -> [u8; 8] {
    let mut word = [b' '; 8];
    for (to, from) in word.iter_mut().zip(rest) {
        *to = *from;
    }
    word
}

/// One character: how many bytes it has, and how many were written.
fn escape_one(text: &[u8], out: &mut [u8]) -> (usize, usize) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let byte = text[0];
    let mut put = |bytes: &[u8]| {
        out[..bytes.len()].copy_from_slice(bytes);
        bytes.len()
    };
    match byte {
        b'"' | b'\\' => (1, put(&[b'\\', byte])),
        b'\n' => (1, put(b"\\n")),
        b'\r' => (1, put(b"\\r")),
        0..0x20 | b'<' | b'>' | b'&' => {
            (1, put(&[b'\\', b'u', b'0', b'0', HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]))
        }
        0x20..0x80 => (1, put(&[byte])),
        _ => match sequence(text) {
            [] => (1, put(b"\\ufffd")),
            [0xe2, 0x80, 0xa8] => (3, put(b"\\u2028")),
            [0xe2, 0x80, 0xa9] => (3, put(b"\\u2029")),
            character => (character.len(), put(character)),
        },
    }
}

/// The valid UTF-8 sequence at the start of `text`, or nothing.
fn sequence(text: &[u8]) -> &[u8] {
    let length = match text[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return &[],
    };
    match text.get(..length) {
        Some(sequence) if std::str::from_utf8(sequence).is_ok() => sequence,
        _ => &[],
    }
}

fn escape_into(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + WORST * text.len() + 8, 0);
    let length = escape(text, &mut out[start..]);
    out.truncate(start + length);
}

/// `"attrs":{…},` or nothing: the same in every record of a container.
pub fn attributes(attrs: &BTreeMap<String, String>) -> Vec<u8> {
    if attrs.is_empty() {
        return Vec::new();
    }
    let mut out = b"\"attrs\":{".to_vec();
    for (index, (key, value)) in attrs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'"');
        escape_into(key.as_bytes(), &mut out);
        out.extend_from_slice(b"\":\"");
        escape_into(value.as_bytes(), &mut out);
        out.push(b'"');
    }
    out.extend_from_slice(b"},");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        escape_into(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_as_docker_does() {
        assert_eq!(escaped(b"a\"b\\c\n\r\t<&>\x7f"), "a\\\"b\\\\c\\n\\r\\u0009\\u003c\\u0026\\u003e\x7f");
        assert_eq!(escaped("grün \u{2028}\u{2029}€ 𝄞".as_bytes()), "grün \\u2028\\u2029€ 𝄞");
        assert_eq!(escaped(b"\xff-\xc3(\xe2\x82"), "\\ufffd-\\ufffd(\\ufffd\\ufffd");
        // overlong, surrogate
        assert_eq!(escaped(b"\xc0\xaf"), "\\ufffd\\ufffd");
        assert_eq!(escaped(b"\xed\xa0\x80"), "\\ufffd\\ufffd\\ufffd");
    }

    #[test]
    fn writes_attributes_once() {
        assert!(attributes(&BTreeMap::new()).is_empty());
        let attrs = BTreeMap::from([("tag".to_owned(), "a<b".to_owned()), ("env".to_owned(), "1".to_owned())]);
        assert_eq!(attributes(&attrs), b"\"attrs\":{\"env\":\"1\",\"tag\":\"a\\u003cb\"},");
    }
}
