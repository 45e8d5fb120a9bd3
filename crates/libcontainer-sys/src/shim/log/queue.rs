//! The log of `mode=non-blocking`: a process of its own writes it, so that a disk that hangs holds up neither the container
//! nor its other streams. What waits for it is limited; more is dropped, and a record says how much.
//!
//! ```text
//! frame over a pipe     kind (u8), length (u32), bytes      shim → writer
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::StreamName;
use super::writer::LogWriter;
use crate::sys::clone::{Cloned, clone3, exit_now};
use crate::sys::exec::close_all_but;

const DATA: u8 = 0;
const END: u8 = 2;
/// Bytes were left out here.
const GAP: u8 = 4;
const HEADER: usize = 5;
/// What the writer reads at once; more than a frame.
const READ: usize = 128 * 1024;
/// How long the end of the container waits for its log.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// How long the writer keeps its buffers.
const WARM: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

pub struct Queue {
    pipe: OwnedFd,
    writer: OwnedFd,
    pending: Vec<u8>,
    /// Of `pending`: what the pipe has taken.
    sent: usize,
    limit: usize,
    /// Bytes left out of each stream and not told yet.
    dropped: [u64; 2],
}

impl Queue {
    /// The caller must be single-threaded, as for every clone.
    pub fn start(writer: LogWriter, limit: usize) -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        match clone3(0, None)? {
            Cloned::Child => {
                let mut kept = vec![read.as_raw_fd()];
                kept.extend(writer.descriptor());
                // What the shim holds would stay open with us, this pipe as well, whose end is our end.
                if close_all_but(&kept).is_ok() {
                    let _ = rustix::thread::set_name(c"caisson-log");
                    run(&read, writer);
                }
                exit_now(0);
            }
            Cloned::Parent { pidfd, .. } => {
                rustix::io::ioctl_fionbio(&write, true)?;
                let pending = Vec::new();
                Ok(Self { pipe: write, writer: pidfd, pending, sent: 0, limit, dropped: [0; 2] })
            }
        }
    }

    pub fn write(&mut self, stream: StreamName, mut data: &[u8]) {
        let dropped = self.dropped[stream as usize];
        if dropped > 0 {
            // The rest of a line that was begun in the gap belongs to it.
            let rest = memchr::memchr(b'\n', data).map_or(data.len(), |end| end + 1);
            self.dropped[stream as usize] += rest as u64;
            data = &data[rest..];
        }
        if data.is_empty() {
            return;
        }
        let waiting = self.pending.len() - self.sent;
        if waiting > 0 && waiting + data.len() > self.limit {
            self.dropped[stream as usize] += data.len() as u64;
            return;
        }
        self.tell_gap(stream);
        self.push(DATA | stream as u8, data);
        self.flush();
    }

    pub fn end(&mut self, stream: StreamName) {
        self.tell_gap(stream);
        self.push(END | stream as u8, &[]);
        self.flush();
    }

    fn tell_gap(&mut self, stream: StreamName) {
        let dropped = std::mem::take(&mut self.dropped[stream as usize]);
        if dropped > 0 {
            self.push(GAP | stream as u8, &dropped.to_le_bytes());
        }
    }

    fn push(&mut self, kind: u8, data: &[u8]) {
        self.pending.push(kind);
        self.pending.extend_from_slice(&(data.len() as u32).to_le_bytes());
        self.pending.extend_from_slice(data);
    }

    /// Gives the pipe what it takes.
    pub fn flush(&mut self) {
        while self.sent < self.pending.len() {
            match rustix::io::retry_on_intr(|| rustix::io::write(&self.pipe, &self.pending[self.sent..])) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => {
                    // not at each write: moving what remains costs more than the room it frees
                    if self.sent > self.limit / 2 {
                        self.pending.drain(..self.sent);
                        self.sent = 0;
                    }
                    return;
                }
                // The writer was killed: the container goes on without a log.
                Err(_) => break,
            }
        }
        self.pending = Vec::new();
        self.sent = 0;
    }

    pub fn waits(&self) -> Option<BorrowedFd<'_>> {
        (!self.pending.is_empty()).then(|| self.pipe.as_fd())
    }

    pub fn close(mut self) {
        let deadline = Instant::now() + CLOSE_TIME;
        while !self.pending.is_empty() && wait(self.pipe.as_fd(), PollFlags::OUT, deadline) {
            self.flush();
        }
        if !self.pending.is_empty() {
            self.hand_over();
        }
        drop(self.pipe);
        wait(self.writer.as_fd(), PollFlags::IN, deadline);
    }

    /// The container's end waits no longer: a process of its own carries to the writer what is left.
    fn hand_over(&self) {
        if let Ok(Cloned::Child) = clone3(0, None) {
            if close_all_but(&[self.pipe.as_raw_fd()]).is_ok() && rustix::io::ioctl_fionbio(&self.pipe, false).is_ok() {
                let mut rest = &self.pending[self.sent..];
                while let Ok(count @ 1..) = rustix::io::retry_on_intr(|| rustix::io::write(&self.pipe, rest)) {
                    rest = &rest[count..];
                }
            }
            exit_now(0);
        }
    }
}

fn wait(fd: BorrowedFd, events: PollFlags, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
    poll(&mut [PollFd::from_borrowed_fd(fd, events)], Some(&left)).is_ok_and(|ready| ready > 0)
}

/// The writer's whole life, until the shim closes the pipe or has died.
fn run(pipe: &OwnedFd, mut writer: LogWriter) {
    let mut buffer = vec![0; READ];
    let mut filled = 0;
    loop {
        let ready = poll(&mut [PollFd::new(pipe, PollFlags::IN)], (!buffer.is_empty()).then_some(&WARM));
        if ready == Ok(0) && filled == 0 {
            writer.rest();
            buffer = Vec::new();
            continue;
        }
        if buffer.is_empty() {
            buffer = vec![0; READ];
        }
        match rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut buffer[filled..])) {
            Ok(count @ 1..) => filled += count,
            Ok(0) | Err(_) => break,
        }
        let taken = take_frames(&buffer[..filled], &mut writer);
        buffer.copy_within(taken..filled, 0);
        filled -= taken;
        writer.flush();
    }
    writer.end(StreamName::Stdout);
    writer.end(StreamName::Stderr);
    writer.finish();
}

/// Returns how many bytes were whole frames.
fn take_frames(buffer: &[u8], writer: &mut LogWriter) -> usize {
    let mut taken = 0;
    while let Some(([kind, length @ ..], rest)) = buffer[taken..].split_first_chunk::<HEADER>() {
        let Some(data) = rest.get(..u32::from_le_bytes(*length) as usize) else { break };
        let stream = if kind & 1 == 0 { StreamName::Stdout } else { StreamName::Stderr };
        match (kind & !1, data.first_chunk()) {
            (GAP, Some(count)) => writer.gap(stream, u64::from_le_bytes(*count)),
            (END, _) => writer.end(stream),
            _ => writer.write(stream, data),
        }
        taken += HEADER + data.len();
    }
    taken
}
