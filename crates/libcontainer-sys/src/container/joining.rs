//! A process on its way into a running container, followed without waiting: it may be held up there, for example when the
//! cgroup that it joins is frozen, and its creator has others to serve.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::{Agent, Control, Message};
use crate::failure::{Failure, Kind, Result};

/// Dropped, it ends by itself, as a `Pending`. The creator reaps it, and the process between as well.
pub struct Joining {
    /// Of the process between, then of the one that stays.
    pub(super) pidfd: OwnedFd,
    /// Of the one that stays, once it is born.
    pub(super) pid: Option<i32>,
    pub(super) console: Option<OwnedFd>,
    /// It was let go: when its control socket ends now, its program runs.
    pub(super) released: bool,
    pub(super) control: Control,
    pub(super) agent: Option<Agent>,
}

/// Its program runs.
pub struct Joined {
    pub pid: i32,
    pub console: Option<OwnedFd>,
}

impl Joining {
    /// Readable when `advance` has something to do.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    pub fn pid(&self) -> i32 {
        self.pid.unwrap_or(0)
    }

    /// Takes in what it has said. Never waits for it. After a failure it has ended, or is about to.
    pub fn advance(&mut self) -> Result<Option<Joined>> {
        loop {
            let (message, fd) = match self.control.receive_now() {
                Err(failure) if failure.errno == Some(libc::EAGAIN) => return Ok(None),
                Err(failure) => return Err(failure),
                Ok(None) => return self.ended(),
                Ok(Some(said)) => said,
            };
            match message {
                Message::Born { pid } => self.born(pid, fd)?,
                Message::Console => self.console = fd,
                Message::Note { .. } => {}
                Message::SeccompListener => Agent::tell(self.agent.as_ref(), fd)?,
                Message::Ready => {
                    self.control.go()?;
                    self.released = true;
                }
                Message::Failed(failure) => return Err(failure),
                Message::MapIds | Message::MapMount { .. } | Message::NetDevices | Message::RuntimeHooks => {
                    return Err(Failure::new(Kind::System, "init", "a joining process asks for what only init needs"));
                }
            }
        }
    }

    fn born(&mut self, pid: i32, pidfd: Option<OwnedFd>) -> Result<()> {
        let pidfd = pidfd.ok_or_else(|| Failure::new(Kind::System, "init", "born without a descriptor"))?;
        self.pid = Some(pid);
        self.pidfd = pidfd;
        if let Some(agent) = &mut self.agent {
            agent.pid = pid;
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<Option<Joined>> {
        match self.pid {
            Some(pid) if self.released => Ok(Some(Joined { pid, console: self.console.take() })),
            _ => Err(Failure::new(Kind::System, "init", "the joining process ended before its program could run")),
        }
    }

    /// Ends it, as soon as it is not frozen any more.
    pub fn abort(self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }
}
