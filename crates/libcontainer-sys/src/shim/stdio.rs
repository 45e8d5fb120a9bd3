//! The streams of a container or an exec: one reader for each, which feeds the log and the attached clients.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::client::{Client, Input};
use super::config::ClientConfig;
use super::log::{Log, StreamName};
use crate::failure::{Failure, Kind};

/// Bytes of one read, and so the most that waits for a client: what a pipe holds.
const READ: usize = 64 * 1024;
/// What is taken out of a stream before others have their turn.
const TURN: usize = 1 << 20;
/// A busy stream that gives less than this at once is left alone for `PAUSE`, so that a program that writes line by line
/// neither wakes us nor waits for us at each of them.
const SMALL: usize = 16 * 1024;
const PAUSE: Duration = Duration::from_millis(1);
/// How soon it is looked again whether a client has read the head of its response.
const HEAD_PAUSE: Duration = Duration::from_micros(200);
/// What the pipe of a busy stream is enlarged to: room for what a fast program writes within `PAUSE`, or it would wait.
const BUSY_PIPE: usize = 1 << 20;
/// What is still taken out of a stream when its process has ended, however busy others write to it: what its pipe holds.
const DRAIN: usize = BUSY_PIPE;

struct Output {
    name: StreamName,
    fd: OwnedFd,
    room: Room,
}

/// Whether a stream may be left alone for a while.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Unknown,
    Enough,
    /// It is a terminal, or more is not allowed to the user of the pipe.
    Short,
}

impl Output {
    fn new(name: StreamName, fd: OwnedFd) -> Self {
        Self { name, fd, room: Room::Unknown }
    }

    fn has_room(&mut self) -> bool {
        if self.room == Room::Unknown {
            let enlarged = rustix::pipe::fcntl_setpipe_size(&self.fd, BUSY_PIPE);
            self.room = if enlarged.is_ok() { Room::Enough } else { Room::Short };
        }
        self.room == Room::Enough
    }
}

/// What the process got is described by our ends of it.
pub struct Streams {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// Master of the pty, which then stands in for all three.
    pub console: Option<OwnedFd>,
}

pub struct Stdio {
    outputs: Vec<Output>,
    stdin: Option<OwnedFd>,
    /// Input that the process has not taken yet; while there is some, no client's input is read.
    stdin_pending: Vec<u8>,
    stdin_ends: bool,
    /// Stdin ends with the client that fed it.
    stdin_once: bool,
    console: Option<OwnedFd>,
    clients: Vec<Client>,
    log: Option<Log>,
    /// The stream that was read last, and when.
    last: Option<(StreamName, Instant)>,
    /// A stream that is not waited for until then.
    paused: Option<(StreamName, Instant)>,
}

#[derive(Clone, Copy, Debug)]
pub enum Part {
    Output(usize),
    Stdin,
    Client(usize),
    Log,
}

impl Stdio {
    pub fn new(streams: Streams, stdin_once: bool, log: Option<Log>) -> Result<Self, Failure> {
        let mut outputs = Vec::new();
        let mut stdin = streams.stdin;
        for (name, fd) in [(StreamName::Stdout, streams.stdout), (StreamName::Stderr, streams.stderr)] {
            if let Some(fd) = fd {
                outputs.push(Output::new(name, fd));
            }
        }
        if let Some(console) = &streams.console {
            let duplicate =
                |console: &OwnedFd| console.try_clone().map_err(|error| Failure::io("dup", "console", error));
            outputs.push(Output::new(StreamName::Stdout, duplicate(console)?));
            stdin = Some(duplicate(console)?);
        }
        for fd in outputs.iter().map(|output| &output.fd).chain(&stdin) {
            rustix::io::ioctl_fionbio(fd, true).map_err(|errno| Failure::io("FIONBIO", "stdio", errno))?;
        }
        Ok(Self {
            outputs,
            stdin,
            stdin_pending: Vec::new(),
            stdin_ends: false,
            stdin_once,
            console: streams.console,
            clients: Vec::new(),
            log,
            last: None,
            paused: None,
        })
    }

    pub fn attach(&mut self, fd: OwnedFd, config: &ClientConfig) -> Result<(), Failure> {
        let (mut client, mut early) = Client::new(fd, config, self.console.is_some())?;
        if self.stdin.is_none() {
            client.stdin = false;
        }
        if client.stdin && !early.is_empty() {
            client.filter(&mut early);
            self.stdin_pending.extend_from_slice(&early);
            self.feed_stdin();
        }
        self.clients.push(client);
        Ok(())
    }

