//! A connection to a published port over loopback: bytes between the client's socket and the container's, one piece under
//! way in each direction.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

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

    pub fn is_over(&self) -> bool {
        self.broken || self.up.shut && self.down.shut
    }

    pub fn carry(&mut self, end: End, events: PollFlags, buffer: &mut [u8]) {
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
            result = source_of.pump(socket, other, buffer);
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
    fn pump(&mut self, source: &mut TcpStream, sink: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
        if self.eof {
            return Ok(());
        }
        match source.read(buffer) {
            Ok(0) => {
                self.eof = true;
                self.flush(sink)
            }
            Ok(length) => {
                let written = written(sink.write(&buffer[..length]))?;
                self.pending.extend_from_slice(&buffer[written..length]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
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
