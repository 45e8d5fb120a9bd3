//! What runs in the child between clone3 and execve: the container's init, and processes that join it (exec).
//!
//! The order of the steps is part of the contract (see `container_init` and `joining_process`). The creator is single-threaded,
//! so these functions may allocate; they end in execve or in a report over the control socket, never in a return to the caller.

mod capabilities;
mod joining;
pub mod limits;
mod program;
pub mod reaper;
mod scheduling;
mod security;
mod stdio;
pub mod user;

pub use joining::{JoinPlan, run_joining_process};

use crate::cgroup::Cgroup;
use crate::container::{Control, Manner, Message, namespaces};
use crate::failure::{Context, Failure, Result};
use crate::seccomp::Filter;
use crate::spec::{Hook, Identity, Linux, NamespaceKind, Personality, Process, Rootfs, Spec, UserSpec};
use crate::sys::{clone::exit_now, exec, prctl, signal, title::Layout};
use crate::{hooks, rootfs, rootfs::Sources};
use rustix::fs::Mode;
use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

pub struct InitPlan<'a> {
    pub spec: &'a Spec,
    pub rootfs: &'a Rootfs,
    /// None: its creator is an ordinary user, and init opens them itself: it has the rights to, in its user namespace.
    pub sources: Option<&'a Sources>,
    pub netns: Option<BorrowedFd<'a>>,
    pub user: Option<&'a UserSpec>,
    /// stdin, stdout, stderr; None with a terminal.
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
    pub reaper: bool,
    pub cgroup: &'a dyn Cgroup,
    pub joins: &'a [OwnedFd],
    /// The creator puts this process into its cgroup and says so.
    pub elsewhere: bool,
    pub seccomp: Option<&'a Filter>,
    /// Where to wait for the release in place of the control socket.
    pub listener: Option<BorrowedFd<'a>>,
    /// `CLONE_*` of the process that stays, when this one is only between.
    pub born_into: Option<u64>,
    pub identity: &'a Identity,
    pub how: Manner,
    /// Steps are told.
    pub debug: bool,
}

/// Never returns: the program runs, or the failure has been told.
pub fn run_container_init(plan: &InitPlan, control: Control) -> ! {
    let failure = container_init(plan, &control).unwrap_or_else(|failure| failure);
    control.send(&Message::Failed(failure), None);
    exit_now(125)
}

/// `Ok` carries the failure of execve: on success there is nobody to return to.
fn container_init(plan: &InitPlan, control: &Control) -> Result<Failure> {
    let spec = plan.spec;
    control.debug(plan.debug, || "nsexec container setup".into());
    leave_creator(plan.joins, plan.elsewhere.then_some(control))?;
    scheduling::reset_affinity();
    limits::set_oom_score_adj(spec.process.oom_score_adj)?;
    namespaces::join_by_path(spec, plan.netns)?;
    if let Some(flags) = plan.born_into {
        limits::raise_rlimits(&spec.process.rlimits)?;
        control.continue_in_child(flags)?;
    }
    control.debug(plan.debug, || "child process in init()".into());
    rustix::process::setsid().context("setsid", "")?;
    if spec.has_new(NamespaceKind::User) {
        // only root may write the maps of a process that is not dumpable
        prctl::set_dumpable(plan.sources.is_none()).context("prctl", "dumpable")?;
        control.ask(&Message::MapIds)?;
        prctl::set_dumpable(false).context("prctl", "not dumpable")?;
    }
    if spec.namespace(NamespaceKind::User).is_some() {
        become_root()?;
    }
    if plan.netns.is_none() && spec.has_new(NamespaceKind::Network) {
        prctl::loopback_up().context("set up", "lo")?;
    }
    if !spec.linux.net_devices.is_empty() {
        control.ask(&Message::NetDevices)?;
    }
    if spec.has_new(NamespaceKind::Cgroup) {
        // after joining: the cgroup of this moment becomes the root that the container sees
        prctl::unshare_cgroup_namespace().context("unshare", "cgroup namespace")?;
    }
    if !spec.hostname.is_empty() {
        rustix::system::sethostname(spec.hostname.as_bytes()).context("sethostname", &spec.hostname)?;
    }
    if !spec.domainname.is_empty() {
        rustix::system::setdomainname(spec.domainname.as_bytes()).context("setdomainname", &spec.domainname)?;
    }
    if !plan.how.keep_keyring {
        prctl::new_session_keyring(c"_ses.caisson").context("keyctl", "session keyring")?;
    }
    let layout = if plan.reaper { Layout::read() } else { None };
    let opened;
    let sources = match plan.sources {
        Some(sources) => sources,
        None => {
            opened = Sources::open(spec, plan.rootfs)?;
            &opened
        }
    };
    let (rootfs, cgroup, no_pivot) = (plan.rootfs, plan.cgroup, plan.how.no_pivot);
    let map_ids = |at: usize, tree: BorrowedFd| control.ask_with(&Message::MapMount { at }, Some(tree));
    let entry = rootfs::Entry { spec, rootfs, sources, cgroup, no_pivot, map_ids: &map_ids };
    let console = rootfs::enter(&entry, || run_creation_hooks(plan, control))?;
    control.debug(plan.debug, || "init: in the container's root".into());
    let channel = Channel {
        control,
        listener: plan.listener,
        preserved_fds: plan.how.preserved_fds,
        debug: plan.debug,
        linux: &spec.linux,
    };
    let mut prepared = prepare(&spec.process, plan.user, plan.stdio, console, &channel, plan.seccomp)?;
    prepared.personality = spec.linux.personality.as_ref();
    prepared.hooks = Some((&spec.hooks.start_container, plan.identity));
    if plan.reaper {
        let command = prepared.command();
        return Ok(reaper::run(layout, &command, || prepared.execute(control)));
    }
    Ok(prepared.execute(control))
}

