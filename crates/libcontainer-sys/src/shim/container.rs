//! What the shim needs of a container, whoever builds it, and the one that is built here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions};
use serde_json::{Value, json};

use super::config::{ContainerConfig, ExecConfig};
use super::foreign;
use super::stdio::Streams;
use crate::cgroup::{self, Cgroup};
use crate::container::{self, CreateOptions, ExecOptions, Joined, Joining, Manner, Notes, Pending, Stdio};
use crate::failure::{Context, Failure, Kind, Result};
use crate::spec::{Identity, Process, Rootfs, Spec};
use crate::sys::signal;

pub trait Container {
    /// Pid and start time.
    fn init(&self) -> (i32, u64);
    fn cgroup(&self) -> &dyn Cgroup;
    /// Returns when init's program runs.
    fn start(&mut self) -> Result<()>;
    /// To its init.
    fn signal(&self, number: i32) -> Result<()>;
    /// Does not wait for the new process, which may be held up by a frozen cgroup.
    fn exec(&self, config: &ExecConfig) -> Result<(Box<dyn Arriving>, JoiningStreams)>;
    /// Before `start`: ends init and leaves nothing of the container.
    fn abort(self: Box<Self>);
    /// What is left of one whose init has ended.
    fn remove(&self);
}

/// A process on its way into a container.
pub trait Arriving {
    /// Readable when `advance` has something to do.
    fn as_fd(&self) -> BorrowedFd<'_>;
    /// 0 as long as nobody knows it.
    fn pid(&self) -> i32;
    /// Takes in what has happened, and never waits. After a failure it has ended, or is about to.
    fn advance(&mut self) -> Result<Option<Joined>>;
    /// A child of the shim has ended, which may be the one that brings the process.
    fn child_ended(&mut self, _pid: i32, _code: i32) {}
    fn abort(self: Box<Self>);
}

impl Arriving for Joining {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn pid(&self) -> i32 {
        self.pid()
    }

    fn advance(&mut self) -> Result<Option<Joined>> {
        self.advance()
    }

    fn abort(self: Box<Self>) {
        Self::abort(*self);
    }
}

/// Nothing is left when it fails. `text` is what `config` was read from.
pub fn build(config: &ContainerConfig, text: &[u8], netns: Option<OwnedFd>) -> Result<(Box<dyn Container>, Streams)> {
    if let Some(runtime) = &config.runtime {
        return foreign::build(config, runtime, text, netns);
    }
    let (own, streams) = Own::build(config, text, netns)?;
    Ok((Box::new(own), streams))
}

struct Own {
    state_dir: PathBuf,
    identity: Identity,
    spec: Spec,
    cgroup: Box<dyn Cgroup>,
    /// Init, until it is released.
    pending: Option<Pending>,
    init: (i32, u64),
    init_pidfd: OwnedFd,
    /// Held for as long as the container may be joined by another one.
    _netns: Option<OwnedFd>,
}

/// Stdin, stdout and stderr of a process as pipes; ours are the other ends.
pub struct Pipes {
    pub theirs: [OwnedFd; 3],
    pub ours: Streams,
}

impl Pipes {
    pub fn new(open_stdin: bool) -> Result<Self> {
        let (stdin, feed) = if open_stdin {
            let (read, write) = pipe()?;
            (read, Some(write))
        } else {
            let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            (null.context("open", "/dev/null")?, None)
        };
        let (stdout, stdout_write) = pipe()?;
        let (stderr, stderr_write) = pipe()?;
        let ours = Streams { stdin: feed, stdout: Some(stdout), stderr: Some(stderr), console: None };
        Ok(Self { theirs: [stdin, stdout_write, stderr_write], ours })
    }

    fn stdio(pipes: Option<&Self>) -> Stdio<'_> {
        match pipes {
            Some(pipes) => Stdio::Descriptors(std::array::from_fn(|index| pipes.theirs[index].as_fd())),
            None => Stdio::Terminal,
        }
    }

    pub fn streams(pipes: Option<Self>, console: Option<OwnedFd>) -> Streams {
        match pipes {
            Some(pipes) => pipes.ours,
            None => Streams { stdin: None, stdout: None, stderr: None, console },
        }
    }
}

/// Our ends of the streams of a process that joins; those of a terminal come when it runs.
pub struct JoiningStreams(pub Option<Streams>);

impl JoiningStreams {
    pub fn complete(self, console: Option<OwnedFd>) -> Streams {
        self.0.unwrap_or(Streams { stdin: None, stdout: None, stderr: None, console })
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).context("pipe", "")
}

