//! What runs in the child between clone3 and execve: the container's init, and processes that join it (exec).
//!
//! The order of the steps is part of the contract (see `container_init` and `joining_process`). The creator is single-threaded,
//! so these functions may allocate; they end in execve or in a report over the control socket, never in a return to the caller.

mod capabilities;
mod limits;
mod program;
mod reaper;
pub mod user;

use crate::cgroup::Cgroup;
use crate::container::{Control, Message};
use crate::failure::{Context, Failure, Kind, Result};
use crate::rootfs;
use crate::seccomp::Instruction;
use crate::spec::{NamespaceKind, Process, Rootfs, Spec, UserSpec};
use crate::sys::{clone::exit_now, exec, prctl, signal};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

pub struct InitPlan<'a> {
    pub spec: &'a Spec,
    pub rootfs: &'a Rootfs,
    pub netns: Option<BorrowedFd<'a>>,
    pub user: Option<&'a UserSpec>,
    /// stdin, stdout, stderr; None with a terminal.
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
    pub reaper: bool,
    pub cgroup: &'a dyn Cgroup,
    pub joins: &'a [OwnedFd],
    pub seccomp: Option<&'a [Instruction]>,
    /// Where to wait for the release in place of the control socket.
    pub listener: Option<BorrowedFd<'a>>,
}

pub struct JoinPlan<'a> {
    pub process: &'a Process,
    /// Of the container's init.
    pub pidfd: BorrowedFd<'a>,
    pub namespaces: ThreadNameSpaceType,
    pub user: Option<&'a UserSpec>,
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
    pub joins: &'a [OwnedFd],
    pub seccomp: Option<&'a [Instruction]>,
}

/// Never returns: the program runs, or the failure has been told.
pub fn run_container_init(plan: &InitPlan, control: Control) -> ! {
    let failure = container_init(plan, &control).unwrap_or_else(|failure| failure);
    control.send(&Message::Failed(failure), None);
    exit_now(125)
}

pub fn run_joining_process(plan: &JoinPlan, control: Control) -> ! {
    let failure = joining_process(plan, &control).unwrap_or_else(|failure| failure);
    control.send(&Message::Failed(failure), None);
    exit_now(125)
}

/// `Ok` carries the failure of execve: on success there is nobody to return to.
fn container_init(plan: &InitPlan, control: &Control) -> Result<Failure> {
    leave_creator(plan.joins)?;
    enter_namespaces(plan)?;
    let spec = plan.spec;
    if !spec.hostname.is_empty() {
        rustix::system::sethostname(spec.hostname.as_bytes()).context("sethostname", &spec.hostname)?;
    }
    if !spec.domainname.is_empty() {
        rustix::system::setdomainname(spec.domainname.as_bytes()).context("setdomainname", &spec.domainname)?;
    }
    prctl::new_session_keyring(c"_ses.caisson").context("keyctl", "session keyring")?;
    limits::set_oom_score_adj(spec.process.oom_score_adj)?;
    let console = rootfs::enter(spec, plan.rootfs, plan.cgroup, spec.process.terminal)?;
    let channel = Channel { control, listener: plan.listener };
    let prepared = prepare(&spec.process, plan.user, plan.stdio, console, &channel, plan.seccomp)?;
    if plan.reaper {
        return Ok(reaper::run(|| prepared.execute()));
    }
    Ok(prepared.execute())
}

fn joining_process(plan: &JoinPlan, control: &Control) -> Result<Failure> {
    leave_creator(plan.joins)?;
    // from its birth this process is seen in the container: what it holds of the host goes before anything else happens
    let stdio = plan.stdio.iter().flatten().map(AsRawFd::as_raw_fd);
    let kept: Vec<RawFd> = stdio.chain([control.as_fd().as_raw_fd(), plan.pidfd.as_raw_fd()]).collect();
    exec::close_all_but(&kept).context("close", "descriptors of the creator")?;
    limits::set_oom_score_adj(plan.process.oom_score_adj)?;
    move_into_thread_name_spaces(plan.pidfd, plan.namespaces).context("setns", "namespaces of the container")?;
    let console = if plan.process.terminal { Some(own_console()?) } else { None };
    let channel = Channel { control, listener: None };
    let prepared = prepare(plan.process, plan.user, plan.stdio, console, &channel, plan.seccomp)?;
    Ok(prepared.execute())
}

/// Nothing of the creator stays: signals, session, cgroup; and nobody in the container may look into what is still ours.
fn leave_creator(joins: &[OwnedFd]) -> Result<()> {
    prctl::set_dumpable(false).context("prctl", "not dumpable")?;
    signal::reset();
    rustix::process::setsid().context("setsid", "")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    for file in joins {
        rustix::io::write(file, b"0").context("join cgroup", "")?;
    }
    Ok(())
}

fn enter_namespaces(plan: &InitPlan) -> Result<()> {
    for namespace in plan.spec.linux.namespaces.iter().filter(|ns| !ns.path.is_empty()) {
        let kind = match namespace.kind {
            NamespaceKind::Network => LinkNameSpaceType::Network,
            NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
            NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            NamespaceKind::Cgroup => LinkNameSpaceType::ControlGroup,
            NamespaceKind::Time => LinkNameSpaceType::Time,
            // joined by the creator before the clone: it concerns children only
            NamespaceKind::Pid => continue,
            other => {
                return Err(Failure::new(
                    Kind::Unsupported,
                    "namespace",
                    format!("joining a {other:?} namespace by path is not supported"),
                ));
            }
        };
        let fd = openat(CWD, namespace.path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .context("open namespace", &namespace.path)?;
        move_into_link_name_space(fd.as_fd(), Some(kind)).context("setns", &namespace.path)?;
    }
    if let Some(netns) = plan.netns {
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network)).context("setns", "network")?;
    } else if plan.spec.namespace(NamespaceKind::Network).is_some_and(|ns| ns.path.is_empty()) {
        prctl::loopback_up().context("set up", "lo")?;
    }
    if plan.spec.namespace(NamespaceKind::Cgroup).is_some_and(|ns| ns.path.is_empty()) {
        // after joining: the cgroup of this moment becomes the root that the container sees
        prctl::unshare_cgroup_namespace().context("unshare", "cgroup namespace")?;
    }
    Ok(())
}