/// Everything of the container stands but the step into its root.
fn run_creation_hooks(plan: &InitPlan, control: &Control) -> Result<()> {
    let hooks = &plan.spec.hooks;
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        control.ask(&Message::RuntimeHooks)?;
    }
    let state = || plan.identity.state("creating", own_pid());
    if hooks.create_container.is_empty() {
        Ok(())
    } else {
        hooks::run("createContainer", &hooks.create_container, &state())
    }
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Of a user namespace.
fn become_root() -> Result<()> {
    prctl::set_ids(0, 0, &[]).map_err(|(op, error)| Failure::io(op, "0:0 in the user namespace", error))
}

fn preserved(count: u32) -> impl Iterator<Item = RawFd> {
    3..3 + count as RawFd
}

/// Nothing of the creator stays: signals, cgroup; and nobody in the container may look into what is still ours.
fn leave_creator(joins: &[OwnedFd], awaited: Option<&Control>) -> Result<()> {
    prctl::set_dumpable(false).context("prctl", "not dumpable")?;
    signal::reset();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    for file in joins {
        rustix::io::write(file, b"0").context("join cgroup", "")?;
    }
    if let Some(control) = awaited
        && !control.wait_for_go()?
    {
        exit_now(125);
    }
    Ok(())
}

/// What ties a new process to whoever starts it.
struct Channel<'a> {
    control: &'a Control,
    listener: Option<BorrowedFd<'a>>,
    preserved_fds: u32,
    debug: bool,
    linux: &'a Linux,
}

/// Of a variable that stands there more than once the last counts.
fn last_of_each(env: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    let name = |entry: &'_ String| entry.split('=').next().unwrap_or_default().to_owned();
    let mut kept: Vec<String> = env.iter().rev().filter(|entry| seen.insert(name(entry))).cloned().collect();
    kept.reverse();
    kept
}

struct Prepared<'a> {
    program: program::Program,
    /// To be loaded at the last moment; None: there is none, or it stands already.
    seccomp: Option<&'a Filter>,
    hooks: Option<(&'a [Hook], &'a Identity)>,
    personality: Option<&'a Personality>,
    preserved_fds: u32,
    debug: bool,
}

