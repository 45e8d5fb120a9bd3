//! A mount namespace for one thread: a new one, or another's.

use std::os::fd::BorrowedFd;

use rustix::io;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Gives the calling thread a mount namespace of its own; no mount made in it reaches the host's. The thread must end
/// with the work: it cannot go back.
pub fn enter() -> io::Result<()> {
    let flags = UnshareFlags::FS | UnshareFlags::NEWNS;
    // SAFETY: the file descriptor table stays shared; what is unshared (root, cwd, umask and mounts) belongs to no
    // object of the program.
    unsafe { unshare_unsafe(flags) }?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
}

/// Takes the calling thread into a mount namespace, to its root. The thread must end with the work, as above.
pub fn join(namespace: BorrowedFd) -> io::Result<()> {
    // SAFETY: as above; what is unshared is root, cwd and umask.
    unsafe { unshare_unsafe(UnshareFlags::FS) }?;
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))
}
