//! What rustix does not tell of a socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// True while bytes that were written to a connected socket wait for its peer to read them.
pub fn has_unread(fd: BorrowedFd) -> io::Result<bool> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the number of TIOCOUTQ) writes one int to where its argument points, which outlives the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ as _, &raw mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(bytes > 0) }
}
