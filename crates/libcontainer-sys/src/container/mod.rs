//! Containers and the processes in them, for a single-threaded creator (the shim, the runtime's command line).
//!
//! Lifecycle: `create` clones init, which builds everything up to its program and parks; `Pending::start` lets it execute and
//! says whether that worked; `Pending::abort` ends it. `exec` does the same for a process that joins.
//!
//! Where namespaces must be entered before a process can be born into them (exec, user namespaces, a pid namespace of others),
//! a process between enters them and clones the one that stays as the creator's own child (`Control::continue_in_child`).

mod agent;
mod attach;
mod control;
mod joining;
mod manner;
pub(crate) mod namespaces;
mod notes;

use crate::cgroup::{self, Cgroup};
use crate::failure::{Context, Failure, Kind, Result};
use crate::init::{InitPlan, JoinPlan, run_container_init, run_joining_process};
use crate::rootfs::Sources;
use crate::seccomp::{self, Filter};
use crate::spec::{Identity, NamespaceKind, Process, Rootfs, Spec, UserSpec};
use crate::sys::clone::Cloned;
use crate::{hooks, user_namespace};
use agent::Agent;
pub use attach::Attach;
use attach::{clone_into, membership, put_in_place};
pub(crate) use control::{Control, Message, send_to_socket};
pub use joining::{Joined, Joining};
pub use manner::Manner;
pub use notes::{Level, Notes};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What a new process has for stdin, stdout and stderr. `Terminal`: a pty of the container, whose master comes back.
pub enum Stdio<'a> {
    Descriptors([BorrowedFd<'a>; 3]),
    Terminal,
}

pub struct CreateOptions<'a> {
    pub spec: &'a Spec,
    pub rootfs: &'a Rootfs,
    /// The container's network namespace, when somebody has made it; else the specification says.
    pub netns: Option<BorrowedFd<'a>>,
    pub user: Option<&'a UserSpec>,
    pub stdio: Stdio<'a>,
    /// PID 1 is our own reaper (`--init`).
    pub reaper: bool,
    /// Made, with its limits written.
    pub cgroup: &'a dyn Cgroup,
    pub attach: Option<Attach<'a>>,
    pub identity: &'a Identity,
    pub how: Manner,
    pub notes: Notes,
}

pub struct ExecOptions<'a> {
    pub process: &'a Process,
    /// Of the container's init.
    pub pidfd: BorrowedFd<'a>,
    /// Of the container: its namespaces and its seccomp filter apply to the new process too.
    pub spec: &'a Spec,
    pub user: Option<&'a UserSpec>,
    pub stdio: Stdio<'a>,
    /// No seccomp filter (`exec --privileged`).
    pub privileged: bool,
    pub cgroup: &'a dyn Cgroup,
    pub attach: Option<Attach<'a>>,
    /// Where `cgroup` takes no process, that of init does.
    pub beside_init: bool,
    pub identity: &'a Identity,
    /// As `Manner::preserved_fds`.
    pub preserved_fds: u32,
    pub notes: Notes,
}

/// A process that is complete but for its execve. Dropped, it ends by itself: its control socket is gone.
pub struct Pending {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// Field 22 of /proc/pid/stat.
    pub start_time: u64,
    /// The terminal's master.
    pub console: Option<OwnedFd>,
    control: Control,
    notes: Notes,
}

impl Pending {
    /// Lets the process execute its program; comes back when it runs or has failed (it has ended then and wants reaping).
    pub fn start(self) -> Result<Started> {
        self.control.go()?;
        await_program(&self.control, self.notes)?;
        Ok(Started { pid: self.pid, pidfd: self.pidfd, start_time: self.start_time, console: self.console })
    }

    /// Ends it; the caller reaps.
    pub fn abort(self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }
}

pub struct Started {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub start_time: u64,
    pub console: Option<OwnedFd>,
}

/// Clones init into its namespaces and waits until it is parked before its program.
pub fn create(options: &CreateOptions) -> Result<Pending> {
    create_init(options, None)
}

/// As `create`, but init outlives its creator: it is released by `start_parked` of any process that reaches `listener`, a
/// listening SOCK_SEQPACKET socket. `Pending::start` is not for this one.
pub fn create_parked(options: &CreateOptions, listener: BorrowedFd) -> Result<Pending> {
    create_init(options, Some(listener))
}

/// Releases an init that `create_parked` has parked at the socket `path`; comes back when its program runs or has failed.
pub fn start_parked(path: &Path, notes: Notes) -> Result<()> {
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context("socket", "")?;
    let (_dir, address) = short_address(path).context("socket address", path.display())?;
    connect(&socket, &address).map_err(|error| match error {
        rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT => {
            Failure::new(Kind::Gone, "start", "the container is not waiting to be started")
        }
        error => Failure::io("connect", path.display(), error),
    })?;
    let control = Control(socket);
    control.go()?;
    await_program(&control, notes)
}

