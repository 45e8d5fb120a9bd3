//! Descriptors that cross as numbers.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes a number over that a caller gave away (the boundary's contract: `consumed`).
pub fn take(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller has given the descriptor up; a number that is none only makes later calls fail with EBADF.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A close-on-exec duplicate of a number that stays its owner's.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 { Err(io::Error::last_os_error()) } else { Ok(take(copy)) }
}
