//! What differs between the log drivers: how a line becomes a record.

use std::fs::File;
use std::io;
use std::time::Duration;

use super::StreamName;

pub trait Encoder {
    /// The room that the record of a text of this length takes at most; a record may be written in pieces that reach beyond
    /// its end.
    fn worst_case(&self, text: usize) -> usize;

    /// The records that follow are of this stream and time.
    fn begin(&mut self, stream: StreamName, time: Duration);

    /// Writes the record of `text` to the start of `out` and returns its length. `text` is without its newline; a piece of
    /// a long line, or a last line without a newline, does not end one.
    fn record(&mut self, text: &[u8], ends_line: bool, out: &mut [u8]) -> usize;

    /// Length of the whole records of a file of `size` bytes: a power cut may have torn the last one.
    fn whole(&self, file: &File, size: u64) -> io::Result<u64>;
}