/// Until the socket ends, which says that the program runs.
fn await_program(control: &Control, notes: Notes) -> Result<()> {
    loop {
        match control.receive()? {
            None => return Ok(()),
            Some((Message::Note { level, text }, _)) => (notes.tell)(level, &text),
            Some((Message::Failed(failure), _)) => return Err(failure),
            Some(_) => return Err(Failure::new(Kind::System, "start", "init sent something unexpected")),
        }
    }
}

/// A socket's address holds 107 bytes: it is named through its directory's descriptor, which must live as long.
pub(crate) fn short_address(path: &Path) -> rustix::io::Result<(OwnedFd, SocketAddrUnix)> {
    let (dir, name) = (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default());
    let dir = openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = SocketAddrUnix::new(Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))?;
    Ok((dir, address))
}

fn create_init(options: &CreateOptions, listener: Option<BorrowedFd>) -> Result<Pending> {
    let spec = options.spec;
    spec.check()?;
    let filter = filter(spec)?;
    // an ordinary user has the rights to in his user namespace alone
    let by_init = spec.has_new(NamespaceKind::User) && !rustix::process::geteuid().is_root();
    let sources = if by_init { None } else { Some(Sources::open(spec, options.rootfs)?) };
    let (joins, birthplace) = membership(options.cgroup)?;
    let (ours, theirs) = Control::pair()?;
    let flags = namespaces::clone_flags(spec, options.netns.is_some());
    let between = namespaces::need_process_between(spec);
    let first = if between { 0 } else { flags };
    let (cloned, elsewhere) = clone_into(first, birthplace.as_ref(), options.attach).context("clone3", "init")?;
    match cloned {
        Cloned::Child => {
            drop(ours);
            let plan = InitPlan {
                spec,
                rootfs: options.rootfs,
                sources: sources.as_ref(),
                netns: options.netns,
                user: options.user,
                stdio: descriptors(&options.stdio),
                reaper: options.reaper,
                cgroup: options.cgroup,
                joins: &joins,
                elsewhere,
                seccomp: filter.as_ref(),
                listener,
                born_into: between.then_some(flags),
                identity: options.identity,
                how: options.how,
                debug: options.notes.debug,
            };
            run_container_init(&plan, theirs)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            if elsewhere {
                put_in_place((pid, &pidfd), &ours, options.attach)?;
            }
            let child = if between { await_birth(&ours, &pidfd, options.notes) } else { Ok((pid, pidfd)) };
            child
                .and_then(|child| {
                    let agent = Agent::of(filter.as_ref(), options.identity);
                    let agent = agent.map(|agent| Agent { pid: child.0, container: child.0, ..agent });
                    await_ready(ours, child, agent, options.notes, Some((options, sources.as_ref())))
                })
                .map_err(|failure| told_with_oom(failure, options))
        }
    }
}

/// A limit under which not even init fits is the cause of whatever else went wrong.
fn told_with_oom(failure: Failure, options: &CreateOptions) -> Failure {
    if options.cgroup.oom_kills() == 0 {
        return failure;
    }
    let limit = match options.spec.linux.resources.memory.limit {
        Some(limit) => format!("the limit is {limit} bytes"),
        None => "it has no limit of its own, a cgroup above has".to_owned(),
    };
    let message = format!("container init was OOM-killed (memory limit too low?): {limit}");
    Failure { message, ..failure }
}

/// Clones a process into a running container and waits until it is parked before its program.
pub fn exec(options: &ExecOptions) -> Result<Pending> {
    let Joining { control, pidfd, agent, .. } = join(options)?;
    let child = await_birth(&control, &pidfd, options.notes)?;
    let agent = agent.map(|agent| Agent { pid: child.0, ..agent });
    await_ready(control, child, agent, options.notes, None)
}

/// As `exec`, without waiting.
pub fn join(options: &ExecOptions) -> Result<Joining> {
    options.process.check()?;
    let filter = if options.privileged { None } else { filter(options.spec)? };
    let (joins, birthplace) = membership(options.cgroup)?;
    let (ours, theirs) = Control::pair()?;
    let container = pid_of(options.pidfd);
    let cloned = match clone_into(0, birthplace.as_ref(), options.attach) {
        // the container has handed its controllers to groups below: on v2 no process may be beside them
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => match options.beside_init {
            true => clone_into(0, Some(&cgroup::birthplace_of(container)?), None),
            false => return Err(cgroup::is_busy(options.cgroup, error)),
        },
        cloned => cloned,
    };
    let (cloned, elsewhere) = cloned.context("clone3", "exec")?;
    match cloned {
        Cloned::Child => {
            drop(ours);
            let plan = JoinPlan {
                process: options.process,
                pidfd: options.pidfd,
                init: container,
                spec: options.spec,
                user: options.user,
                stdio: descriptors(&options.stdio),
                joins: &joins,
                elsewhere,
                seccomp: filter.as_ref(),
                preserved_fds: options.preserved_fds,
                debug: options.notes.debug,
            };
            run_joining_process(&plan, theirs)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            if elsewhere {
                put_in_place((pid, &pidfd), &ours, options.attach)?;
            }
            let agent = Agent::of(filter.as_ref(), options.identity);
            let agent = agent.map(|agent| Agent { container, joins: true, ..agent });
            Ok(Joining { pidfd, pid: None, console: None, released: false, control: ours, agent })
        }
    }
}