/// What hooks look for: a directory with the specification, whose root is where init has the container's root until it moves
/// there. Empty without hooks.
fn bundle_for_hooks(config: &ContainerConfig, text: &[u8]) -> Result<String> {
    let (Rootfs::Overlay(overlay), false) = (&config.rootfs, config.spec.hooks.is_empty()) else {
        return Ok(String::new());
    };
    let bundle = config.state_dir.join("bundle");
    std::fs::create_dir(&bundle).context("mkdir", bundle.display())?;
    let mut whole: Value =
        serde_json::from_slice(text).map_err(|error| Failure::invalid("config", error.to_string()))?;
    let spec = &mut whole["spec"];
    spec["root"]["path"] = json!(overlay.upper);
    let file = bundle.join("config.json");
    std::fs::write(&file, spec.to_string()).context("write", file.display())?;
    Ok(bundle.display().to_string())
}

impl Own {
    fn build(config: &ContainerConfig, text: &[u8], netns: Option<OwnedFd>) -> Result<(Self, Streams)> {
        let identity = Identity {
            id: config.id.clone(),
            bundle: bundle_for_hooks(config, text)?,
            annotations: config.spec.annotations.clone(),
        };
        let cgroup = cgroup::open(&config.spec.linux.cgroups_path)?;
        let built = Self::build_in(config, &identity, netns.as_ref(), cgroup.as_ref());
        match built {
            Ok((mut pending, pipes)) => {
                let streams = Pipes::streams(pipes, pending.console.take());
                let init_pidfd = pending.pidfd.try_clone().context("dup", "pidfd")?;
                let init = (pending.pid, pending.start_time);
                let spec = config.spec.clone();
                let state_dir = config.state_dir.clone();
                Ok((
                    Self { state_dir, identity, spec, cgroup, pending: Some(pending), init, init_pidfd, _netns: netns },
                    streams,
                ))
            }
            Err(failure) => {
                // Its own failure is nothing beside the first one.
                let _ = cgroup.remove();
                Err(failure)
            }
        }
    }

    fn build_in(
        config: &ContainerConfig,
        identity: &Identity,
        netns: Option<&OwnedFd>,
        cgroup: &dyn Cgroup,
    ) -> Result<(Pending, Option<Pipes>)> {
        cgroup.create()?;
        cgroup.set(&config.spec.linux.resources)?;
        let pipes = if config.stdio.tty { None } else { Some(Pipes::new(config.stdio.open_stdin)?) };
        let pending = container::create(&CreateOptions {
            spec: &config.spec,
            rootfs: &config.rootfs,
            netns: netns.map(OwnedFd::as_fd),
            user: Some(&config.process),
            stdio: Pipes::stdio(pipes.as_ref()),
            reaper: config.init,
            cgroup,
            attach: None,
            identity,
            how: Manner::default(),
            notes: Notes::UNHEARD,
        })?;
        Ok((pending, pipes))
    }

    fn kill_all(&self) {
        // With a pid namespace of its own nothing is left; the daemon's clean-up looks again.
        let _ = self.cgroup.kill(libc::SIGKILL);
    }
}

impl Container for Own {
    fn init(&self) -> (i32, u64) {
        self.init
    }

    fn cgroup(&self) -> &dyn Cgroup {
        self.cgroup.as_ref()
    }

    fn start(&mut self) -> Result<()> {
        match self.pending.take() {
            Some(pending) => pending.start().map(drop),
            None => Err(Failure::new(Kind::Conflict, "start", "the container is started already")),
        }
    }

    fn signal(&self, number: i32) -> Result<()> {
        signal::send(self.init_pidfd.as_fd(), number).context("kill", self.init.0)
    }

    fn exec(&self, config: &ExecConfig) -> Result<(Box<dyn Arriving>, JoiningStreams)> {
        let process: Process = serde_json::from_slice(config.process.get().as_bytes())
            .map_err(|error| Failure::invalid("exec", format!("process: {error}")))?;
        let pipes = if config.tty { None } else { Some(Pipes::new(config.open_stdin)?) };
        let joining = container::join(&ExecOptions {
            process: &process,
            pidfd: self.init_pidfd.as_fd(),
            spec: &self.spec,
            user: Some(&config.user),
            stdio: Pipes::stdio(pipes.as_ref()),
            privileged: config.privileged,
            cgroup: self.cgroup.as_ref(),
            attach: None,
            beside_init: true,
            identity: &self.identity,
            preserved_fds: 0,
            notes: Notes::UNHEARD,
        })?;
        // Theirs are closed now, so that ours end when the process does.
        Ok((Box::new(joining), JoiningStreams(pipes.map(|pipes| pipes.ours))))
    }

    fn abort(mut self: Box<Self>) {
        if let Some(pending) = self.pending.take() {
            pending.abort();
            let _ = rustix::process::waitid(WaitId::PidFd(self.init_pidfd.as_fd()), WaitIdOptions::EXITED);
        }
        self.kill_all();
        self.remove();
        let _ = std::fs::remove_dir_all(&self.state_dir);
    }

    fn remove(&self) {
        if let Err(error) = self.cgroup.remove() {
            eprintln!("remove cgroup: {error}");
        }
    }
}
