//! Records with their places, for one who forwards a log and must be able to go on behind the last that has arrived.

use std::path::Path;

use super::LogRequest;
use super::files::{Position, Records};
use super::format::Record;
use super::record::nanoseconds;
use crate::failure::{Context, Result};

/// A log from where its forwarding has come to.
pub fn open(request: &LogRequest, behind: Option<&str>) -> Result<Records> {
    let path = Path::new(&request.path);
    match behind.and_then(parse) {
        Some(position) => Records::open_behind(path, request.driver, position),
        None => Records::open(path, request.driver, None),
    }
    .context("open log", &request.path)
}

fn parse(digits: &str) -> Option<Position> {
    let byte = |index: usize| u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok();
    let bytes: Vec<u8> = (0..Position::LENGTH).map_while(byte).collect();
    Some(Position::from_bytes(bytes.try_into().ok()?))
}

/// Appends one frame (numbers are little-endian):
///
/// ```text
/// u32 length of the text   u8 1 stdout, 2 stderr   u8 1 when it ends a line   u64 nanoseconds since the epoch
/// 24 bytes: the position behind it; zeros where it has none   the text, without its newline
/// ```
pub fn frame(record: &Record, position: Option<Position>, out: &mut Vec<u8>) {
    let time = nanoseconds(&record.time).and_then(|time| u64::try_from(time).ok()).unwrap_or(0);
    out.extend_from_slice(&(record.text.len() as u32).to_le_bytes());
    out.extend_from_slice(&[if record.stream == "stderr" { 2 } else { 1 }, u8::from(record.ends_line)]);
    out.extend_from_slice(&time.to_le_bytes());
    out.extend_from_slice(&position.map_or([0; Position::LENGTH], Position::to_bytes));
    out.extend_from_slice(&record.text);
}
