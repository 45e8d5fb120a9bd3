//! Execs of a container: on their way into it, running, and ended until the daemon has written that down.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use serde_json::{Value, json};

use super::config::{ExecConfig, ResizeConfig};
use super::container::{Arriving, Container, JoiningStreams};
use super::protocol;
use super::stdio::{Part, Stdio};
use crate::container::Joined;
use crate::failure::{Failure, Kind, Result};

/// How long clients of an ended process are kept for an acknowledgement of the daemon, so that whoever sees the end of the
/// stream finds the exit code at the daemon.
pub const ACK_TIME: Duration = Duration::from_secs(2);
/// How long a client of an ended container may take for what is pending.
pub const LINGER: Duration = Duration::from_secs(10);
/// How long a process may take from its clone to its program, which is less than the daemon waits for our answer. The
/// cgroup that it joins may be frozen.
const JOIN_TIME: Duration = Duration::from_secs(8);

/// A process that has ended and whose end the daemon has not acknowledged.
pub struct Ended {
    pub code: i32,
    pub since: Instant,
    pub acknowledged: bool,
}

impl Ended {
    pub fn now(code: i32) -> Self {
        Self { code, since: Instant::now(), acknowledged: false }
    }
}

/// Who waits for an answer.
pub struct Caller {
    pub peer: OwnedFd,
    pub request: u64,
}

impl Caller {
    fn answer(&self, result: &Result<Value>) {
        // One that has gone asks for the state when it connects again.
        let _ = protocol::send(self.peer.as_fd(), &protocol::answer(self.request, result), &[]);
    }
}

struct Starting {
    joining: Box<dyn Arriving>,
    streams: JoiningStreams,
    config: ExecConfig,
    client: Option<OwnedFd>,
    caller: Caller,
    deadline: Instant,
}

impl Starting {
    fn run(self, joined: Joined) -> (Caller, Result<Exec>) {
        (self.caller, Exec::new(joined, self.streams, self.config, self.client))
    }
}

struct Exec {
    id: String,
    pid: i32,
    stdio: Stdio,
    exit: Option<Ended>,
}

impl Exec {
    fn new(joined: Joined, streams: JoiningStreams, config: ExecConfig, client: Option<OwnedFd>) -> Result<Self> {
        // The input of an exec ends with its client: it has never another one.
        let mut stdio = Stdio::new(streams.complete(joined.console), true, None)?;
        if let Some((config, fd)) = config.client.as_ref().zip(client) {
            stdio.attach(fd, config)?;
        }
        if let Some(size) = config.console_size {
            // A size is a wish.
            let _ = stdio.resize(size.width, size.height);
        }
        Ok(Self { id: config.exec_id, pid: joined.pid, stdio, exit: None })
    }
}

#[derive(Default)]
pub struct Execs {
    starting: Vec<Starting>,
    running: Vec<Exec>,
    /// Children that ended while processes were on their way, by pid: one of those may be known only later.
    reaped: Vec<(i32, i32)>,
}

#[derive(Clone, Copy)]
pub enum ExecPart {
    /// Something came from a process on its way.
    Starting,
    Stdio(usize, Part),
}

impl Execs {
    /// The caller is answered when the program runs, or could not be executed.
    pub fn start(
        &mut self,
        container: &dyn Container,
        config: ExecConfig,
        client: Option<OwnedFd>,
        caller: Caller,
    ) -> Result<()> {
        let (joining, streams) = container.exec(&config)?;
        let deadline = Instant::now() + JOIN_TIME;
        self.starting.push(Starting { joining, streams, config, client, caller, deadline });
        Ok(())
    }

    pub fn pause(&mut self) -> Option<Duration> {
        self.running.iter_mut().filter_map(|exec| exec.stdio.pause()).min()
    }

    pub fn interests<'a>(&'a self, mut add: impl FnMut(BorrowedFd<'a>, PollFlags, ExecPart)) {
        for starting in &self.starting {
            add(starting.joining.as_fd(), PollFlags::IN, ExecPart::Starting);
        }
        for (index, exec) in self.running.iter().enumerate() {
            exec.stdio.interests(|fd, events, part| add(fd, events, ExecPart::Stdio(index, part)));
        }
    }

    /// Answers one event of poll; the id of the exec whose client typed its detach keys.
    pub fn handle(&mut self, part: ExecPart, events: PollFlags, buffer: &mut Vec<u8>) -> Option<&str> {
        match part {
            // `advance` looks at all of them.
            ExecPart::Starting => None,
            ExecPart::Stdio(index, part) => {
                let exec = self.running.get_mut(index)?;
                exec.stdio.handle(part, events, buffer).then_some(exec.id.as_str())
            }
        }
    }

