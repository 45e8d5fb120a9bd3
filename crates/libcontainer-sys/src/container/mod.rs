//! Building a container and joining one.
//!
//! Words: *init* is the container's first process; it is *parked* when everything is done but its program's execve, and
//! *released* by `Created::start`. An *exec* is a further process that joins the namespaces of init.
//!
//! All of this forks (clone3 without CLONE_VM) and the child allocates: the caller must be single-threaded.

mod create;
mod error;
mod exec;
mod report;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub use create::{Created, create};
pub use error::{Context, Error, Result, StartError};
pub use exec::{ExecProcess, exec};
pub use report::start_parked;

use crate::spec::{ConsoleSize, Process, Spec};

/// What the container sees as `/`.
#[derive(Debug, Clone)]
pub enum Rootfs {
    /// Mounted in the container's mount namespace only; the top layer first.
    Overlay { lower: Vec<PathBuf>, upper: PathBuf, work: PathBuf, volatile: bool },
    /// A directory of the host.
    Path(PathBuf),
}

/// As in an image's config or `--user`, resolved in the container's own /etc/passwd and /etc/group: `name`, `uid`,
/// `name:group`, `uid:gid`, or empty for root.
#[derive(Debug, Clone, Default)]
pub struct UserSpec {
    pub user: String,
    /// Names or numbers of further groups.
    pub additional_groups: Vec<String>,
}

/// Standard input, output and error of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Three descriptors, given to the process as 0, 1, 2 and closed here.
    Fds([OwnedFd; 3]),
    /// A pty of the container's own devpts, which becomes the controlling terminal; the other end is handed back.
    Terminal(Option<ConsoleSize>),
}

/// How a parked init is released.
#[derive(Debug)]
pub enum Park {
    /// By `Created::start` of this process; init ends when this process does.
    Here,
    /// By `start_parked` of any process that reaches this listening SOCK_SEQPACKET socket.
    Listener(OwnedFd),
}

#[derive(Debug)]
pub struct CreateOptions<'a> {
    /// Names the session keyring; used in messages.
    pub id: &'a str,
    /// Validated here. `linux.cgroupsPath` is the container's cgroup, made (with its parents) and limited here, an error
    /// if it has processes.
    pub spec: &'a Spec,
    pub rootfs: Rootfs,
    /// None: `spec.process.user` stands as it is.
    pub user: Option<UserSpec>,
    /// The network namespace to join in place of what `spec.linux.namespaces` says.
    pub netns: Option<OwnedFd>,
    pub stdio: Stdio,
    /// PID 1 is `init_binary` as `/sbin/docker-init -- args…`, which reaps and forwards signals.
    pub init: Option<OwnedFd>,
    pub park: Park,
}

#[derive(Debug)]
pub struct ExecOptions<'a> {
    /// The container's init.
    pub pidfd: &'a OwnedFd,
    pub process: &'a Process,
    /// None: `process.user` stands as it is.
    pub user: Option<UserSpec>,
    /// The container's cgroup (`spec.linux.cgroupsPath`).
    pub cgroup: &'a str,
    /// Compiled seccomp filter, as `seccomp::for_spec` makes it; None: no filter.
    pub seccomp: Option<&'a [u8]>,
    pub stdio: Stdio,
}
