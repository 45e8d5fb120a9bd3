//! A container that another OCI runtime builds (`--add-runtime`): the shim gives it a bundle and calls its command line.
//!
//! ```text
//! stateDir/bundle/     the runtime's bundle (bundle.rs); what is mounted in it shows in the shim's mount namespace alone
//! stateDir/runtime/    the runtime's own state (`--root`)
//! ```
//!
//! The container's init becomes the shim's child when the runtime has ended, as the shim is a subreaper: exit, streams, log and
//! cgroup are then handled as for a container of our own.

mod arriving;
mod bundle;
mod command;
mod console;

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::config::{ContainerConfig, ExecConfig, ForeignRuntime};
use super::container::{Arriving, Container, JoiningStreams, Pipes};
use super::stdio::Streams;
use crate::cgroup::{self, Cgroup};
use crate::container::start_time;
use crate::failure::{Context, Failure, Kind, Result};
use crate::init::reaper;
use arriving::ForeignExec;
use bundle::Bundle;
pub use bundle::INIT;
use command::{CREATE_TIME, Command, Output, SIGNAL_TIME};
use console::ConsoleSocket;

struct Foreign {
    command: Command,
    bundle: Bundle,
    cgroup: Box<dyn Cgroup>,
    init: (i32, u64),
    init_pidfd: OwnedFd,
    /// The runtime has it by our number, and so has whoever joins the container's network.
    _netns: Option<OwnedFd>,
}

pub fn build(
    config: &ContainerConfig,
    runtime: &ForeignRuntime,
    text: &[u8],
    netns: Option<OwnedFd>,
) -> Result<(Box<dyn Container>, Streams)> {
    let cgroup = cgroup::open(&config.spec.linux.cgroups_path)?;
    let command = Command::new(runtime, &config.id, &config.state_dir)?;
    let bundle = Bundle::make(config, text, netns.as_ref().map(AsFd::as_fd))?;
    let created = create(config, &command, &bundle).and_then(|streams| {
        let pid = read_pid(&bundle.path().join(PID_FILE))?;
        let init = (pid.as_raw_nonzero().get(), start_time(pid.as_raw_nonzero().get())?);
        Ok((streams, init, pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open", init.0)?))
    });
    match created {
        Ok((streams, init, init_pidfd)) => {
            Ok((Box::new(Foreign { command, bundle, cgroup, init, init_pidfd, _netns: netns }), streams))
        }
        Err(failure) => {
            take_away(&command, &bundle, cgroup.as_ref());
            Err(failure)
        }
    }
}

const PID_FILE: &str = "init.pid";

fn create(config: &ContainerConfig, command: &Command, bundle: &Bundle) -> Result<Streams> {
    let scratch = bundle.path();
    let mut words: Vec<OsString> = vec!["--bundle".into(), scratch.into()];
    words.extend(["--pid-file".into(), scratch.join(PID_FILE).into()]);
    if !config.stdio.tty {
        words.push(command.id());
        let pipes = Pipes::new(config.stdio.open_stdin)?;
        command.run(scratch, "create", words, CREATE_TIME, &Output::Process(&pipes))?;
        return Ok(pipes.ours);
    }
    let console = ConsoleSocket::listen(scratch)?;
    words.extend(["--console-socket".into(), console.address().into(), command.id()]);
    command.run(scratch, "create", words, CREATE_TIME, &Output::Own)?;
    Ok(Pipes::streams(None, Some(console.receive()?)))
}

fn read_pid(path: &Path) -> Result<Pid> {
    let text = std::fs::read_to_string(path).context("read", path.display())?;
    text.trim()
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| Failure::new(Kind::System, "runtime", format!("{}: {text:?} is no process id", path.display())))
}

/// Whatever the runtime still knows of the container, and what it has left behind in spite of that.
fn take_away(command: &Command, bundle: &Bundle, cgroup: &dyn Cgroup) {
    let words = vec!["--force".into(), command.id()];
    if let Err(failure) = command.run(bundle.path(), "delete", words, CREATE_TIME, &Output::Own) {
        eprintln!("{failure}");
    }
    let _ = cgroup.kill(libc::SIGKILL);
    if let Err(failure) = cgroup.remove() {
        eprintln!("remove cgroup: {failure}");
    }
}

impl Foreign {
    fn has_ended(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.init_pidfd, PollFlags::IN)], Some(&now)).is_ok_and(|count| count > 0)
    }
}

impl Container for Foreign {
    fn init(&self) -> (i32, u64) {
        self.init
    }

    fn cgroup(&self) -> &dyn Cgroup {
        self.cgroup.as_ref()
    }

    fn start(&mut self) -> Result<()> {
        self.command.run(self.bundle.path(), "start", vec![self.command.id()], CREATE_TIME, &Output::Own)
    }

    fn signal(&self, number: i32) -> Result<()> {
        // by the runtime, since init may be what it has put around the program
        let words = vec![self.command.id(), number.to_string().into()];
        let sent = self.command.run(self.bundle.path(), "kill", words, SIGNAL_TIME, &Output::Own);
        // the runtime has words of its own for one that has ended meanwhile
        sent.map_err(|failure| if self.has_ended() { Failure { kind: Kind::Gone, ..failure } } else { failure })
    }

    fn exec(&self, config: &ExecConfig) -> Result<(Box<dyn Arriving>, JoiningStreams)> {
        ForeignExec::begin(&self.command, &self.bundle, config)
    }

    fn abort(self: Box<Self>) {
        let _ = rustix::process::pidfd_send_signal(&self.init_pidfd, rustix::process::Signal::KILL);
        // The state directory stays for the next daemon: what is mounted in it can be seen from here.
        take_away(&self.command, &self.bundle, self.cgroup.as_ref());
    }

    fn remove(&self) {
        take_away(&self.command, &self.bundle, self.cgroup.as_ref());
    }
}

/// PID 1 of a container with `--init`, called as `/sbin/docker-init -- PROGRAM ARGUMENTS`. Gives what to end with when the
/// program cannot be executed.
pub fn run_as_init(command: &[OsString]) -> i32 {
    let failure = reaper::run(None, &[], || command::execute(command));
    eprintln!("[FATAL docker-init] {failure}");
    if failure.errno == Some(libc::ENOENT) { 127 } else { 126 }
}
