//! Containers and the processes in them, for a single-threaded creator (the shim, the runtime's command line).
//!
//! Lifecycle: `create` clones init, which builds everything up to its program and parks; `Pending::start` lets it execute and
//! says whether that worked; `Pending::abort` ends it. `exec` does the same for a process that joins.

use crate::cgroup::Cgroup;
use crate::failure::{Context, Failure, Kind, Result};
use crate::init::{InitPlan, JoinPlan, run_container_init, run_joining_process};
use crate::seccomp::{self, Instruction};
use crate::spec::{NamespaceKind, Process, Rootfs, Spec, UserSpec};
use crate::sys::clone::{Cloned, clone3};
use crate::sys::exec::place_fd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, connect, recvmsg, sendmsg, socket_with,
    socketpair,
};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces};
use serde::{Deserialize, Serialize};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What a new process has for stdin, stdout and stderr. `Terminal`: a pty of the container, whose master comes back.
pub enum Stdio<'a> {
    Descriptors([BorrowedFd<'a>; 3]),
    Terminal,
}

pub struct CreateOptions<'a> {
    pub spec: &'a Spec,
    pub rootfs: &'a Rootfs,
    /// The container's network namespace, when somebody has made it; else the specification says.
    pub netns: Option<BorrowedFd<'a>>,
    pub user: Option<&'a UserSpec>,
    pub stdio: Stdio<'a>,
    /// PID 1 is our own reaper (`--init`).
    pub reaper: bool,
    /// Made, with its limits written.
    pub cgroup: &'a dyn Cgroup,
}

pub struct ExecOptions<'a> {
    pub process: &'a Process,
    /// Of the container's init.
    pub pidfd: BorrowedFd<'a>,
    /// Of the container: its namespaces and its seccomp filter apply to the new process too.
    pub spec: &'a Spec,
    pub user: Option<&'a UserSpec>,
    pub stdio: Stdio<'a>,
    /// No seccomp filter (`exec --privileged`).
    pub privileged: bool,
    pub cgroup: &'a dyn Cgroup,
}

/// A process that is complete but for its execve. Dropped, it ends by itself: its control socket is gone.
pub struct Pending {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// Field 22 of /proc/pid/stat.
    pub start_time: u64,
    /// The terminal's master.
    pub console: Option<OwnedFd>,
    control: Control,
}

impl Pending {
    /// Lets the process execute its program; comes back when it runs or has failed (it has ended then and wants reaping).
    pub fn start(self) -> Result<Started> {
        self.control.go()?;
        match self.control.receive()? {
            None => {
                Ok(Started { pid: self.pid, pidfd: self.pidfd, start_time: self.start_time, console: self.console })
            }
            Some((Message::Failed(failure), _)) => Err(failure),
            Some(_) => Err(Failure::new(Kind::System, "start", "init sent something unexpected")),
        }
    }

    /// Ends it; the caller reaps.
    pub fn abort(self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }
}

pub struct Started {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub start_time: u64,
    pub console: Option<OwnedFd>,
}

/// Clones init into its namespaces and waits until it is parked before its program.
pub fn create(options: &CreateOptions) -> Result<Pending> {
    create_init(options, None)
}

/// As `create`, but init outlives its creator: it is released by `start_parked` of any process that reaches `listener`, a
/// listening SOCK_SEQPACKET socket. `Pending::start` is not for this one.
pub fn create_parked(options: &CreateOptions, listener: BorrowedFd) -> Result<Pending> {
    create_init(options, Some(listener))
}

/// Releases an init that `create_parked` has parked at the socket `path`; comes back when its program runs or has failed.
pub fn start_parked(path: &Path) -> Result<()> {
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context("socket", "")?;
    let (_dir, address) = short_address(path).context("socket address", path.display())?;
    connect(&socket, &address).map_err(|error| match error {
        rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT => {
            Failure::new(Kind::Gone, "start", "the container is not waiting to be started")
        }
        error => Failure::io("connect", path.display(), error),
    })?;
    let control = Control(socket);
    control.go()?;
    match control.receive()? {
        None => Ok(()),
        Some((Message::Failed(failure), _)) => Err(failure),
        Some(_) => Err(Failure::new(Kind::System, "start", "init sent something unexpected")),
    }
}

/// How a child gets into the cgroup: by joining as its first step, or by being born there.
fn membership(cgroup: &dyn Cgroup) -> Result<(Vec<OwnedFd>, Option<OwnedFd>)> {
    Ok(match cgroup.birthplace()? {
        Some(directory) => (Vec::new(), Some(directory)),
        None => (cgroup.join_files()?, None),
    })
}

/// A socket's address holds 107 bytes: it is named through its directory's descriptor, which must live as long.
pub(crate) fn short_address(path: &Path) -> rustix::io::Result<(OwnedFd, SocketAddrUnix)> {
    let (dir, name) = (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default());
    let dir = openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = SocketAddrUnix::new(Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))?;
    Ok((dir, address))
}