    /// Follows the processes on their way.
    pub fn advance(&mut self) {
        let now = Instant::now();
        let mut index = 0;
        while let Some(starting) = self.starting.get_mut(index) {
            match starting.joining.advance() {
                Ok(None) if now < starting.deadline => index += 1,
                Ok(None) => {
                    let message = "the container takes no new process: is its cgroup frozen?";
                    let Starting { joining, caller, .. } = self.starting.remove(index);
                    joining.abort();
                    caller.answer(&Err(Failure::new(Kind::Conflict, "exec", message)));
                }
                Ok(Some(joined)) => {
                    let (caller, exec) = self.starting.remove(index).run(joined);
                    caller.answer(&exec.map(|exec| {
                        let pid = exec.pid;
                        self.running.push(exec);
                        json!({ "pid": pid })
                    }));
                }
                Err(failure) => self.starting.remove(index).caller.answer(&Err(failure)),
            }
        }
    }

    /// A child has ended: the events to tell when one of ours has.
    pub fn ended(&mut self, pid: i32, code: i32, buffer: &mut Vec<u8>) -> Vec<Value> {
        self.starting.iter_mut().for_each(|starting| starting.joining.child_ended(pid, code));
        self.reaped.push((pid, code));
        // Its program may be over before anybody looked whether it runs.
        self.advance();
        let mut events = Vec::new();
        for exec in self.running.iter_mut().filter(|exec| exec.exit.is_none()) {
            if let Some((_, code)) = self.reaped.iter().find(|(pid, _)| *pid == exec.pid) {
                exec.stdio.drain(buffer);
                exec.exit = Some(Ended::now(*code));
                events.push(json!({ "execId": exec.id, "exitCode": code }));
            }
        }
        let arrived = |pid| self.running.iter().any(|exec| exec.pid == pid);
        let waits = !self.starting.is_empty();
        self.reaped.retain(|(pid, _)| waits && !arrived(*pid));
        events
    }

    /// Closes the clients of execs whose end is `settled`, and forgets those; with `over` the container has ended as well.
    pub fn finish(&mut self, settled: impl Fn(&Ended) -> bool, over: bool) {
        for exec in self.running.iter_mut().filter(|exec| exec.exit.as_ref().is_some_and(&settled)) {
            exec.stdio.close_clients();
        }
        // One that nobody has acknowledged stays, so that the next daemon learns of it.
        self.running.retain(|exec| match &exec.exit {
            Some(ended) => exec.stdio.has_clients() && ended.since.elapsed() < LINGER || !ended.acknowledged && !over,
            None => true,
        });
    }

    pub fn sweep(&mut self) {
        self.running.iter_mut().for_each(|exec| exec.stdio.sweep());
    }

    /// Something must be looked at again though nothing may happen.
    pub fn has_deadlines(&self) -> bool {
        !self.starting.is_empty() || self.running.iter().any(|exec| exec.exit.is_some())
    }

    pub fn has_clients(&self) -> bool {
        self.running.iter().any(|exec| exec.stdio.has_clients())
    }

    pub fn acknowledge(&mut self, id: &str) {
        let exec = self.running.iter_mut().find(|exec| exec.id == id);
        if let Some(ended) = exec.and_then(|exec| exec.exit.as_mut()) {
            ended.acknowledged = true;
        }
    }

    pub fn resize(&self, id: &str, target: &ResizeConfig) -> Result<Value> {
        let exec = self.running.iter().find(|exec| exec.id == id && exec.exit.is_none());
        let exec = exec.ok_or_else(|| Failure::new(Kind::NotFound, "resize", format!("no running exec {id}")))?;
        exec.stdio.resize(target.width, target.height).map(|()| Value::Null)
    }

    /// `execs` of `ContainerRuntimeState`.
    pub fn state(&self) -> Value {
        let starting = self.starting.iter().map(
            |starting| json!({ "execId": starting.config.exec_id, "pid": starting.joining.pid(), "running": true }),
        );
        let running = self.running.iter().map(|exec| {
            let mut entry = json!({ "execId": exec.id, "pid": exec.pid, "running": exec.exit.is_none() });
            if let Some(ended) = &exec.exit {
                entry["exitCode"] = json!(ended.code);
            }
            entry
        });
        starting.chain(running).collect()
    }
}
