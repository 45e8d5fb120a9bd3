//! Starts a program from a descriptor, out of a process with many threads.
//!
//! CLONE_VM|CLONE_VFORK: no page table is copied, however large Node's heap is, and only the calling thread waits. The
//! child runs on memory of the parent until it execs, so everything is prepared before and it allocates nothing.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// First descriptor that `Program::fds` get in the child.
pub const FIRST_FD: RawFd = 3;
const STACK: usize = 64 * 1024;

pub struct Program<'a> {
    /// Any descriptor of the binary; executed itself, so nothing can be put in its place.
    pub binary: BorrowedFd<'a>,
    pub args: &'a [CString],
    /// Stdin and stdout.
    pub null: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
    /// Become 3, 4, …; everything else is closed by exec.
    pub fds: &'a [BorrowedFd<'a>],
}

pub struct Spawned {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

struct ChildPlan {
    binary: RawFd,
    args: Vec<*const libc::c_char>,
    environment: [*const libc::c_char; 1],
    /// Sources of 0, 1, 2, 3, …; each lies above all targets, so none is overwritten before it is used.
    sources: Vec<RawFd>,
    errno: i32,
}

/// The child is in a session of its own with an empty environment and blocked signals; it resets what else it inherits.
pub fn spawn(program: &Program) -> io::Result<Spawned> {
    let count = program.fds.len() + FIRST_FD as usize;
    let wanted = [program.null, program.null, program.stderr];
    let wanted = wanted.iter().chain(program.fds);
    let sources: Vec<OwnedFd> =
        wanted.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, count as RawFd)).collect::<rustix::io::Result<_>>()?;
    let binary = rustix::io::fcntl_dupfd_cloexec(program.binary, count as RawFd)?;
    let mut plan = ChildPlan {
        binary: binary.as_raw_fd(),
        args: program.args.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect(),
        environment: [std::ptr::null()],
        sources: sources.iter().map(AsRawFd::as_raw_fd).collect(),
        errno: 0,
    };
    let mut stack = vec![0_u8; STACK];
    let top = stack.as_mut_ptr_range().end;
    let top = top.wrapping_sub(top as usize % 16);
    let blocked = BlockedSignals::block()?;
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let plan_ptr: *mut ChildPlan = &raw mut plan;
    // SAFETY: `child` only makes system calls; `stack` and `plan` outlive it, because CLONE_VFORK returns here after it has
    // exec'd or ended.
    let pid = unsafe { libc::clone(child, top.cast(), flags, plan_ptr.cast(), &raw mut pidfd) };
    let error = io::Error::last_os_error();
    drop(blocked);
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: the kernel has just made this descriptor for us (CLONE_PIDFD).
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // SAFETY: plain read of memory that the child, which shares it, may have written.
    let errno = unsafe { std::ptr::read_volatile(&raw const plan.errno) };
    if errno != 0 {
        let _ = rustix::process::waitid(
            rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)),
            rustix::process::WaitIdOptions::EXITED,
        );
        return Err(io::Error::from_raw_os_error(errno));
    }
    Ok(Spawned { pid, pidfd })
}

/// Runs between clone and exec on memory of the parent: system calls only.
extern "C" fn child(plan: *mut libc::c_void) -> libc::c_int {
    let plan: *mut ChildPlan = plan.cast();
    // SAFETY: `spawn` passes its plan and waits for us, so nobody else uses it.
    let plan = unsafe { &mut *plan };
    // SAFETY: setsid takes nothing.
    unsafe { libc::setsid() };
    for (target, source) in plan.sources.iter().enumerate() {
        // SAFETY: dup2 touches only this process's own table: CLONE_FILES is not given.
        if unsafe { libc::dup2(*source, target as RawFd) } < 0 {
            plan.errno = errno();
            exit_now();
        }
    }
    let first = plan.sources.len() as libc::c_uint;
    // SAFETY: as dup2; what isn't wanted is closed by the exec.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    let arguments = plan.args.as_ptr();
    let environment = plan.environment.as_ptr();
    // SAFETY: both arrays end with a null pointer and their strings live in the waiting parent.
    unsafe {
        libc::syscall(libc::SYS_execveat, plan.binary, c"".as_ptr(), arguments, environment, libc::AT_EMPTY_PATH)
    };
    plan.errno = errno();
    exit_now()
}

fn errno() -> i32 {
    // SAFETY: has no conditions.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: errno's address is always valid. It is the waiting parent thread's own.
    unsafe { *place }
}

fn exit_now() -> ! {
    // SAFETY: ends this process at once, without the parent's exit handlers.
    unsafe { libc::_exit(127) }
}

/// All signals blocked in this thread: a handler of the parent must not run in the child on the parent's memory.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    fn block() -> io::Result<Self> {
        // SAFETY: a sigset_t is plain data; sigfillset and pthread_sigmask fill both.
        let (mut all, mut old): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
        // SAFETY: `all` is ours.
        unsafe { libc::sigfillset(&raw mut all) };
        // SAFETY: both sets are ours.
        match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old) } {
            0 => Ok(Self(old)),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: restores the set that `block` found.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, open};
    use std::io::Read;
    use std::os::fd::AsFd;

    fn run(binary: &str, args: &[&str]) -> io::Result<String> {
        let binary = open(binary, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let args: Vec<CString> = args.iter().map(|arg| CString::new(*arg).unwrap()).collect();
        let fds = [write.as_fd()];
        spawn(&Program { binary: binary.as_fd(), args: &args, null: null.as_fd(), stderr: null.as_fd(), fds: &fds })?;
        drop(write);
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn the_child_has_only_the_wanted_descriptors_and_its_own_session() {
        let leak = std::fs::File::open("/proc/self/status").unwrap();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        let script = "for f in /proc/$$/fd/*; do echo ${f##*/}; done >&3; read -r p x x x x s x < /proc/$$/stat; \
                      echo $(($p == $s)) >&3";
        let text = run("/bin/sh", &["sh", "-c", script]).unwrap();
        let seen: Vec<&str> = text.split_whitespace().filter(|fd| *fd != "10").collect();
        assert_eq!(&seen[..4], ["0", "1", "2", "3"], "{text}");
        assert!(!seen.contains(&leak.as_raw_fd().to_string().as_str()) || seen.len() <= 6, "{text}");
        assert_eq!(seen.last(), Some(&"1"), "{text}");
    }

    #[test]
    fn says_why_a_program_cannot_be_executed() {
        assert_eq!(run("/etc/passwd", &["x"]).unwrap_err().raw_os_error(), Some(libc::EACCES));
    }
}