fn create_init(options: &CreateOptions, listener: Option<BorrowedFd>) -> Result<Pending> {
    let spec = options.spec;
    spec.refuse_unsupported()?;
    let filter = filter(spec)?;
    let (joins, birthplace) = membership(options.cgroup)?;
    let (ours, theirs) = Control::pair()?;
    let flags = clone_flags(spec, options.netns.is_some())?;
    let home = OwnPidNamespace::remember()?;
    join_pid_namespace(spec)?;
    let cloned = clone3(flags, birthplace.as_ref().map(AsFd::as_fd)).context("clone3", "init");
    if !matches!(cloned, Ok(Cloned::Child)) {
        home.restore()?;
    }
    match cloned? {
        Cloned::Child => {
            drop(ours);
            let plan = InitPlan {
                spec,
                rootfs: options.rootfs,
                netns: options.netns,
                user: options.user,
                stdio: descriptors(&options.stdio),
                reaper: options.reaper,
                cgroup: options.cgroup,
                joins: &joins,
                seccomp: filter.as_deref(),
                listener,
            };
            run_container_init(&plan, theirs)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            await_ready(ours, pid, pidfd)
        }
    }
}

/// Clones a process into a running container and waits until it is parked before its program.
pub fn exec(options: &ExecOptions) -> Result<Pending> {
    options.process.refuse_unsupported()?;
    let filter = if options.privileged { None } else { filter(options.spec)? };
    let (joins, birthplace) = membership(options.cgroup)?;
    let (ours, theirs) = Control::pair()?;
    let home = OwnPidNamespace::remember()?;
    // concerns children only; the creator itself stays where it is
    move_into_thread_name_spaces(options.pidfd, ThreadNameSpaceType::PROCESS_ID).map_err(|error| match error {
        rustix::io::Errno::SRCH => Failure::new(Kind::Gone, "setns", "the container is not running"),
        error => Failure::io("setns", "pid namespace of the container", error),
    })?;
    let cloned = clone3(0, birthplace.as_ref().map(AsFd::as_fd)).context("clone3", "exec");
    if !matches!(cloned, Ok(Cloned::Child)) {
        home.restore()?;
    }
    match cloned? {
        Cloned::Child => {
            drop(ours);
            let plan = JoinPlan {
                process: options.process,
                pidfd: options.pidfd,
                namespaces: joined_namespaces(options.spec),
                user: options.user,
                stdio: descriptors(&options.stdio),
                joins: &joins,
                seccomp: filter.as_deref(),
            };
            run_joining_process(&plan, theirs)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            await_ready(ours, pid, pidfd)
        }
    }
}

fn descriptors<'a>(stdio: &'a Stdio) -> Option<[BorrowedFd<'a>; 3]> {
    match stdio {
        Stdio::Descriptors(descriptors) => Some(*descriptors),
        Stdio::Terminal => None,
    }
}

fn filter(spec: &Spec) -> Result<Option<Vec<Instruction>>> {
    match (&spec.linux.seccomp_file, &spec.linux.seccomp) {
        (Some(path), _) => seccomp::load_file(path).map(Some),
        (None, Some(section)) if !section.is_null() => {
            seccomp::compile(section, seccomp::Architecture::NATIVE).map(Some)
        }
        _ => Ok(None),
    }
}

/// Linux 5.6; of use in clone3 only, where the signal has a place of its own.
const CLONE_NEWTIME: libc::c_int = 0x80;

fn clone_flags(spec: &Spec, has_netns: bool) -> Result<u64> {
    let mut flags = 0;
    for namespace in spec.linux.namespaces.iter().filter(|ns| ns.path.is_empty()) {
        flags |= match namespace.kind {
            NamespaceKind::Mount => libc::CLONE_NEWNS,
            NamespaceKind::Pid => libc::CLONE_NEWPID,
            NamespaceKind::Ipc => libc::CLONE_NEWIPC,
            NamespaceKind::Uts => libc::CLONE_NEWUTS,
            NamespaceKind::Network if has_netns => 0,
            NamespaceKind::Network => libc::CLONE_NEWNET,
            // unshared by init itself once it has joined its cgroup
            NamespaceKind::Cgroup => 0,
            NamespaceKind::Time => CLONE_NEWTIME,
            NamespaceKind::User => {
                let message = "/linux/namespaces: user namespaces are not supported by this version of caisson";
                return Err(Failure::new(Kind::Unsupported, "namespace", message));
            }
        } as u64;
    }
    let names = !spec.hostname.is_empty() || !spec.domainname.is_empty();
    if names && spec.namespace(NamespaceKind::Uts).is_none() {
        // it would be the host that gets the name
        return Err(Failure::invalid("namespace", "/hostname: unable to set hostname without a private UTS namespace"));
    }
    if flags & libc::CLONE_NEWNS as u64 == 0 {
        return Err(Failure::invalid("namespace", "/linux/namespaces: a container needs a mount namespace of its own"));
    }
    Ok(flags)
}

