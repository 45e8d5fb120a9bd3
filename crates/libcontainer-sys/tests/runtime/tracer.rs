//! A command under ptrace: which system calls it and its children make, and one of them that fails.

use super::bundle::text;
use nix::errno::Errno;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// After which a command hangs, on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(20);

/// Which call of which process: the same one in every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// 0: the command; then its children in the order of their birth.
    pub process: usize,
    pub number: i64,
    /// From 0, among the calls of this number.
    pub nth: usize,
}

#[derive(Debug, Clone, Copy)]
pub struct Injected {
    pub call: Call,
    pub error: Errno,
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { process, number, nth } = self.call;
        write!(f, "{:?} from call {nth} of syscall {number} in process {process}", self.error)
    }
}

pub struct Ended {
    pub code: i32,
    pub stderr: String,
    /// It, or a child of it after it had failed, was still there after the limit.
    pub hung: bool,
    pub calls: Vec<Call>,
}

struct Tracee {
    process: usize,
    counted: HashMap<i64, usize>,
    /// Not before `main` begins: what the loader of the program does is not ours.
    counting: bool,
    injecting: bool,
}

/// Runs a command to its end. Its children are followed until they execute a program.
pub fn trace(command: Command, fault: Option<Injected>) -> Ended {
    let mut stderr = tempfile();
    let main = start_stopped(command, stderr.try_clone().unwrap());
    let (ended, waiting) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let late = waiting.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
        late.then(|| kill(main, Signal::SIGKILL)).is_some()
    });
    let mut tracer = Tracer { main, fault, tracees: HashMap::new(), born: 0, calls: Vec::new() };
    tracer.adopt(main);
    let code = tracer.follow();
    drop(ended);
    let hung = watchdog.join().unwrap();
    let left = tracer.let_go(code == 0);
    let mut said = Vec::new();
    stderr.rewind().unwrap();
    stderr.read_to_end(&mut said).unwrap();
    Ended { code, stderr: text(&said), hung: hung || left, calls: tracer.calls }
}

/// The end of its output is not to be waited for: the container holds it.
fn tempfile() -> std::fs::File {
    rustix::fs::memfd_create("stderr", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into()
}

#[expect(clippy::zombie_processes, reason = "the tracer reaps it")]
fn start_stopped(command: Command, stderr: std::fs::File) -> Pid {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    let child = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options).unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    pid
}

struct Tracer {
    main: Pid,
    fault: Option<Injected>,
    tracees: HashMap<Pid, Tracee>,
    born: usize,
    calls: Vec<Call>,
}

impl Tracer {
    fn adopt(&mut self, pid: Pid) {
        let process = self.born;
        self.tracees.entry(pid).or_insert_with(|| {
            self.born += 1;
            Tracee { process, counted: HashMap::new(), counting: process > 0, injecting: false }
        });
    }

    /// Until the command has ended; its exit code.
    fn follow(&mut self) -> i32 {
        loop {
            // of this thread only: other tests have children too
            let status = waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).unwrap();
            if let Some(code) = self.handle(status) {
                return code;
            }
        }
    }

    fn handle(&mut self, status: WaitStatus) -> Option<i32> {
        let pid = status.pid()?;
        let mut deliver = None;
        match status {
            WaitStatus::Exited(_, code) => {
                self.tracees.remove(&pid);
                return (pid == self.main).then_some(code);
            }
            WaitStatus::Signaled(_, signal, _) => {
                self.tracees.remove(&pid);
                return (pid == self.main).then_some(128 + signal as i32);
            }
            WaitStatus::PtraceSyscall(_) => self.at_call(pid),
            WaitStatus::PtraceEvent(_, _, event) if event == Event::PTRACE_EVENT_EXEC as i32 => {
                if pid != self.main {
                    // from here on it is a program of the container's, or a hook
                    self.tracees.remove(&pid);
                    let _ = ptrace::detach(pid, None);
                    return None;
                }
                self.tracees.get_mut(&pid).unwrap().counting = false;
            }
            WaitStatus::PtraceEvent(_, _, event) if [1, 2, 3].contains(&event) => {
                if let Ok(child) = ptrace::getevent(pid) {
                    self.adopt(Pid::from_raw(child as i32));
                }
            }
            WaitStatus::PtraceEvent(..) => {}
            WaitStatus::Stopped(_, signal) => deliver = Some(signal),
            other => panic!("{other:?}"),
        }
        // it may have been killed meanwhile
        let _ = ptrace::syscall(pid, deliver);
        None
    }

    fn at_call(&mut self, pid: Pid) {
        let (Ok(info), Ok(mut regs)) = (ptrace::syscall_info(pid), ptrace::getregs(pid)) else { return };
        self.adopt(pid);
        let tracee = self.tracees.get_mut(&pid).unwrap();
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            if std::mem::take(&mut tracee.injecting) {
                regs.rax = (-(self.fault.unwrap().error as i64)) as u64;
                let _ = ptrace::setregs(pid, regs);
            }
            return;
        }
        let number = regs.orig_rax as i64;
        // what main does first
        tracee.counting |= number == libc::SYS_prctl && regs.rdi == libc::PR_SET_DUMPABLE as u64;
        if !tracee.counting {
            return;
        }
        let counted = tracee.counted.entry(number).or_default();
        let call = Call { process: tracee.process, number, nth: *counted };
        *counted += 1;
        if self.fault.is_some_and(|fault| fault.call == call) {
            // no call has this number
            regs.orig_rax = u64::MAX;
            tracee.injecting = ptrace::setregs(pid, regs).is_ok();
        }
        self.calls.push(call);
    }

    /// The container stays when the command has succeeded; else nobody may be left. True: somebody was.
    fn let_go(&mut self, succeeded: bool) -> bool {
        let mut left: HashSet<Pid> = self.tracees.keys().copied().collect();
        if !succeeded {
            return self.await_end();
        }
        left.retain(|pid| ptrace::interrupt(*pid).is_ok());
        while !left.is_empty() {
            let Ok(status) = waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) else { break };
            let pid = status.pid().unwrap();
            match status {
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {}
                WaitStatus::Stopped(_, signal) => drop(ptrace::detach(pid, Some(signal))),
                _ => drop(ptrace::detach(pid, None)),
            }
            left.remove(&pid);
        }
        false
    }

    fn await_end(&mut self) -> bool {
        let pids: Vec<Pid> = self.tracees.keys().copied().collect();
        let (ended, waiting) = channel::<()>();
        let watchdog = std::thread::spawn(move || {
            let late = waiting.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
            for pid in pids.into_iter().filter(|_| late) {
                let _ = kill(pid, Signal::SIGKILL);
            }
            late
        });
        while !self.tracees.is_empty() {
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Ok(status) => drop(self.handle(status)),
                Err(_) => break,
            }
        }
        drop(ended);
        watchdog.join().unwrap()
    }
}
