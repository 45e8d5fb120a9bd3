//! Signal state. Ignored signals and the mask survive execve, and Node ignores some: everything is put back explicitly.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Default dispositions for all signals and an empty mask.
pub fn reset() {
    // The kernel's own struct (handler, flags, restorer, mask), all zero: SIG_DFL. By a raw call, because the C library keeps
    // signals 32 to 34 for itself and would leave them ignored.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the struct is valid and needs no handler to stay; numbers that cannot be changed answer EINVAL.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), 8) };
    }
    // SAFETY: all-zero is an empty set on Linux.
    let empty: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid; the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut()) };
}

/// These end the caller even where it is the first of its pid namespace, which the kernel spares their default. Until execve.
pub fn end_on(signals: &[i32]) -> io::Result<()> {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: async-signal-safe, and there is nothing to come back to.
        unsafe { libc::_exit(128 + signal) }
    }
    // SAFETY: all-zero is a valid sigaction, without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = end as extern "C" fn(libc::c_int) as usize;
    for signal in signals {
        // SAFETY: the action is valid and its handler touches no memory; the old one is not asked for.
        if unsafe { libc::sigaction(*signal, &raw const action, std::ptr::null_mut()) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Blocks all signals that can be; a signalfd or sigwait takes them from then on.
pub fn block_all() -> io::Result<()> {
    // SAFETY: all-zero is a valid sigset_t, filled right after.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is a valid place.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: the set is valid; the old one is not asked for.
    let result = unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits for the next blocked signal and gives its number.
pub fn wait_any() -> io::Result<i32> {
    // SAFETY: all-zero is a valid sigset_t, filled right after.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is a valid place.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: the set is valid; no information is asked for.
    let signal = unsafe { libc::sigwaitinfo(&raw const all, std::ptr::null_mut()) };
    if signal < 0 { Err(io::Error::last_os_error()) } else { Ok(signal) }
}

/// kill(2): a negative pid is a process group.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: integers only.
    let result = unsafe { libc::kill(pid, signal) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// To the process of a pidfd, by the signal's number: those for real time have no names.
pub fn send(pidfd: BorrowedFd, signal: i32) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: integers and no siginfo, in place of which the kernel makes one as kill(2) does.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reaps one child: its pid and wait status, or None when none has ended.
pub fn reap_any() -> Option<(i32, i32)> {
    let mut status = 0;
    loop {
        // SAFETY: status is a valid place.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        // the signal that told of the child has been taken: nobody would ask again
        if pid >= 0 || io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) {
            return (pid > 0).then_some((pid, status));
        }
    }
}

/// The exit code that a shell would show for a wait status: 128 + n for a signal.
pub fn exit_code(status: i32) -> (i32, Option<i32>) {
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        (128 + signal, Some(signal))
    } else {
        (libc::WEXITSTATUS(status), None)
    }
}
