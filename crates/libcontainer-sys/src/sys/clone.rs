//! clone3 without CLONE_VM: the child is a copy of the (single-threaded) caller and may do what the caller may.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `struct clone_args` of linux/sched.h, version 2 (Linux 5.7): 88 bytes.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

pub enum Cloned {
    Parent { pid: i32, pidfd: OwnedFd },
    Child,
}

/// Clones with these `CLONE_*` namespace flags; with `cgroup` (a v2 cgroup's directory) the child is born in it.
///
/// The caller must be single-threaded: a lock that another thread holds would stay locked in the child for ever.
/// Shim and runtime are; the addon never calls this.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd>) -> io::Result<Cloned> {
    let mut args = CloneArgs { flags, exit_signal: libc::SIGCHLD as u64, ..CloneArgs::default() };
    if let Some(cgroup) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP, Linux 5.7
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    call(args)
}

/// As `clone3`, but the child is one of the caller's parent, which gets its signal.
pub fn clone3_sibling(flags: u64) -> io::Result<Cloned> {
    call(CloneArgs { flags: flags | libc::CLONE_PARENT as u64, ..CloneArgs::default() })
}

fn call(mut args: CloneArgs) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    args.flags |= libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    // SAFETY: args is a valid clone_args of the size given; without CLONE_VM the child has its own memory.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel has stored a new descriptor, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// clone(2) as fork: None in the child. The caller must be single-threaded, as for clone3.
pub fn fork() -> io::Result<Option<i32>> {
    // SAFETY: no stack and no CLONE_VM: the child goes on from here on its own copy of the memory. All other arguments
    // are zero, so that their order, which differs between architectures, does not matter.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid as i32)),
    }
}

/// Ends this process at once: no destructors, no buffers, nothing of the parent's copy runs twice.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit does not return and touches no memory.
    unsafe { libc::_exit(code) }
}
