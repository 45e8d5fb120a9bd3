//! execve, descriptors on their way through it, and the C strings that it takes.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Argument or environment vectors as execve wants them. Made before, so that exec itself allocates nothing.
pub struct CStrings {
    strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl CStrings {
    /// Fails on a string with a NUL inside.
    pub fn new<S: AsRef<str>>(strings: &[S]) -> io::Result<Self> {
        let strings: Vec<CString> =
            strings.iter().map(|s| CString::new(s.as_ref())).collect::<Result<_, _>>().map_err(io::Error::other)?;
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Self { strings, pointers })
    }

    pub fn len(&self) -> usize {
        self.strings.len()
    }

    pub fn is_empty(&self) -> bool {
        self.strings.is_empty()
    }
}

/// Returns only when it failed.
pub fn execve(path: &CString, args: &CStrings, env: &CStrings) -> io::Error {
    // SAFETY: all three are NUL-terminated and live until the call returns or the process image is replaced.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Makes `fd` the number `target`, which stays open over exec if `inherit`.
pub fn place_fd(fd: BorrowedFd, target: RawFd, inherit: bool) -> io::Result<()> {
    if fd.as_raw_fd() == target {
        let flags = if inherit { 0 } else { libc::FD_CLOEXEC };
        // SAFETY: plain syscall on a number.
        return check(unsafe { libc::fcntl(target, libc::F_SETFD, flags) });
    }
    let flags = if inherit { 0 } else { libc::O_CLOEXEC };
    // SAFETY: plain syscall on numbers; whoever owned `target` in this process runs no destructor any more.
    check(unsafe { libc::dup3(fd.as_raw_fd(), target, flags) })
}

/// Takes close-on-exec off; fails on one that is not open.
pub fn keep_over_exec(numbers: impl Iterator<Item = RawFd>) -> io::Result<()> {
    for number in numbers {
        // SAFETY: plain syscall on a number.
        check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) })?;
    }
    Ok(())
}

/// Closes everything from `first` on.
pub fn close_from(first: RawFd) -> io::Result<()> {
    close_range(first as libc::c_uint, libc::c_uint::MAX)
}

/// Closes everything above stdio but `kept`; negative numbers stand for nothing.
pub fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<libc::c_uint> = kept.iter().filter(|fd| **fd > 2).map(|fd| *fd as libc::c_uint).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, libc::c_uint::MAX)
}

/// Linux 5.9.
fn close_range(first: libc::c_uint, last: libc::c_uint) -> io::Result<()> {
    // SAFETY: only for children before exec, which use none of the descriptors that go; no destructor of theirs runs.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } as libc::c_int)
}

/// Marks everything from `first` on close-on-exec.
pub fn cloexec_from(first: RawFd) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    let result =
        // SAFETY: changes flags of descriptors only.
        unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    check(result as libc::c_int)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
