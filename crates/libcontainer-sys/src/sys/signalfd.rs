//! SIGCHLD as a descriptor, for a poll loop.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// The mask of this thread becomes SIGCHLD alone; the descriptor is readable when one is pending.
/// For the single thread of the shim only; children put their own mask back.
pub fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: all-zero is an empty set on Linux.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is a valid place.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    // SAFETY: the set is valid; the old one is not asked for.
    if unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the set is valid.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Empties a signalfd. Signals are not counted: whoever hears one looks at every child.
pub fn drain(fd: &OwnedFd) {
    let mut information = [0_u8; 512];
    while matches!(rustix::io::read(fd, &mut information), Ok(1..)) {}
}

/// The shim learns of a closed pipe by EPIPE.
pub fn ignore_sigpipe() {
    // SAFETY: SIG_IGN needs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}
