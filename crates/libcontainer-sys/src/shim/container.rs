//! The shim's container: pipes or a terminal made, built, started, joined and taken down.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions};

use super::config::{ContainerConfig, ExecConfig};
use super::stdio::Streams;
use crate::cgroup::{self, Cgroup};
use crate::container::{self, CreateOptions, ExecOptions, Joining, Manner, Notes, Pending, Stdio};
use crate::failure::{Context, Failure, Kind, Result};
use crate::spec::{Identity, Spec};

pub struct Container {
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
struct Pipes {
    theirs: [OwnedFd; 3],
    ours: Streams,
}

impl Pipes {
    fn new(open_stdin: bool) -> Result<Self> {
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

    fn streams(pipes: Option<Self>, console: Option<OwnedFd>) -> Streams {
        match pipes {
            Some(pipes) => pipes.ours,
            None => Streams { stdin: None, stdout: None, stderr: None, console },
        }
    }
}

/// Our ends of the streams of a process that joins; those of a terminal come when it runs.
pub struct JoiningStreams(Option<Streams>);

impl JoiningStreams {
    pub fn complete(self, console: Option<OwnedFd>) -> Streams {
        self.0.unwrap_or(Streams { stdin: None, stdout: None, stderr: None, console })
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).context("pipe", "")
}

fn identity(id: &str, spec: &Spec) -> Identity {
    Identity { id: id.to_owned(), bundle: String::new(), annotations: spec.annotations.clone() }
}

impl Container {
    /// Nothing is left when it fails.
    pub fn build(config: &ContainerConfig, netns: Option<OwnedFd>) -> Result<(Self, Streams)> {
        let cgroup = cgroup::open(&config.spec.linux.cgroups_path)?;
        let built = Self::build_in(config, netns.as_ref(), cgroup.as_ref());
        match built {
            Ok((mut pending, pipes)) => {
                let streams = Pipes::streams(pipes, pending.console.take());
                let init_pidfd = pending.pidfd.try_clone().context("dup", "pidfd")?;
                let init = (pending.pid, pending.start_time);
                let (spec, identity) = (config.spec.clone(), identity(&config.id, &config.spec));
                Ok((Self { identity, spec, cgroup, pending: Some(pending), init, init_pidfd, _netns: netns }, streams))
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
            identity: &identity(&config.id, &config.spec),
            how: Manner::default(),
            notes: Notes::UNHEARD,
        })?;
        Ok((pending, pipes))
    }

    /// Pid and start time.
    pub fn init(&self) -> (i32, u64) {
        self.init
    }

    /// Returns when init's program runs.
    pub fn start(&mut self) -> Result<()> {
        match self.pending.take() {
            Some(pending) => pending.start().map(drop),
            None => Err(Failure::new(Kind::Conflict, "start", "the container is started already")),
        }
    }

    pub fn oom_event(&self) -> Option<OwnedFd> {
        self.cgroup.oom_event().ok().flatten()
    }

    /// Whether the watch has fired for an OOM that `seen` does not count yet.
    pub fn oom_happened(&self, seen: &mut u64) -> bool {
        self.cgroup.oom_happened(seen)
    }

    pub fn oom_kills(&self) -> u64 {
        self.cgroup.oom_kills()
    }

    /// Does not wait for the new process, which may be held up by a frozen cgroup.
    pub fn exec(&self, config: &ExecConfig) -> Result<(Joining, JoiningStreams)> {
        let pipes = if config.tty { None } else { Some(Pipes::new(config.open_stdin)?) };
        let joining = container::join(&ExecOptions {
            process: &config.process,
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
        Ok((joining, JoiningStreams(pipes.map(|pipes| pipes.ours))))
    }

    /// What still runs in the container's cgroup once its init has ended.
    pub fn kill_all(&self) {
        // With a pid namespace of its own nothing is left; the daemon's clean-up looks again.
        let _ = self.cgroup.kill(libc::SIGKILL);
    }

    /// Before `start`: ends init and removes the cgroup.
    pub fn abort(mut self) {
        if let Some(pending) = self.pending.take() {
            pending.abort();
            let _ = rustix::process::waitid(WaitId::PidFd(self.init_pidfd.as_fd()), WaitIdOptions::EXITED);
        }
        self.kill_all();
        self.remove_cgroups();
    }

    pub fn remove_cgroups(&self) {
        if let Err(error) = self.cgroup.remove() {
            eprintln!("remove cgroup: {error}");
        }
    }
}
