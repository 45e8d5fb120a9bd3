//! The calls that rustix does not have or cannot make safe.

pub mod xtables;

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// Sets an integer option of level SOL_NETLINK.
pub fn set_netlink_option(socket: impl AsFd, option: libc::c_int, value: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the pointer is to a c_int that lives across the call, and the length is that of a c_int.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Puts the calling thread into a new network namespace.
pub fn unshare_network() -> Result<(), Errno> {
    // SAFETY: CLONE_NEWNET changes neither the file table nor the memory of the process, only this thread's namespace.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// A descriptor that somebody else keeps open: the caller of a call that does not consume it.
#[cfg(feature = "napi")]
pub fn borrow<'a>(fd: std::os::fd::RawFd) -> std::os::fd::BorrowedFd<'a> {
    // SAFETY: the number is not -1, and if it was closed meanwhile every use of it fails with EBADF.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}
