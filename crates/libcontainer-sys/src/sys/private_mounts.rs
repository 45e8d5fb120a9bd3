//! A mount namespace for one thread.

use rustix::io;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread a mount namespace of its own; no mount made in it reaches the host's. The thread must end
/// with the work: it cannot go back.
pub fn enter() -> io::Result<()> {
    let flags = UnshareFlags::FS | UnshareFlags::NEWNS;
    // SAFETY: the file descriptor table stays shared; what is unshared (root, cwd, umask and mounts) belongs to no
    // object of the program.
    unsafe { unshare_unsafe(flags) }?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
}
