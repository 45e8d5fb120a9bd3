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

/// Sends one frame by a device; `protocol` is its EtherType.
pub fn send_frame(
    socket: impl AsFd,
    index: u32,
    protocol: u16,
    destination: [u8; 6],
    payload: &[u8],
) -> Result<(), Errno> {
    let mut sll_addr = [0; 8];
    sll_addr[..6].copy_from_slice(&destination);
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: libc::ARPHRD_ETHER,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr,
    };
    // SAFETY: both pointers are to memory that lives across the call, with the lengths that are given.
    let sent = unsafe {
        libc::sendto(
            socket.as_fd().as_raw_fd(),
            payload.as_ptr().cast(),
            payload.len(),
            libc::MSG_DONTWAIT,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(last_errno()) } else { Ok(()) }
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
