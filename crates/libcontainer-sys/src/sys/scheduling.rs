//! sched_setattr, ioprio_set, set_mempolicy and personality, for which neither rustix nor libc has a face.

use std::io;

/// `struct sched_attr` of linux/sched/types.h, version 0.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub struct Attributes {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// Nanoseconds, as the two that follow.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// Of this (single-threaded) process.
pub fn set_policy(attributes: &Attributes) -> io::Result<()> {
    let attributes = Attributes { size: size_of::<Attributes>() as u32, ..*attributes };
    // SAFETY: attributes is a valid sched_attr of the size that stands in it.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

/// Class and priority in one number, of this process.
pub fn set_io_priority(value: i32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) })
}

/// Above what any kernel is built for.
pub const MAX_NODES: usize = 1024;

/// A bit a node.
pub type Nodes = [u64; MAX_NODES / 64];

/// From which nodes memory of this process comes, and of what it executes.
pub fn set_memory_policy(mode: libc::c_int, nodes: &Nodes) -> io::Result<()> {
    // the kernel takes one off the number of bits
    // SAFETY: nodes has as many bits as are told.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), MAX_NODES + 1) })
}

pub fn set_personality(domain: libc::c_ulong) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_personality, domain) })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
