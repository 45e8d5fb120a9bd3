//! The channels between the stages: bounded, with an explicit end, so that a stage that died is never taken for the end
//! of the data.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of a buffer of inflated data; four are in flight per layer.
pub(super) const BUFFER: usize = 256 * 1024;
const IN_FLIGHT: usize = 4;

/// `bytes[..len]` counts. Buffers go back to the sender and are used again.
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) len: usize,
}

pub(super) struct ChunkSender {
    data: SyncSender<Option<Chunk>>,
    empty: Receiver<Vec<u8>>,
}

pub(super) struct ChunkReader {
    data: Receiver<Option<Chunk>>,
    empty: SyncSender<Vec<u8>>,
    cancelled: Arc<AtomicBool>,
    current: Chunk,
    position: usize,
    ended: bool,
    read: u64,
}

/// The peer went away or the work was cancelled; whoever went has the reason.
pub(super) struct Gone;

pub(super) fn channel(cancelled: Arc<AtomicBool>) -> (ChunkSender, ChunkReader) {
    let (data_in, data_out) = sync_channel(IN_FLIGHT);
    let (empty_in, empty_out) = sync_channel(IN_FLIGHT + 2);
    let reader = ChunkReader {
        data: data_out,
        empty: empty_in,
        cancelled,
        current: Chunk { bytes: Vec::new(), len: 0 },
        position: 0,
        ended: false,
        read: 0,
    };
    (ChunkSender { data: data_in, empty: empty_out }, reader)
}

impl ChunkSender {
    /// A used buffer if one has come back, else a new one of `BUFFER` bytes.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.empty.try_recv().unwrap_or_else(|_| vec![0; BUFFER])
    }

    pub(super) fn send(&self, bytes: Vec<u8>, len: usize) -> Result<(), Gone> {
        self.data.send(Some(Chunk { bytes, len })).map_err(|_| Gone)
    }

    /// Says that all has been sent. Without it the reader ends with an error.
    pub(super) fn end(self) -> Result<(), Gone> {
        self.data.send(None).map_err(|_| Gone)
    }
}

impl ChunkReader {
    /// The first bytes, up to `count`, without consuming them. For the start of the stream.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        let mut head = self.fill_buf()?.to_vec();
        while head.len() < count && !self.ended {
            self.position = self.current.len;
            head.extend_from_slice(self.fill_buf()?);
        }
        let len = head.len();
        self.current = Chunk { bytes: head, len };
        self.position = 0;
        Ok(&self.current.bytes[..len.min(count)])
    }

    /// Bytes consumed so far.
    pub(super) fn position(&self) -> u64 {
        self.read
    }
}

/// The error that a reader gives when its peer is gone; `is_gone` knows it again behind a decoder.
fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::BrokenPipe)
}

pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.current.len && !self.ended {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(gone());
            }
            match self.data.recv() {
                Ok(Some(chunk)) => {
                    let used = std::mem::replace(&mut self.current, chunk);
                    self.position = 0;
                    // Only buffers of the standard size are worth keeping.
                    if used.bytes.len() == BUFFER {
                        let _ = self.empty.try_send(used.bytes);
                    }
                }
                Ok(None) => self.ended = true,
                Err(_) => return Err(gone()),
            }
        }
        Ok(&self.current.bytes[self.position..self.current.len])
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
        self.read += amount as u64;
    }
}

impl Read for ChunkReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(out.len());
        out[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}
