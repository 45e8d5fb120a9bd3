//! User namespaces: the maps of a new one, and namespaces that exist only to carry maps for a mount.

use crate::failure::{Context, Result};
use crate::spec::IdMapping;
use crate::sys::clone::{Cloned, clone3, exit_now};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::{AsFd, OwnedFd};

/// Whether this process is in one that is not the host's: that one alone maps all ids to themselves.
pub fn is_inner() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether the caller has the rights of an ordinary user on the host, whoever he is in a user namespace.
pub fn is_unprivileged() -> bool {
    !rustix::process::geteuid().is_root() || is_inner()
}

/// What the namespace above knows this process's user by.
pub fn outer_uid() -> u32 {
    let uid = rustix::process::geteuid().as_raw();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let lines = map.lines().map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect());
    lines.into_iter().find_map(|line: Vec<u32>| outer_of(uid, &line)).unwrap_or(uid)
}

/// By one line of a map: the first id inside, the first outside, how many.
fn outer_of(uid: u32, line: &[u32]) -> Option<u32> {
    let [inside, outside, count] = *line else { return None };
    let at = uid.checked_sub(inside).filter(|at| *at < count)?;
    outside.checked_add(at)
}

/// Writes both maps of a process's new user namespace. Who is not privileged in the namespace above may map his own ids alone,
/// and no groups may be set then (user_namespaces(7)).
pub fn map(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        let path = format!("/proc/{pid}/setgroups");
        std::fs::write(&path, "deny").context("write to", &path)?;
    }
    for (file, mappings) in [("uid_map", uids), ("gid_map", gids)] {
        let path = format!("/proc/{pid}/{file}");
        let lines: String = mappings
            .iter()
            .map(|mapping| format!("{} {} {}\n", mapping.container_id, mapping.host_id, mapping.size))
            .collect();
        std::fs::write(&path, &lines).context(&format!("write {lines:?} to"), &path)?;
    }
    Ok(())
}

/// A namespace with these maps and nobody in it: what mount_setattr takes.
pub fn holding(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    let (wait, until) = pipe_with(PipeFlags::CLOEXEC).context("pipe", "")?;
    match clone3(libc::CLONE_NEWUSER as u64, None).context("clone3", "a user namespace")? {
        Cloned::Child => {
            drop(until);
            let _ = rustix::io::read(&wait, &mut [0]);
            exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => {
            let path = format!("/proc/{pid}/ns/user");
            let made = map(pid, uids, gids).and_then(|()| {
                openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("open", &path)
            });
            drop(until);
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            made
        }
    }
}
