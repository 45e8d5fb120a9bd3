//! Process attributes that decide what others may see of a process on its way into a container.

use std::io;

/// Not dumpable: no ptrace, no `/proc/<pid>/{fd,exe,mem}` for others without CAP_SYS_PTRACE (CVE-2016-9962). execve resets it.
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    // SAFETY: takes integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, libc::c_ulong::from(dumpable), 0, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Capabilities stay permitted when the user changes from 0.
pub fn set_keep_caps(keep: bool) -> io::Result<()> {
    // SAFETY: takes integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(keep), 0, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The name that ps shows.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: the string is NUL-terminated; the kernel copies 16 bytes at most.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// A new session keyring, so that a container has not the keys of its creator. Hosts without keyrings have nothing to part from.
pub fn new_session_keyring(name: &std::ffi::CStr) -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: the string is NUL-terminated.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr(), 0, 0, 0) };
    let error = io::Error::last_os_error();
    // built without keyrings, or forbidden to us by an outer container: then there is none to reach either
    let harmless = matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES));
    if result < 0 && !harmless { Err(error) } else { Ok(()) }
}

/// All of user, group and supplementary groups of this process. Raw calls: the process is single-threaded, and libc's wrappers
/// would signal threads that do not exist.
pub fn set_ids(uid: u32, gid: u32, groups: &[u32]) -> Result<(), (&'static str, io::Error)> {
    let check = |op, result: libc::c_long| if result < 0 { Err((op, io::Error::last_os_error())) } else { Ok(()) };
    // SAFETY: the pointer and count describe the slice.
    match check("setgroups", unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }) {
        // denied in the user namespace of an ordinary user, whose groups stay
        Err((_, error)) if groups.is_empty() && error.raw_os_error() == Some(libc::EPERM) => {}
        set => set?,
    }
    // SAFETY: integers only.
    check("setresgid", unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: integers only.
    check("setresuid", unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// Makes the terminal at `fd` this session's own.
pub fn set_controlling_terminal(fd: std::os::fd::RawFd) -> io::Result<()> {
    // SAFETY: an ioctl with an integer argument.
    let result = unsafe { libc::ioctl(fd, libc::TIOCSCTTY, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Brings `lo` of the current network namespace up (ioctl: no netlink for one flag).
pub fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    use std::os::fd::AsRawFd;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a valid ifreq with a NUL-terminated name.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The cgroup of this moment becomes the root of a new cgroup namespace.
pub fn unshare_cgroup_namespace() -> io::Result<()> {
    unshare(libc::CLONE_NEWCGROUP)
}

/// A new time namespace for the children of this process.
pub fn unshare_time_namespace() -> io::Result<()> {
    const CLONE_NEWTIME: libc::c_int = 0x80;
    unshare(CLONE_NEWTIME)
}

fn unshare(flag: libc::c_int) -> io::Result<()> {
    // SAFETY: neither of the namespaces above takes anything away that memory of this process refers to.
    let result = unsafe { libc::unshare(flag) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
