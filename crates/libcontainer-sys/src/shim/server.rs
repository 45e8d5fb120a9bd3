//! The poll loop: children, streams, clients and the daemon's messages, one after the other.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::accept;
use super::config::{AckConfig, ClientConfig, ContainerConfig, ExecConfig, PortSocket, ResizeConfig, SignalConfig};
use super::container::Container;
use super::exec::{ACK_TIME, Caller, Ended, ExecPart, Execs, LINGER};
use super::exit::ExitStatus;
use super::ports::{PortPart, Ports};
use super::process::SpawnedContainer;
use super::protocol::{self, Request};
use super::stdio::{Part, Stdio};
use crate::failure::{Failure, Kind};
use crate::sys::{signal, signalfd};

/// How long the buffers are kept after their last use.
const WARM: Duration = Duration::from_secs(1);

pub struct Server {
    config: ContainerConfig,
    container: Box<dyn Container>,
    names: SpawnedContainer,
    stdio: Stdio,
    execs: Execs,
    signals: OwnedFd,
    listener: OwnedFd,
    /// Connections of the daemon; the first is the bootstrap socket for as long as it is open.
    peers: Vec<Option<OwnedFd>>,
    ports: Ports,
    /// Readable when the container's group was out of memory.
    oom: Option<OwnedFd>,
    /// Kills that were told already.
    oom_kills: u64,
    started: bool,
    exit: Option<(ExitStatus, Ended)>,
    /// Empty while nothing happens.
    buffer: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Token {
    Signals,
    Listener,
    Peer(usize),
    Oom,
    Stdio(Part),
    Exec(ExecPart),
    Port(PortPart),
}

pub struct Parts {
    pub config: ContainerConfig,
    pub container: Box<dyn Container>,
    pub names: SpawnedContainer,
    pub stdio: Stdio,
    pub signals: OwnedFd,
    pub listener: OwnedFd,
    pub ports: Ports,
    /// The bootstrap socket.
    pub peers: Vec<Option<OwnedFd>>,
}

impl Server {
    pub fn new(parts: Parts) -> Self {
        let oom = parts.container.cgroup().oom_event().ok().flatten();
        Self {
            config: parts.config,
            container: parts.container,
            names: parts.names,
            stdio: parts.stdio,
            execs: Execs::default(),
            signals: parts.signals,
            listener: parts.listener,
            peers: parts.peers,
            ports: parts.ports,
            oom,
            oom_kills: 0,
            started: false,
            exit: None,
            buffer: Vec::new(),
        }
    }

    /// Tells the daemon how building the container went.
    pub fn report_build(&self, result: &Result<Value, Failure>) {
        for peer in self.peers.iter().flatten() {
            // When it is gone, the loop sees that next.
            let _ = protocol::send(peer.as_fd(), &protocol::answer(protocol::BUILD, result), &[]);
        }
    }

    /// Until the container has ended and everybody knows it, or until the daemon has gone before `start`.
    pub fn run(mut self) {
        loop {
            if !self.started && self.peers.iter().all(Option::is_none) {
                self.container.abort();
                return;
            }
            self.finish_execs();
            if self.finished() {
                self.container.remove();
                return;
            }
            let ready = self.wait();
            for (token, events) in ready {
                self.handle(token, events);
            }
            self.stdio.sweep();
            self.execs.advance();
            self.execs.sweep();
            self.ports.sweep();
            self.peers.retain(Option::is_some);
        }
    }

    fn wait(&mut self) -> Vec<(Token, PollFlags)> {
        let timeout = self.timeout();
        let ready = self.poll(timeout);
        if ready.is_empty() && timeout.is_some_and(|timeout| timeout >= WARM) {
            self.buffer = Vec::new();
            self.stdio.rest();
        }
        ready
    }

    fn timeout(&mut self) -> Option<Duration> {
        let waiting = self.exit.is_some() || self.execs.has_deadlines();
        let warm = (self.buffer.capacity() > 0).then_some(WARM);
        [self.stdio.pause(), self.execs.pause(), waiting.then_some(Duration::from_millis(250)), warm]
            .into_iter()
            .flatten()
            .min()
    }

    fn poll(&self, timeout: Option<Duration>) -> Vec<(Token, PollFlags)> {
        let mut tokens = vec![Token::Signals, Token::Listener];
        let mut polled = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        ];
        let mut add = |fd, events, token| {
            tokens.push(token);
            polled.push(PollFd::from_borrowed_fd(fd, events));
        };
        for (index, peer) in self.peers.iter().enumerate() {
            if let Some(peer) = peer {
                add(peer.as_fd(), PollFlags::IN, Token::Peer(index));
            }
        }
        if let Some(oom) = &self.oom {
            add(oom.as_fd(), PollFlags::IN, Token::Oom);
        }
        self.stdio.interests(|fd, events, part| add(fd, events, Token::Stdio(part)));
        self.execs.interests(|fd, events, part| add(fd, events, Token::Exec(part)));
        if self.started {
            self.ports.interests(|fd, events, part| add(fd, events, Token::Port(part)));
        }
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        if rustix::event::poll(&mut polled, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        let ready = tokens.into_iter().zip(&polled).filter(|(_, fd)| !fd.revents().is_empty());
        ready.map(|(token, fd)| (token, fd.revents())).collect()
    }