    pub fn resize(&self, width: u16, height: u16) -> Result<(), Failure> {
        let Some(console) = &self.console else {
            return Err(Failure::new(Kind::Conflict, "resize", "cannot resize: the process has no terminal"));
        };
        let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(console, size).map_err(|errno| Failure::io("TIOCSWINSZ", "console", errno))
    }

    /// Names what is to be waited for.
    pub fn interests<'a>(&'a self, mut add: impl FnMut(BorrowedFd<'a>, PollFlags, Part)) {
        for (index, output) in self.outputs.iter().enumerate() {
            if !self.paused.is_some_and(|(name, _)| name == output.name)
                && !self.clients.iter().any(|client| client.wants(output.name) && client.is_full())
            {
                add(output.fd.as_fd(), PollFlags::IN, Part::Output(index));
            }
        }
        if let Some(stdin) = &self.stdin
            && self.console.is_none()
        {
            let events = if self.stdin_pending.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            add(stdin.as_fd(), events, Part::Stdin);
        } else if let Some(stdin) = &self.stdin
            && !self.stdin_pending.is_empty()
        {
            add(stdin.as_fd(), PollFlags::OUT, Part::Stdin);
        }
        for (index, client) in self.clients.iter().enumerate() {
            add(client.fd(), client.events(self.accepts_input()), Part::Client(index));
        }
        if let Some(fd) = self.log.as_ref().and_then(Log::waits) {
            add(fd, PollFlags::OUT, Part::Log);
        }
    }

    fn accepts_input(&self) -> bool {
        self.stdin.is_some() && self.stdin_pending.is_empty()
    }

    /// Answers one event of poll; true when a client typed its detach keys.
    pub fn handle(&mut self, part: Part, events: PollFlags, buffer: &mut Vec<u8>) -> bool {
        match part {
            Part::Output(index) => {
                self.take_output(index, buffer);
                false
            }
            Part::Stdin => {
                if events.intersects(PollFlags::ERR | PollFlags::HUP) && !events.contains(PollFlags::OUT)
                    || events.contains(PollFlags::ERR)
                {
                    self.close_stdin();
                } else {
                    self.feed_stdin();
                }
                false
            }
            Part::Client(index) => self.handle_client(index, events, buffer),
            Part::Log => {
                if let Some(log) = &mut self.log {
                    log.flush();
                }
                false
            }
        }
    }

    fn handle_client(&mut self, index: usize, events: PollFlags, buffer: &mut Vec<u8>) -> bool {
        let accepts = self.accepts_input();
        let client = &mut self.clients[index];
        if events.contains(PollFlags::OUT) {
            client.flush();
        }
        let mut detached = false;
        if events.contains(PollFlags::IN) && client.stdin && accepts {
            match client.input(buffer, READ) {
                Input::Data => self.take_input(buffer),
                Input::Detached => {
                    self.take_input(buffer);
                    detached = true;
                }
                Input::End => self.input_ended(),
                Input::Nothing => {}
            }
        } else if events.intersects(PollFlags::HUP | PollFlags::ERR) {
            let fed = client.stdin;
            client.gone = true;
            if fed {
                self.input_ended();
            }
        }
        detached
    }

    fn take_input(&mut self, data: &[u8]) {
        self.stdin_pending.extend_from_slice(data);
        self.feed_stdin();
    }

    fn input_ended(&mut self) {
        // A terminal has no half: its end is a character that the user types.
        if self.stdin_once && self.console.is_none() {
            self.stdin_ends = true;
            self.feed_stdin();
        }
    }