/// Those that an exec enters; the pid namespace is entered by being born in it. Namespaces that are the host's anyway may be
/// joined as well: it is the same one.
fn joined_namespaces(spec: &Spec) -> ThreadNameSpaceType {
    let mut types = ThreadNameSpaceType::MOUNT;
    for namespace in &spec.linux.namespaces {
        types |= match namespace.kind {
            NamespaceKind::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
            NamespaceKind::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
            NamespaceKind::Network => ThreadNameSpaceType::NETWORK,
            NamespaceKind::Cgroup => ThreadNameSpaceType::CONTROL_GROUP,
            NamespaceKind::Time => ThreadNameSpaceType::TIME,
            _ => ThreadNameSpaceType::empty(),
        };
    }
    types
}

/// The pid namespace in which children are born. While it is another one than the creator's own the creator can have no
/// threads, and its next child would be born in the wrong container.
struct OwnPidNamespace(OwnedFd);

impl OwnPidNamespace {
    fn remember() -> Result<Self> {
        const OWN: &str = "/proc/self/ns/pid";
        openat(CWD, OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("open", OWN).map(Self)
    }

    fn restore(self) -> Result<()> {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::ProcessID))
            .context("setns", "own pid namespace")
    }
}

fn join_pid_namespace(spec: &Spec) -> Result<()> {
    let Some(namespace) = spec.namespace(NamespaceKind::Pid).filter(|ns| !ns.path.is_empty()) else { return Ok(()) };
    let fd = openat(CWD, namespace.path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context("open namespace", &namespace.path)?;
    move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::ProcessID)).context("setns", &namespace.path)
}

fn await_ready(control: Control, pid: i32, pidfd: OwnedFd) -> Result<Pending> {
    let mut console = None;
    loop {
        match control.receive()? {
            Some((Message::Console, fd)) => console = fd,
            Some((Message::Ready, _)) => {
                return Ok(Pending { pid, start_time: start_time(pid)?, pidfd, console, control });
            }
            Some((Message::Failed(failure), _)) => {
                reap(&pidfd);
                return Err(failure);
            }
            None => {
                let how = reap(&pidfd);
                return Err(Failure::new(Kind::System, "init", format!("init ended before it was ready{how}")));
            }
        }
    }
}

/// Reaps a child that has ended or is about to, and says how it ended.
fn reap(pidfd: &OwnedFd) -> String {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
        Ok(Some(status)) if status.terminating_signal().is_some() => {
            format!(" (signal {})", status.terminating_signal().unwrap_or(0))
        }
        Ok(Some(status)) => format!(" (exit status {})", status.exit_status().unwrap_or(0)),
        _ => String::new(),
    }
}

/// Field 22 of /proc/pid/stat, in clock ticks since boot: with the pid it names a process for good.
pub fn start_time(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).context("read", &path)?;
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(19))
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| Failure::new(Kind::System, "read", format!("{path}: unreadable")))
}

// ------------------------------------------------------------------------------------------------- control socket

/// From init to its creator.
#[derive(Serialize, Deserialize)]
pub(crate) enum Message {
    /// With the terminal's master.
    Console,
    Ready,
    Failed(Failure),
}

/// The socket between init and its creator. It is close-on-exec: that it ends says that the program runs.
pub(crate) struct Control(OwnedFd);

impl Control {
    fn pair() -> Result<(Self, Self)> {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map(|(a, b)| (Self(a), Self(b)))
            .context("socketpair", "")
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// A creator that has gone hears nothing; the child then ends by itself.
    pub(crate) fn send(&self, message: &Message, fd: Option<BorrowedFd>) {
        let Ok(bytes) = serde_json::to_vec(message) else { return };
        let fds: &[BorrowedFd] = match &fd {
            Some(fd) => std::slice::from_ref(fd),
            None => &[],
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        let _ = sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL);
    }

    /// None: the other side has gone, or has become its program.
    fn receive(&self) -> Result<Option<(Message, Option<OwnedFd>)>> {
        let mut bytes = vec![0; 64 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                result => break result.context("receive from", "init")?,
            }
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let fd = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let message = serde_json::from_slice(&bytes[..received.bytes])
            .map_err(|error| Failure::new(Kind::System, "init", format!("unreadable message from init: {error}")))?;
        Ok(Some((message, fd)))
    }

    fn go(&self) -> Result<()> {
        rustix::io::write(&self.0, b"g").context("release", "init")?;
        Ok(())
    }

    /// The creator may go; whoever connects to the listener takes its place, under the same number.
    pub(crate) fn hand_over(&self, listener: BorrowedFd) -> Result<()> {
        let next = accept_with(listener, SocketFlags::CLOEXEC).context("accept", "start")?;
        place_fd(next.as_fd(), self.0.as_raw_fd(), false).context("dup", "control socket")
    }

    /// Plain read: recvmsg may already be forbidden by the container's seccomp filter.
    pub(crate) fn wait_for_go(&self) -> bool {
        let mut byte = [0];
        loop {
            match rustix::io::read(&self.0, &mut byte) {
                Err(rustix::io::Errno::INTR) => {}
                result => return matches!(result, Ok(1)),
            }
        }
    }
}