    fn handle(&mut self, token: Token, events: PollFlags) {
        match token {
            Token::Signals => {
                signalfd::drain(&self.signals);
                self.reap();
            }
            Token::Listener => self.accept(),
            Token::Peer(index) => self.receive(index),
            Token::Oom => self.out_of_memory(),
            Token::Stdio(part) => {
                if self.stdio.handle(part, events, &mut self.buffer) {
                    self.broadcast("detached", &json!({}));
                }
            }
            Token::Port(part) => self.ports.handle(part, events, &mut self.buffer),
            Token::Exec(part) => {
                if let Some(id) = self.execs.handle(part, events, &mut self.buffer) {
                    let body = json!({ "execId": id });
                    self.broadcast("detached", &body);
                }
            }
        }
    }

    // ------------------------------------------------------------------------------------------------------ children

    /// Collects every child that has ended: init, execs, and what they left to us as their subreaper.
    fn reap(&mut self) {
        while let Some((pid, status)) = signal::reap_any() {
            let (code, signal) = signal::exit_code(status);
            if pid == self.names.init_pid {
                self.init_ended(code, signal);
                continue;
            }
            for body in self.execs.ended(pid, code, &mut self.buffer) {
                self.broadcast("execExit", &body);
            }
        }
    }

    fn init_ended(&mut self, code: i32, signal: Option<i32>) {
        self.stdio.drain(&mut self.buffer);
        let status = ExitStatus::now(code, signal, self.container.cgroup().oom_kills() > 0);
        if let Err(error) = status.write(&self.config.state_dir) {
            eprintln!("exit.json of {}: {error}", self.config.id);
        }
        self.broadcast("exit", &json!(status));
        self.exit = Some((status, Ended::now(code)));
        // Nobody answers there any more, and the next container may have the ports.
        self.ports = Ports::default();
        // Execs of a container with the host's pids outlive its init.
        let _ = self.container.cgroup().kill(libc::SIGKILL);
    }

    /// Closes the clients of processes whose end the daemon knows, and forgets the execs.
    fn finish_execs(&mut self) {
        let daemon = self.peers.iter().any(Option::is_some);
        let settled = |ended: &Ended| ended.acknowledged || !daemon || ended.since.elapsed() >= ACK_TIME;
        if let Some((_, ended)) = &self.exit
            && settled(ended)
        {
            self.stdio.close_clients();
        }
        self.execs.finish(settled, self.exit.is_some());
    }

    fn finished(&self) -> bool {
        let Some((_, ended)) = &self.exit else { return false };
        let daemon = self.peers.iter().any(Option::is_some);
        let told = ended.acknowledged || !daemon || ended.since.elapsed() >= ACK_TIME;
        let served = !self.stdio.has_clients() && !self.execs.has_clients();
        told && (served || ended.since.elapsed() >= LINGER)
    }

    fn out_of_memory(&mut self) {
        let Some(oom) = &self.oom else { return };
        // 8 bytes of an eventfd (v1) or whole inotify events (v2)
        let mut events = [0; 4096];
        // When its cgroup is removed the watch fires too, or breaks: neither tells anything.
        if rustix::io::read(oom, &mut events).is_err() || self.exit.is_some() {
            self.oom = None;
            return;
        }
        if self.container.cgroup().oom_happened(&mut self.oom_kills) {
            self.broadcast("oom", &json!({}));
        }
    }

    // ------------------------------------------------------------------------------------------------------ messages

    fn accept(&mut self) {
        while let Ok(Some(peer)) = accept(self.listener.as_fd()) {
            // The directory is 0700 already; this holds where somebody made a way around it.
            let ours = rustix::net::sockopt::socket_peercred(&peer).is_ok_and(|peer| peer.uid.is_root());
            if ours {
                self.peers.push(Some(peer));
            }
        }
    }

    fn receive(&mut self, index: usize) {
        loop {
            let Some(Some(peer)) = self.peers.get(index) else { return };
            match protocol::receive(peer.as_fd()) {
                Ok(Some((packet, fds))) => self.answer(index, &packet, fds),
                Ok(None) => self.peers[index] = None,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => self.peers[index] = None,
            }
        }
    }

