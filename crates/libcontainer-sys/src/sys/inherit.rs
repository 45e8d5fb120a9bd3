//! Descriptors known by number: inherited over exec, or crossing from JS.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes over a descriptor by its number and marks it close-on-exec; fails when it is not open.
///
/// Whoever names the number gives it away: nothing else may own or close it from then on.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: plain syscall on a number.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and by the contract above it is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A close-on-exec duplicate of a descriptor that stays its owner's.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: plain syscall on a number.
    let fd = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
