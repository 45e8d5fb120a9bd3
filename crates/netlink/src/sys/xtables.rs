//! The socket options that iptables-legacy reads its tables by (`linux/netfilter_ipv4/ip_tables.h`).

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::last_errno;

/// Both families have the same numbers.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
const NAME_LEN: usize = 32;
const INFO_LEN: usize = 84;
/// `struct ipt_get_entries`: name, size, entries aligned to eight bytes.
const ENTRIES_AT: usize = 40;
const UNDERFLOW_AT: usize = 56;
const SIZE_AT: usize = 80;
const FORWARD: usize = 2;

pub struct Info {
    /// Where the policy of FORWARD lies in the table.
    pub forward_policy: u32,
    pub size: u32,
}

pub fn info(socket: BorrowedFd, is_v6: bool, table: &str) -> Result<Info, Errno> {
    let mut bytes = named(table, INFO_LEN);
    get(socket, is_v6, GET_INFO, &mut bytes)?;
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Ok(Info { forward_policy: word(UNDERFLOW_AT + 4 * FORWARD), size: word(SIZE_AT) })
}

pub fn entries(socket: BorrowedFd, is_v6: bool, table: &str, size: u32) -> Result<Vec<u8>, Errno> {
    let mut bytes = named(table, ENTRIES_AT + size as usize);
    bytes[NAME_LEN..NAME_LEN + 4].copy_from_slice(&size.to_ne_bytes());
    get(socket, is_v6, GET_ENTRIES, &mut bytes)?;
    Ok(bytes.split_off(ENTRIES_AT))
}

fn named(table: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[..table.len()].copy_from_slice(table.as_bytes());
    bytes
}

fn get(socket: BorrowedFd, is_v6: bool, option: libc::c_int, bytes: &mut [u8]) -> Result<(), Errno> {
    let level = if is_v6 { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
    let mut length = bytes.len() as libc::socklen_t;
    // SAFETY: `bytes` is writable for `length` bytes, and the kernel writes no more than that.
    let done =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, bytes.as_mut_ptr().cast(), &raw mut length) };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}