/// From inside the container's root to the moment before execve; parks there until the creator says go.
fn prepare<'a>(
    process: &Process,
    user: Option<&UserSpec>,
    stdio: Option<[BorrowedFd; 3]>,
    console: Option<rootfs::Console>,
    channel: &Channel,
    seccomp: Option<&'a Filter>,
) -> Result<Prepared<'a>> {
    let control = channel.control;
    let identity = user::resolve(&process.user, user)?;
    let mut env = last_of_each(&process.env);
    if !env.iter().any(|entry| entry.starts_with("HOME=") && entry.len() > "HOME=".len()) {
        env.retain(|entry| entry != "HOME=");
        env.push(format!("HOME={}", identity.home));
    }
    limits::set_rlimits(&process.rlimits)?;
    if let Some(console) = &console {
        control.send(&Message::Console, Some(console.master.as_fd()));
    }
    stdio::place(stdio, console, process, &identity)?;
    let kept = [Some(control.as_fd()), channel.listener].map(|fd| fd.map_or(-1, |fd| fd.as_raw_fd()));
    exec::close_all_but(&kept.into_iter().chain(preserved(channel.preserved_fds)).collect::<Vec<_>>())
        .context("close", "descriptors of the creator")?;
    scheduling::apply(process, channel.linux)?;
    security::set_exec_label(process)?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).context("prctl", "no_new_privs")?;
    } else if let Some(filter) = seccomp {
        // needs CAP_SYS_ADMIN, which is about to go
        load_filter(filter, control, channel.debug)?;
    }
    let wanted = capabilities::Sets::parse(process.capabilities.as_ref())?;
    if !wanted.left_out.is_empty() {
        control.warn(&format!("ignoring unknown or unavailable capabilities: [{}]", wanted.left_out.join(" ")));
    }
    wanted.drop_bounding()?;
    let entered = program::enter_directory(&process.cwd);
    prctl::set_keep_caps(true).context("prctl", "keep capabilities")?;
    prctl::set_ids(identity.uid, identity.gid, &identity.groups)
        .map_err(|(op, error)| Failure::io(op, format!("{}:{}", identity.uid, identity.gid), error))?;
    prctl::set_keep_caps(false).context("prctl", "keep capabilities")?;
    if entered.is_err() {
        // a directory that only the user may enter (a FUSE mount of his)
        program::enter_directory(&process.cwd)?;
    }
    wanted.apply()?.iter().for_each(|warning| control.warn(warning));
    rustix::process::umask(Mode::from_raw_mode(process.user.umask.unwrap_or(0o022)));
    let program = program::Program::find(&process.args, &env)?;
    let mut late = seccomp.filter(|_| process.no_new_privileges);
    if let Some(filter) = late.filter(|filter| filter.listener.is_some()) {
        // whoever creates a container may wait for what its agent is told before he starts it
        load_filter(filter, control, channel.debug)?;
        late = None;
    }
    if channel.listener.is_some() {
        // before the creator hears that all is ready: whoever created the container may kill it from then on
        signal::end_on(&[libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM]).context("sigaction", "")?;
    }
    // its end, at execve, says that the program runs
    control.debug(channel.debug, || "init: closing the pipe to signal completion".into());
    control.send(&Message::Ready, None);
    if let Some(listener) = channel.listener {
        control.hand_over(listener)?;
    }
    if !control.wait_for_go()? {
        exit_now(125); // the creator has gone or wants no more
    }
    Ok(Prepared {
        program,
        seccomp: late,
        hooks: None,
        personality: None,
        preserved_fds: channel.preserved_fds,
        debug: channel.debug,
    })
}

impl Prepared<'_> {
    /// As it is written in the configuration.
    fn command(&self) -> Vec<String> {
        self.program.words().to_vec()
    }

    fn execute(&self, control: &Control) -> Failure {
        match self.last_steps(control) {
            Ok(()) => self.program.execute(),
            Err(failure) => failure,
        }
    }

    fn last_steps(&self, control: &Control) -> Result<()> {
        if let Some(personality) = self.personality {
            scheduling::set_personality(personality)?;
        }
        exec::keep_over_exec(preserved(self.preserved_fds)).context("fcntl", "preserved descriptors")?;
        self.seccomp.map_or(Ok(()), |filter| load_filter(filter, control, self.debug))?;
        if let Some((hooks, identity)) = self.hooks.filter(|(hooks, _)| !hooks.is_empty()) {
            // as the program itself: under its filter, with its environment unless they have their own
            hooks::run_with("startContainer", hooks, &identity.state("created", own_pid()), self.program.env())?;
        }
        Ok(())
    }
}

fn load_filter(filter: &Filter, control: &Control, debug: bool) -> Result<()> {
    control.debug(debug, || format!("seccomp filter flags: {}", filter.flags));
    let listener = crate::sys::seccomp::load(&filter.program, filter.flags).context("load", "seccomp filter")?;
    if let Some(listener) = listener {
        control.send(&Message::SeccompListener, Some(listener.as_fd()));
    }
    Ok(())
}

/// `CAP_…` of every capability that is known here.
pub fn capability_names() -> Vec<String> {
    capabilities::NAMES.iter().map(|name| format!("CAP_{name}")).collect()
}