/// The pid behind a pidfd, 0 when it has ended.
fn pid_of(pidfd: BorrowedFd) -> i32 {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap_or_default();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    pid.and_then(|pid| pid.trim().parse().ok()).filter(|pid| *pid > 0).unwrap_or(0)
}

fn descriptors<'a>(stdio: &'a Stdio) -> Option<[BorrowedFd<'a>; 3]> {
    match stdio {
        Stdio::Descriptors(descriptors) => Some(*descriptors),
        Stdio::Terminal => None,
    }
}

fn filter(spec: &Spec) -> Result<Option<Filter>> {
    match (&spec.linux.seccomp_file, &spec.linux.seccomp) {
        (Some(path), _) => seccomp::load_file(path).map(Some),
        (None, Some(section)) if !section.is_null() => {
            seccomp::compile(section, seccomp::Architecture::NATIVE).map(Some)
        }
        _ => Ok(None),
    }
}

/// The process between has ended; the one that stays.
fn await_birth(control: &Control, between: &OwnedFd, notes: Notes) -> Result<(i32, OwnedFd)> {
    let received = loop {
        match control.receive() {
            Ok(Some((Message::Note { level, text }, _))) => (notes.tell)(level, &text),
            received => break received,
        }
    };
    let how = reap(between);
    match received? {
        Some((Message::Born { pid }, Some(pidfd))) => Ok((pid, pidfd)),
        Some((Message::Failed(failure), _)) => Err(failure),
        _ => Err(Failure::new(Kind::System, "init", format!("the joining process ended{how}"))),
    }
}

/// Serves a new process until it is parked before its program. A failure leaves nothing of it.
fn await_ready(
    control: Control,
    (pid, pidfd): (i32, OwnedFd),
    agent: Option<Agent>,
    notes: Notes,
    created: Option<(&CreateOptions, Option<&Sources>)>,
) -> Result<Pending> {
    let mut console = None;
    let served = loop {
        let step = match control.receive() {
            Ok(Some((Message::Console, fd))) => {
                console = fd;
                Ok(())
            }
            Ok(Some((Message::MapIds, _))) => created.map_or(Ok(()), |(options, _)| {
                let linux = &options.spec.linux;
                user_namespace::map(pid, &linux.uid_mappings, &linux.gid_mappings).and_then(|()| control.go())
            }),
            Ok(Some((Message::MapMount { at }, fd))) => match (created, fd) {
                (Some((_, Some(sources))), Some(tree)) => {
                    sources.map_inside(at, tree.as_fd()).and_then(|()| control.go())
                }
                _ => Err(Failure::new(Kind::System, "init", "no tree whose ids could be mapped")),
            },
            Ok(Some((Message::NetDevices, _))) => created.map_or(Ok(()), |(options, _)| {
                options.how.move_devices(pid, &options.spec.linux.net_devices).and_then(|()| control.go())
            }),
            Ok(Some((Message::RuntimeHooks, _))) => created.map_or(Ok(()), |(options, _)| {
                let (all, state) = (&options.spec.hooks, options.identity.state("creating", pid));
                hooks::run("prestart", &all.prestart, &state)
                    .and_then(|()| hooks::run("createRuntime", &all.create_runtime, &state))
                    .and_then(|()| control.go())
            }),
            Ok(Some((Message::SeccompListener, fd))) => Agent::tell(agent.as_ref(), fd),
            Ok(Some((Message::Note { level, text }, _))) => {
                (notes.tell)(level, &text);
                Ok(())
            }
            Ok(Some((Message::Ready, _))) => break Ok(()),
            Ok(Some((Message::Failed(failure), _))) => Err(failure),
            Ok(Some((Message::Born { .. }, _))) => Err(Failure::new(Kind::System, "init", "born twice")),
            Ok(None) => {
                let how = reap(&pidfd);
                return Err(Failure::new(Kind::System, "init", format!("init ended before it was ready{how}")));
            }
            Err(failure) => Err(failure),
        };
        if step.is_err() {
            break step;
        }
    };
    match served.and_then(|()| start_time(pid)) {
        Ok(start_time) => Ok(Pending { pid, start_time, pidfd, console, control, notes }),
        Err(failure) => {
            let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
            reap(&pidfd);
            Err(failure)
        }
    }
}

/// Reaps a child that has ended or is about to, and says how it ended.
fn reap(pidfd: &OwnedFd) -> String {
    match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
        Ok(Some(status)) if status.terminating_signal().is_some() => {
            format!(" (signal {})", status.terminating_signal().unwrap_or(0))
        }
        Ok(Some(status)) => format!(" (exit status {})", status.exit_status().unwrap_or(0)),
        _ => String::new(),
    }
}

/// Field 22 of /proc/pid/stat, in clock ticks since boot: with the pid it names a process for good.
pub fn start_time(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).context("read", &path)?;
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(19))
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| Failure::new(Kind::System, "read", format!("{path}: unreadable")))
}
