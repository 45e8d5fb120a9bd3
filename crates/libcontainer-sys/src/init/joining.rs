//! A process that joins a running container: exec.

use super::{Channel, become_root, leave_creator, limits, prepare, preserved, scheduling};
use crate::container::{Control, Message, namespaces};
use crate::failure::{Context, Failure, Kind, Result};
use crate::rootfs;
use crate::seccomp::Filter;
use crate::spec::{NamespaceKind, Process, Spec, UserSpec};
use crate::sys::{clone::exit_now, exec};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::thread::move_into_thread_name_spaces;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

pub struct JoinPlan<'a> {
    pub process: &'a Process,
    /// Of the container's init.
    pub pidfd: BorrowedFd<'a>,
    pub init: i32,
    pub spec: &'a Spec,
    pub user: Option<&'a UserSpec>,
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
    pub joins: &'a [OwnedFd],
    /// The creator puts this process into its cgroup and says so.
    pub elsewhere: bool,
    pub seccomp: Option<&'a Filter>,
    pub preserved_fds: u32,
    /// Steps are told.
    pub debug: bool,
}

/// Never returns: the program runs, or the failure has been told.
pub fn run_joining_process(plan: &JoinPlan, control: Control) -> ! {
    let failure = joining_process(plan, &control).unwrap_or_else(|failure| failure);
    control.send(&Message::Failed(failure), None);
    exit_now(125)
}

/// A process in the container's pid namespace is seen by the container, which may be allowed to trace. So the one that comes
/// in is a child of this one, which has entered everything else and has let go of what is the host's (CVE-2016-9962).
fn joining_process(plan: &JoinPlan, control: &Control) -> Result<Failure> {
    let affinity = plan.process.exec_cpu_affinity.as_ref();
    let initial = affinity.map(|affinity| affinity.initial.as_str()).filter(|list| !list.is_empty());
    control.debug(plan.debug, || "nsexec container setup".into());
    if let Some(list) = initial {
        scheduling::set_affinity(list, "/process/execCPUAffinity/initial")?;
        control.debug(plan.debug, || format!("nsexec: affinity: {:#x}", scheduling::affinity_mask()));
    }
    let stdio = plan.stdio.iter().flatten().map(AsRawFd::as_raw_fd);
    let kept: Vec<RawFd> = stdio.chain([control.as_fd().as_raw_fd()]).chain(preserved(plan.preserved_fds)).collect();
    // before the cgroup, which may be frozen: a client whose exec has been given up must see its connection end
    let ways_in = plan.joins.iter().map(AsRawFd::as_raw_fd).chain([plan.pidfd.as_raw_fd()]);
    exec::close_all_but(&kept.iter().copied().chain(ways_in).collect::<Vec<_>>())
        .context("close", "descriptors of the creator")?;
    leave_creator(plan.joins, plan.elsewhere.then_some(control))?;
    if initial.is_none() {
        scheduling::reset_affinity();
    }
    limits::set_oom_score_adj(plan.process.oom_score_adj)?;
    limits::raise_rlimits(&plan.process.rlimits)?;
    let root = root_among_others(plan)?;
    move_into_thread_name_spaces(plan.pidfd, namespaces::joined(plan.spec)).map_err(|error| match error {
        rustix::io::Errno::SRCH => Failure::new(Kind::Gone, "setns", "the container is not running"),
        error => Failure::io("setns", "namespaces of the container", error),
    })?;
    if let Some(root) = root {
        rustix::process::fchdir(root).context("fchdir", "root")?;
        rustix::process::chroot(".").context("chroot", "")?;
    }
    exec::close_all_but(&kept).context("close", "ways into the container")?;
    control.continue_in_child(0)?;
    control.debug(plan.debug, || "child process in init()".into());
    rustix::process::setsid().context("setsid", "")?;
    if plan.spec.namespace(NamespaceKind::User).is_some() {
        become_root()?;
    }
    let console = if plan.process.terminal { Some(own_console()?) } else { None };
    let channel = Channel {
        control,
        listener: None,
        preserved_fds: plan.preserved_fds,
        debug: plan.debug,
        linux: &plan.spec.linux,
    };
    let mut prepared = prepare(plan.process, plan.user, plan.stdio, console, &channel, plan.seccomp)?;
    prepared.personality = plan.spec.linux.personality.as_ref();
    if let Some(affinity) = affinity.filter(|affinity| !affinity.last.is_empty()) {
        scheduling::set_affinity(&affinity.last, "/process/execCPUAffinity/final")?;
    }
    control.debug(plan.debug, || "setns_init: about to exec".into());
    Ok(prepared.execute(control))
}

/// The root of a container in a mount namespace that is not its own: to enter the namespace is not to enter the root.
fn root_among_others(plan: &JoinPlan) -> Result<Option<OwnedFd>> {
    if plan.spec.has_new(NamespaceKind::Mount) {
        return Ok(None);
    }
    let path = format!("/proc/{}/root", plan.init);
    openat(CWD, path.as_str(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context("open", path)
        .map(Some)
}

/// A terminal for an exec, from the container's own devpts (we are inside).
fn own_console() -> Result<rootfs::Console> {
    let root = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("open", "/")?;
    rootfs::open_console(root.as_fd())
}
