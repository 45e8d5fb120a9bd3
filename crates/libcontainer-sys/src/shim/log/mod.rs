//! A container's log: written by the shim itself, or with `mode=non-blocking` by a process of its own.
//!
//! ```text
//! writer    lines to batches of records     encoder: json, local
//! file      where they go: rotation, compress
//! queue     to the writer in another process
//! ```

mod compress;
mod encoder;
mod file;
mod identity;
mod json;
mod local;
mod queue;
mod writer;

use std::io;
use std::os::fd::BorrowedFd;

use super::config::LogConfig;
#[cfg(test)]
pub use compress::compress_all;
#[cfg(feature = "layer")]
pub use identity::Identity;
use queue::Queue;
pub use writer::LogWriter;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamName {
    Stdout,
    Stderr,
}

impl StreamName {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// First byte of Docker's frame header.
    pub fn frame(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }
}

/// What takes the container's output.
pub enum Log {
    Written(LogWriter),
    Queued(Queue),
}

impl Log {
    /// `None` when this container has no log.
    pub fn open(config: &LogConfig) -> io::Result<Option<Self>> {
        let Some(writer) = LogWriter::open(config)? else { return Ok(None) };
        match config.max_buffer_bytes {
            None => Ok(Some(Self::Written(writer))),
            Some(size) => Queue::start(writer, size as usize).map(|queue| Some(Self::Queued(queue))),
        }
    }

    /// What was read in one go.
    pub fn write(&mut self, stream: StreamName, data: &[u8]) {
        match self {
            Self::Written(writer) => writer.write(stream, data),
            Self::Queued(queue) => queue.write(stream, data),
        }
    }

    /// Nothing more is there at the moment.
    pub fn flush(&mut self) {
        match self {
            Self::Written(writer) => writer.flush(),
            Self::Queued(queue) => queue.flush(),
        }
    }

    pub fn end(&mut self, stream: StreamName) {
        match self {
            Self::Written(writer) => writer.end(stream),
            Self::Queued(queue) => queue.end(stream),
        }
    }

    /// No stream writes any more: what is queued is written, as far as that is possible in time.
    pub fn close(self) {
        match self {
            Self::Written(mut writer) => writer.finish(),
            Self::Queued(queue) => queue.close(),
        }
    }

    /// Gives back the memory that only a busy log needs.
    pub fn rest(&mut self) {
        if let Self::Written(writer) = self {
            writer.rest();
        }
    }

    /// To be waited for until it can be written: then comes `flush`.
    pub fn waits(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Written(_) => None,
            Self::Queued(queue) => queue.waits(),
        }
    }
}