    fn answer(&mut self, index: usize, packet: &[u8], fds: Vec<OwnedFd>) {
        let Ok(request) = serde_json::from_slice::<Request>(packet) else { return };
        let result = if request.v == protocol::VERSION {
            match self.perform(index, &request, fds) {
                Some(result) => result,
                None => return,
            }
        } else {
            let message = format!("the shim of {} speaks version {}", self.config.id, protocol::VERSION);
            Err(Failure::new(Kind::Unsupported, "shim", message))
        };
        if let Some(Some(peer)) = self.peers.get(index) {
            // A peer that is gone is seen by the next receive.
            let _ = protocol::send(peer.as_fd(), &protocol::answer(request.id, &result), &[]);
        }
    }

    /// `None`: the answer comes later.
    fn perform(&mut self, index: usize, request: &Request, fds: Vec<OwnedFd>) -> Option<Result<Value, Failure>> {
        let (op, body) = (request.op, request.body.get());
        Some(match op {
            "start" => self.start(),
            "attach" => parse::<ClientConfig>(op, body)
                .and_then(|client| self.stdio.attach(one(op, fds)?, &client).map(|()| Value::Null)),
            "exec" => return self.exec(index, request, fds).err().map(Err),
            "signal" => parse::<SignalConfig>(op, body)
                .and_then(|wanted| self.container.signal(wanted.signal).map(|()| Value::Null)),
            "resize" => parse(op, body).and_then(|target| self.resize(&target)),
            "ports" => {
                parse::<Vec<PortSocket>>(op, body).and_then(|ports| self.ports.add(&ports, fds).map(|()| Value::Null))
            }
            "port" => parse::<PortSocket>(op, body)
                .and_then(|port| self.ports.change(&port, fds.into_iter().next()).map(|()| Value::Null)),
            "keepPorts" => parse::<Vec<PortSocket>>(op, body)
                .and_then(|wanted| self.ports.keep(&wanted))
                .map(|missing| json!(missing)),
            "state" => Ok(self.state()),
            "ack" => parse::<AckConfig>(op, body).map(|target| {
                self.acknowledge(target.exec_id.as_deref());
                Value::Null
            }),
            _ => Err(Failure::new(Kind::Unsupported, op, format!("the shim knows no operation {op:?}"))),
        })
    }

    fn start(&mut self) -> Result<Value, Failure> {
        if self.started {
            return Err(Failure::new(Kind::Conflict, "start", format!("{} is started already", self.config.id)));
        }
        if self.exit.is_some() {
            return Err(Failure::new(Kind::Gone, "start", format!("the init of {} has ended", self.config.id)));
        }
        self.container.start()?;
        self.started = true;
        Ok(Value::Null)
    }

    fn exec(&mut self, index: usize, request: &Request, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        if !self.started || self.exit.is_some() {
            return Err(Failure::new(Kind::Conflict, "exec", format!("{} is not running", self.config.id)));
        }
        let config: ExecConfig = parse("exec", request.body.get())?;
        let client = if config.client.is_some() { Some(one("exec", fds)?) } else { None };
        let peer = self.peers.get(index).and_then(Option::as_ref).map(OwnedFd::try_clone);
        let Some(Ok(peer)) = peer else {
            return Err(Failure::new(Kind::System, "exec", "the caller's socket could not be duplicated"));
        };
        self.execs.start(self.container.as_ref(), config, client, Caller { peer, request: request.id })
    }

    fn resize(&self, target: &ResizeConfig) -> Result<Value, Failure> {
        match &target.exec_id {
            None => self.stdio.resize(target.width, target.height).map(|()| Value::Null),
            Some(id) => self.execs.resize(id, target),
        }
    }

    fn state(&self) -> Value {
        let status = match (&self.exit, self.started) {
            (Some(_), _) => "exited",
            (None, true) => "running",
            (None, false) => "created",
        };
        let mut state = json!({ "status": status, "container": self.names, "execs": self.execs.state() });
        if let Some((exit, _)) = &self.exit {
            state["exit"] = json!(exit);
        }
        state
    }

    fn acknowledge(&mut self, exec_id: Option<&str>) {
        match (exec_id, &mut self.exit) {
            (Some(id), _) => self.execs.acknowledge(id),
            (None, Some((_, ended))) => ended.acknowledged = true,
            (None, None) => {}
        }
    }

    fn broadcast(&mut self, name: &str, body: &Value) {
        let message = protocol::event(name, body.clone());
        for peer in self.peers.iter().flatten() {
            // One that doesn't take it asks for the state when it connects again.
            let _ = protocol::send(peer.as_fd(), &message, &[]);
        }
    }
}

/// From bytes, as everything here: each kind of source is a parser of its own in the program.
fn parse<T: DeserializeOwned>(op: &str, body: &str) -> Result<T, Failure> {
    serde_json::from_slice(body.as_bytes()).map_err(|error| Failure::new(Kind::Invalid, op, format!("{op}: {error}")))
}

fn one(op: &str, fds: Vec<OwnedFd>) -> Result<OwnedFd, Failure> {
    fds.into_iter().next().ok_or_else(|| Failure::new(Kind::Invalid, op, format!("{op} came without a descriptor")))
}
