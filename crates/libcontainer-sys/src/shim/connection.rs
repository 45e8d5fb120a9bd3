//! A connection to a published port over loopback: bytes between the client's socket and the container's, moved by the kernel
//! through a pipe that all connections share. It is empty between two moves: what a sink does not take is read out of it and
//! waits here, one piece in each direction.

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Bytes of one move, and what the pipe holds: a larger one moves as much with fewer calls, and a sink that is stuck keeps up to so much.
const PIECE: usize = 256 * 1024;
/// Moves of one connection before the others' turn.
const MOVES: usize = 4;

pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    pub fn open() -> io::Result<Self> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&into, PIECE)?;
        Ok(Self { out, into })
    }

    /// Moves a piece from one socket to another; gives its length and what of it the sink did not take. None while there is
    /// nothing to move. After an error something may be left in the pipe.
    fn carry(&self, source: &TcpStream, sink: &TcpStream) -> io::Result<Option<(usize, Vec<u8>)>> {
        let length = match splice(source, None, &self.into, None, PIECE, SpliceFlags::NONBLOCK) {
            Err(Errno::AGAIN) => return Ok(None),
            result => result?,
        };
        let mut left = length;
        while left > 0 {
            match splice(&self.out, None, sink, None, left, SpliceFlags::NONBLOCK) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(moved) => left -= moved,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        let mut rest = vec![0; left];
        let mut at = 0;
        while at < left {
            at += rustix::io::read(&self.out, &mut rest[at..])?;
        }
        Ok(Some((length, rest)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Client,
    Server,
}

/// One direction of a connection.
#[derive(Default)]
struct Half {
    pending: Vec<u8>,
    /// Its source has ended.
    eof: bool,
    /// Its sink knows.
    shut: bool,
}

pub struct Connection {
    client: TcpStream,
    server: TcpStream,
    connecting: bool,
    up: Half,
    down: Half,
    broken: bool,
}

impl Connection {
    /// Of a client that has come, to the container, which need not have answered yet.
    pub fn open(client: TcpStream, target: &SocketAddr) -> io::Result<Self> {
        let (server, connecting) = connect(target)?;
        client.set_nonblocking(true)?;
        for stream in [&client, &server] {
            // Whether to wait for more is for the two ends to say.
            let _ = stream.set_nodelay(true);
        }
        let (up, down) = (Half::default(), Half::default());
        Ok(Self { client, server, connecting, up, down, broken: false })
    }

    pub fn interests<'a>(&'a self, mut add: impl FnMut(BorrowedFd<'a>, PollFlags, End)) {
        let Self { client, server, up, down, .. } = self;
        if self.connecting {
            add(server.as_fd(), PollFlags::OUT, End::Server);
            return;
        }
        // Where both directions are over, poll would report a hang-up again and again.
        if !(up.eof && down.shut) {
            add(client.as_fd(), events(up, down), End::Client);
        }
        if !(down.eof && up.shut) {
            add(server.as_fd(), events(down, up), End::Server);
        }
    }

    pub fn break_off(&mut self) {
        self.broken = true;
    }

    pub fn is_broken(&self) -> bool {
        self.broken
    }

    pub fn is_over(&self) -> bool {
        self.broken || self.up.shut && self.down.shut
    }

    pub fn carry(&mut self, end: End, events: PollFlags, pipe: &Pipe) {
        if self.connecting {
            if matches!(self.server.take_error(), Ok(None)) {
                self.connecting = false;
            } else {
                self.broken = true;
            }
            return;
        }
        let Self { client, server, up, down, .. } = self;
        let (socket, other, source_of, sink_of) =
            if end == End::Client { (client, server, up, down) } else { (server, client, down, up) };
        let mut result = Ok(());
        if events.contains(PollFlags::OUT) {
            result = sink_of.flush(socket);
        }
        if result.is_ok() && events.intersects(PollFlags::IN | PollFlags::HUP) && source_of.pending.is_empty() {
            result = source_of.pump(socket, other, pipe);
        }
        if result.is_err() || events.contains(PollFlags::ERR) {
            self.broken = true;
        }
    }
}

/// What a socket is polled for: it is the source of one direction and the sink of the other.
fn events(source_of: &Half, sink_of: &Half) -> PollFlags {
    let mut events = PollFlags::empty();
    events.set(PollFlags::IN, !source_of.eof && source_of.pending.is_empty());
    events.set(PollFlags::OUT, !sink_of.pending.is_empty());
    events
}

impl Half {
    fn pump(&mut self, source: &TcpStream, sink: &mut TcpStream, pipe: &Pipe) -> io::Result<()> {
        for _ in 0..MOVES {
            if self.eof || !self.pending.is_empty() {
                return Ok(());
            }
            match pipe.carry(source, sink)? {
                None => return Ok(()),
                Some((0, _)) => {
                    self.eof = true;
                    return self.flush(sink);
                }
                Some((_, rest)) => self.pending = rest,
            }
        }
        Ok(())
    }

    fn flush(&mut self, sink: &mut TcpStream) -> io::Result<()> {
        while !self.pending.is_empty() {
            match written(sink.write(&self.pending))? {
                0 => return Ok(()),
                length => drop(self.pending.drain(..length)),
            }
        }
        self.pending.shrink_to(0);
        if self.eof && !self.shut {
            self.shut = true;
            // One that has closed already needs no telling.
            let _ = sink.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}

fn written(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

/// A connection under way; true while it is not made yet.
fn connect(target: &SocketAddr) -> io::Result<(TcpStream, bool)> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, target) {
        Ok(()) => Ok((socket.into(), false)),
        Err(rustix::io::Errno::INPROGRESS) => Ok((socket.into(), true)),
        Err(error) => Err(error.into()),
    }
}