/// A terminal for an exec, from the container's own devpts (we are inside).
fn own_console() -> Result<rootfs::Console> {
    let root = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("open", "/")?;
    rootfs::open_console(root.as_fd())
}

/// What ties a new process to whoever starts it.
struct Channel<'a> {
    control: &'a Control,
    listener: Option<BorrowedFd<'a>>,
}

struct Prepared<'a> {
    program: program::Program,
    seccomp: Option<&'a [Instruction]>,
    no_new_privileges: bool,
}

/// From inside the container's root to the moment before execve; parks there until the creator says go.
fn prepare<'a>(
    process: &Process,
    user: Option<&UserSpec>,
    stdio: Option<[BorrowedFd; 3]>,
    console: Option<rootfs::Console>,
    channel: &Channel,
    seccomp: Option<&'a [Instruction]>,
) -> Result<Prepared<'a>> {
    let control = channel.control;
    let identity = user::resolve(&process.user, user)?;
    let mut env = process.env.clone();
    if !env.iter().any(|entry| entry.starts_with("HOME=") && entry.len() > "HOME=".len()) {
        env.retain(|entry| entry != "HOME=");
        env.push(format!("HOME={}", identity.home));
    }
    limits::set_rlimits(&process.rlimits)?;
    if let Some(console) = &console {
        control.send(&Message::Console, Some(console.master.as_fd()));
    }
    place_stdio(stdio, console, process, &identity)?;
    let kept = [Some(control.as_fd()), channel.listener];
    exec::close_all_but(&kept.map(|fd| fd.map_or(-1, |fd| fd.as_raw_fd())))
        .context("close", "descriptors of the creator")?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).context("prctl", "no_new_privs")?;
    } else if let Some(filter) = seccomp {
        // needs CAP_SYS_ADMIN, which is about to go
        crate::sys::seccomp::load(filter, 0).context("load", "seccomp filter")?;
    }
    let wanted = capabilities::Sets::parse(process.capabilities.as_ref())?;
    wanted.drop_bounding()?;
    let entered = program::enter_directory(&process.cwd);
    prctl::set_keep_caps(true).context("prctl", "keep capabilities")?;
    prctl::set_ids(identity.uid, identity.gid, &identity.groups)
        .map_err(|(op, error)| Failure::io(op, format!("{}:{}", identity.uid, identity.gid), error))?;
    prctl::set_keep_caps(false).context("prctl", "keep capabilities")?;
    if entered.is_err() {
        // a directory that only the user may enter (a FUSE mount of his)
        program::enter_directory(&process.cwd)?;
    }
    wanted.apply()?;
    rustix::process::umask(Mode::from_raw_mode(process.user.umask.unwrap_or(0o022)));
    let program = program::Program::find(&process.args, &env)?;
    control.send(&Message::Ready, None);
    if let Some(listener) = channel.listener {
        control.hand_over(listener)?;
    }
    if !control.wait_for_go() {
        exit_now(125); // the creator has gone or wants no more
    }
    Ok(Prepared { program, seccomp, no_new_privileges: process.no_new_privileges })
}

impl Prepared<'_> {
    fn execute(&self) -> Failure {
        if self.no_new_privileges
            && let Some(filter) = self.seccomp
            && let Err(error) = crate::sys::seccomp::load(filter, 0)
        {
            return Failure::io("load", "seccomp filter", error);
        }
        self.program.execute()
    }
}

/// A pipe belongs to whoever writes into it, so that /dev/stdout can be opened again by a user other than root. Nothing
/// else changes hands: the host's /dev/null would (runc had that), or a file somebody redirected to.
fn give_pipe(fd: BorrowedFd, uid: u32) {
    let kind = rustix::fs::fstat(fd).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
    if matches!(kind, Ok(rustix::fs::FileType::Fifo | rustix::fs::FileType::Socket)) {
        let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None);
    }
}

/// Descriptors 0, 1 and 2.
fn place_stdio(
    stdio: Option<[BorrowedFd; 3]>,
    console: Option<rootfs::Console>,
    process: &Process,
    identity: &user::Identity,
) -> Result<()> {
    let Some(console) = console else {
        let stdio = stdio.ok_or_else(|| Failure::invalid("stdio", "neither a terminal nor descriptors were given"))?;
        for (number, fd) in stdio.into_iter().enumerate() {
            give_pipe(fd, identity.uid);
            exec::place_fd(fd, number as RawFd, true).context("dup", "stdio")?;
        }
        return Ok(());
    };
    for number in 0..3 {
        exec::place_fd(console.peer.as_fd(), number, true).context("dup", "terminal")?;
    }
    prctl::set_controlling_terminal(0).context("set controlling terminal", "")?;
    rustix::fs::fchown(&console.peer, Some(rustix::fs::Uid::from_raw(identity.uid)), None)
        .context("chown", "terminal")?;
    if let Some(size) = process.console_size {
        let size = rustix::termios::Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&console.master, size).context("set terminal size", "")?;
    }
    Ok(())
}

/// `CAP_…` of every capability that is known here.
pub fn capability_names() -> Vec<String> {
    capabilities::NAMES.iter().map(|name| format!("CAP_{name}")).collect()
}
