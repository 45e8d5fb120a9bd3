//! How a new process gets into its cgroup.

use super::{Control, reap};
use crate::cgroup::Cgroup;
use crate::failure::Result;
use crate::sys::clone::{Cloned, clone3};
use std::os::fd::{AsFd, OwnedFd};

/// Puts a process into the cgroup, by its number, where the kernel does not let its creator have it born there: between the cgroup
/// of a user's login and those of his own systemd lies what is not his.
pub type Attach<'a> = &'a dyn Fn(i32) -> Result<()>;

/// How a child gets into the cgroup: by joining as its first step, and by being born there.
pub(super) fn membership(cgroup: &dyn Cgroup) -> Result<(Vec<OwnedFd>, Option<OwnedFd>)> {
    Ok((cgroup.join_files()?, cgroup.birthplace()?))
}

/// As clone3 into `birthplace`; with true the child is elsewhere and waits until it is put there.
pub(super) fn clone_into(
    flags: u64,
    birthplace: Option<&OwnedFd>,
    attach: Option<Attach>,
) -> std::io::Result<(Cloned, bool)> {
    match clone3(flags, birthplace.map(AsFd::as_fd)) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) && attach.is_some() => {
            clone3(flags, None).map(|cloned| (cloned, true))
        }
        cloned => cloned.map(|cloned| (cloned, false)),
    }
}

/// Of a child that waits for it. A failure leaves nothing of the child.
pub(super) fn put_in_place((pid, pidfd): (i32, &OwnedFd), control: &Control, attach: Option<Attach>) -> Result<()> {
    attach.map_or(Ok(()), |attach| attach(pid)).and_then(|()| control.go()).inspect_err(|_| {
        let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
        reap(pidfd);
    })
}
