//! Which namespaces a container is born into, and which must be entered first.

use crate::failure::{Context, Result};
use crate::spec::{NamespaceKind, Spec};
use crate::sys::prctl;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space};
use std::os::fd::{AsFd, BorrowedFd};

/// Linux 5.6; of use in clone3 only, where the signal has a place of its own.
const CLONE_NEWTIME: libc::c_int = 0x80;

pub fn clone_flags(spec: &Spec, has_netns: bool) -> u64 {
    let mut flags = 0;
    for namespace in spec.linux.namespaces.iter().filter(|ns| ns.path.is_empty()) {
        flags |= match namespace.kind {
            NamespaceKind::Mount => libc::CLONE_NEWNS,
            NamespaceKind::Pid => libc::CLONE_NEWPID,
            NamespaceKind::Ipc => libc::CLONE_NEWIPC,
            NamespaceKind::Uts => libc::CLONE_NEWUTS,
            NamespaceKind::Network if has_netns => 0,
            NamespaceKind::Network => libc::CLONE_NEWNET,
            NamespaceKind::User => libc::CLONE_NEWUSER,
            // unshared by init itself once it has joined its cgroup
            NamespaceKind::Cgroup => 0,
            // a process that has offsets to write must do so before anybody is born into it
            NamespaceKind::Time if !spec.linux.time_offsets.is_empty() => 0,
            NamespaceKind::Time => CLONE_NEWTIME,
        } as u64;
    }
    flags
}

/// A pid namespace is entered by being born into it, offsets stand before a time namespace has a process, and what needs rights
/// on the host comes before a user namespace.
pub fn need_process_between(spec: &Spec) -> bool {
    let joins_pid = spec.namespace(NamespaceKind::Pid).is_some_and(|ns| !ns.path.is_empty());
    joins_pid || spec.namespace(NamespaceKind::User).is_some() || !spec.linux.time_offsets.is_empty()
}

/// Enters those that others have made; the user namespace last, as its rights end at its border.
pub fn join_by_path(spec: &Spec, netns: Option<BorrowedFd>) -> Result<()> {
    let mut joined: Vec<_> = spec.linux.namespaces.iter().filter(|ns| !ns.path.is_empty()).collect();
    joined.sort_by_key(|ns| ns.kind == NamespaceKind::User);
    let opened = joined.into_iter().map(|namespace| {
        openat(CWD, namespace.path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .context("open namespace", &namespace.path)
            .map(|fd| (namespace, fd))
    });
    for (namespace, fd) in opened.collect::<Result<Vec<_>>>()? {
        let kind = match namespace.kind {
            NamespaceKind::Network => LinkNameSpaceType::Network,
            NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
            NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            NamespaceKind::Cgroup => LinkNameSpaceType::ControlGroup,
            NamespaceKind::Time => LinkNameSpaceType::Time,
            NamespaceKind::Pid => LinkNameSpaceType::ProcessID,
            NamespaceKind::User => LinkNameSpaceType::User,
            NamespaceKind::Mount => LinkNameSpaceType::Mount,
        };
        move_into_link_name_space(fd.as_fd(), Some(kind)).context("setns", &namespace.path)?;
    }
    if let Some(netns) = netns {
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network)).context("setns", "network")?;
    }
    if !spec.linux.time_offsets.is_empty() {
        set_time_offsets(spec)?;
    }
    Ok(())
}

/// A new time namespace for the caller's children, with its clocks moved.
fn set_time_offsets(spec: &Spec) -> Result<()> {
    const FILE: &str = "/proc/self/timens_offsets";
    prctl::unshare_time_namespace().context("unshare", "time namespace")?;
    for (clock, offset) in &spec.linux.time_offsets {
        let line = format!("{clock} {} {}\n", offset.secs, offset.nanosecs);
        std::fs::write(FILE, &line).context(&format!("write {line:?} to"), FILE)?;
    }
    Ok(())
}

/// Those that an exec enters. Namespaces that are the host's anyway may be joined as well: it is the same one.
pub fn joined(spec: &Spec) -> ThreadNameSpaceType {
    let mut types = ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::PROCESS_ID;
    for namespace in &spec.linux.namespaces {
        types |= match namespace.kind {
            NamespaceKind::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
            NamespaceKind::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
            NamespaceKind::Network => ThreadNameSpaceType::NETWORK,
            NamespaceKind::Cgroup => ThreadNameSpaceType::CONTROL_GROUP,
            NamespaceKind::Time => ThreadNameSpaceType::TIME,
            NamespaceKind::User => ThreadNameSpaceType::USER,
            NamespaceKind::Pid | NamespaceKind::Mount => ThreadNameSpaceType::empty(),
        };
    }
    types
}