    fn feed_stdin(&mut self) {
        let Some(stdin) = &self.stdin else {
            self.stdin_pending = Vec::new();
            return;
        };
        while !self.stdin_pending.is_empty() {
            match rustix::io::retry_on_intr(|| rustix::io::write(stdin, &self.stdin_pending)) {
                Ok(count) => drop(self.stdin_pending.drain(..count)),
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.close_stdin();
                    return;
                }
            }
        }
        self.stdin_pending.shrink_to(0);
        if self.stdin_ends {
            self.close_stdin();
        }
    }

    fn close_stdin(&mut self) {
        self.stdin = None;
        self.stdin_pending = Vec::new();
        for client in &mut self.clients {
            client.stdin = false;
        }
    }

    /// How long the loop may wait before it asks again for `interests`.
    pub fn pause(&mut self) -> Option<Duration> {
        let unread = self.clients.iter_mut().any(Client::head_is_unread);
        [self.left(), unread.then_some(HEAD_PAUSE)].into_iter().flatten().min()
    }

    fn left(&mut self) -> Option<Duration> {
        let (_, until) = self.paused?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.paused = None;
        }
        Some(left)
    }

    /// Takes what a stream has, up to `TURN`.
    fn take_output(&mut self, index: usize, buffer: &mut Vec<u8>) {
        let Some(name) = self.outputs.get(index).map(|output| output.name) else { return };
        // What another stream was paused with was written before.
        if let Some((paused, _)) = self.paused.take()
            && paused != name
            && let Some(other) = self.outputs.iter().position(|output| output.name == paused)
        {
            self.read_output(other, buffer);
        }
        let Some(index) = self.outputs.iter().position(|output| output.name == name) else { return };
        let mut total = 0;
        loop {
            let count = self.read_output(index, buffer);
            total += count;
            let waits = self.clients.iter().any(|client| client.wants(name) && client.is_full());
            if count < READ || waits || total >= TURN {
                break;
            }
        }
        if let Some(log) = &mut self.log {
            log.flush();
        }
        self.pace(name, total);
    }

    fn pace(&mut self, name: StreamName, total: usize) {
        let now = Instant::now();
        let busy = self.last.is_some_and(|(last, then)| last == name && now.duration_since(then) < 2 * PAUSE);
        self.last = Some((name, now));
        // An attached client may answer what it reads: it must not wait.
        if busy
            && total < SMALL
            && self.log.is_some()
            && self.clients.is_empty()
            && self.outputs.iter_mut().any(|output| output.name == name && output.has_room())
        {
            self.paused = Some((name, now + PAUSE));
        }
    }

    /// One read of a stream, given to the log and to each client. The stream is closed at its end.
    fn read_output(&mut self, index: usize, buffer: &mut Vec<u8>) -> usize {
        let Some(output) = self.outputs.get(index) else { return 0 };
        if buffer.capacity() < READ {
            // zeroed by the kernel, page by page when they are used
            *buffer = vec![0; READ];
        }
        buffer.resize(READ, 0);
        match rustix::io::retry_on_intr(|| rustix::io::read(&output.fd, &mut buffer[..])) {
            Ok(count @ 1..) => {
                let name = output.name;
                if let Some(log) = &mut self.log {
                    log.write(name, &buffer[..count]);
                }
                for client in self.clients.iter_mut().filter(|client| client.wants(name)) {
                    client.output(name, &buffer[..count]);
                }
                count
            }
            Err(Errno::AGAIN) => 0,
            // A pty's master gives EIO once its other side is closed.
            Ok(0) | Err(_) => {
                let output = self.outputs.swap_remove(index);
                if let Some(log) = &mut self.log {
                    log.end(output.name);
                }
                0
            }
        }
    }

    /// Gives back the memory that only busy streams need.
    pub fn rest(&mut self) {
        if let Some(log) = &mut self.log {
            log.rest();
        }
    }

    /// The process has ended: takes what its streams still hold and closes them, also when a process that it left behind
    /// holds them open.
    pub fn drain(&mut self, buffer: &mut Vec<u8>) {
        for index in (0..self.outputs.len()).rev() {
            let mut total = 0;
            while total < DRAIN {
                match self.read_output(index, buffer) {
                    0 => break,
                    count => total += count,
                }
            }
        }
        for output in std::mem::take(&mut self.outputs) {
            if let Some(log) = &mut self.log {
                log.end(output.name);
            }
        }
        if let Some(log) = self.log.take() {
            log.close();
        }
        self.close_stdin();
        self.console = None;
    }

    /// Lets the clients have what is pending, then ends them.
    pub fn close_clients(&mut self) {
        for client in &mut self.clients {
            client.close();
        }
        self.sweep();
    }

    /// Forgets clients that have gone. Between two rounds of poll: a `Part` holds an index.
    pub fn sweep(&mut self) {
        self.clients.retain(|client| !client.gone);
    }

    pub fn has_clients(&self) -> bool {
        !self.clients.is_empty()
    }
}
