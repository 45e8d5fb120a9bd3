//! Records of the local format, framed as Docker's: the length, a protobuf message, the length again, so that a file is read
//! from its end as well.
//!
//! ```text
//! u32 (big-endian)   1: stream   2: nanoseconds since the epoch   3: text   4: 1 when it does not end a line   u32
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::StreamName;
use super::encoder::Encoder;

const STREAM: u8 = 1 << 3 | 2;
const TIME: u8 = 2 << 3;
const TEXT: u8 = 3 << 3 | 2;
const PARTIAL: [u8; 2] = [4 << 3, 1];
const LENGTH: usize = 4;

#[derive(Default)]
pub struct Local {
    /// The fields that all records of this moment begin with.
    head: Vec<u8>,
}

impl Encoder for Local {
    fn worst_case(&self, text: usize) -> usize {
        text + self.head.len() + 64
    }

    fn begin(&mut self, stream: StreamName, time: Duration) {
        let name = stream.name().as_bytes();
        self.head.clear();
        self.head.extend_from_slice(&[STREAM, name.len() as u8]);
        self.head.extend_from_slice(name);
        self.head.push(TIME);
        varint(time.as_nanos() as u64, &mut self.head);
        self.head.push(TEXT);
    }

    fn record(&mut self, text: &[u8], ends_line: bool, out: &mut [u8]) -> usize {
        let mut to = LENGTH;
        let mut put = |bytes: &[u8]| {
            out[to..to + bytes.len()].copy_from_slice(bytes);
            to += bytes.len();
        };
        put(&self.head);
        let mut length = text.len() as u32;
        while length >= 0x80 {
            put(&[length as u8 | 0x80]);
            length >>= 7;
        }
        put(&[length as u8]);
        put(text);
        if !ends_line {
            put(&PARTIAL);
        }
        let length = ((to - LENGTH) as u32).to_be_bytes();
        out[..LENGTH].copy_from_slice(&length);
        out[to..to + LENGTH].copy_from_slice(&length);
        to + LENGTH
    }

    fn whole(&self, file: &File, size: u64) -> io::Result<u64> {
        let word = |at: u64| {
            let mut bytes = [0; LENGTH];
            file.read_exact_at(&mut bytes, at).map(|()| u64::from(u32::from_be_bytes(bytes)))
        };
        const AROUND: u64 = 2 * LENGTH as u64;
        if size >= AROUND {
            let length = word(size - LENGTH as u64)?;
            if length > 0 && length + AROUND <= size && word(size - length - AROUND)? == length {
                return Ok(size);
            }
        }
        // torn: the records one after the other from the beginning
        let mut at = 0;
        while at + AROUND < size {
            let length = word(at)?;
            let end = at + AROUND + length;
            if length == 0 || end > size || word(end - LENGTH as u64)? != length {
                break;
            }
            at = end;
        }
        Ok(at)
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
