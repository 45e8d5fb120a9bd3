//! `create` and `run`.

use super::args::{Args, Known};
use super::state::{State, make_directory, now, start_socket};
use super::{foreground, lifecycle};
use crate::cgroup::{self, Cgroup};
use crate::container::{self, CreateOptions, Pending, Stdio};
use crate::failure::{Context, Failure, Result};
use crate::spec::{DeviceRule, Rootfs, Spec};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind,
    connect, listen, sendmsg, socket_with,
};
use serde::Deserialize;
use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const OPTIONS: [Known; 9] = [
    ("bundle", "b", true),
    ("pid-file", "", true),
    ("console-socket", "", true),
    ("preserve-fds", "", true),
    ("detach", "d", false),
    ("keep", "", false),
    ("no-pivot", "", false),
    ("no-new-keyring", "", false),
    ("no-subreaper", "", false),
];

struct Request {
    id: String,
    bundle: PathBuf,
    config: serde_json::Value,
    spec: Spec,
    group: Box<dyn Cgroup>,
    args: Args,
}

pub fn create(root: &Path, words: Vec<String>) -> Result<i32> {
    let request = read(words)?;
    let dir = make_directory(root, &request.id)?;
    let undo = |failure| {
        let _ = request.group.remove();
        let _ = fs::remove_dir_all(&dir);
        failure
    };
    create_in(root, &dir, &request).map_err(undo)?;
    Ok(0)
}

fn create_in(root: &Path, dir: &Path, request: &Request) -> Result<()> {
    let listener = listen_at(&start_socket(root, &request.id))?;
    let pending = build(request, Some(listener.as_fd()))?;
    let told = record(dir, request, &pending).and_then(|()| hand_over_console(request, &pending));
    if told.is_err() {
        end(pending);
    }
    told
}

/// Kills an init that will not be used, and reaps it, so that its cgroup can go.
fn end(pending: Pending) {
    let pidfd = pending.pidfd.try_clone();
    pending.abort();
    if let Ok(pidfd) = pidfd {
        let _ = rustix::process::waitid(
            rustix::process::WaitId::PidFd(pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        );
    }
}

pub fn run(root: &Path, words: Vec<String>) -> Result<i32> {
    let request = read(words)?;
    let dir = make_directory(root, &request.id)?;
    let outcome = run_in(&dir, &request);
    // a detached container stays, with what `delete` needs
    let stays = outcome.is_ok() && (request.args.has("detach") || request.args.has("keep"));
    if !stays {
        lifecycle::remove(root, &request.id, request.group.as_ref())?;
    }
    outcome
}

fn run_in(dir: &Path, request: &Request) -> Result<i32> {
    let detach = request.args.has("detach");
    if detach && request.spec.process.terminal && request.args.value("console-socket").is_none() {
        return Err(Failure::invalid("run", "a detached container with a terminal needs --console-socket"));
    }
    let pending = build(request, None)?;
    let told = record(dir, request, &pending).and_then(|()| hand_over_console(request, &pending));
    if let Err(failure) = told {
        end(pending);
        return Err(failure);
    }
    let own_console = request.args.value("console-socket").is_none();
    foreground::start_and_wait(pending, detach, own_console)
}

fn read(words: Vec<String>) -> Result<Request> {
    let args = Args::parse(words, &OPTIONS)?;
    let id = args.id(false)?.to_owned();
    super::state::check_id(&id)?;
    if args.value("preserve-fds").is_some_and(|count| count != "0") {
        return Err(Failure::invalid("options", "--preserve-fds is not supported: a container gets 0, 1 and 2 only"));
    }
    if args.has("no-pivot") {
        return Err(Failure::invalid("options", "--no-pivot is not supported"));
    }
    let bundle = fs::canonicalize(args.value("bundle").unwrap_or(".")).context("bundle", "")?;
    let path = bundle.join("config.json");
    let bytes = fs::read(&path).context("read", path.display())?;
    let unreadable = |error: serde_json::Error| Failure::invalid("config", format!("{}: {error}", path.display()));
    let config: serde_json::Value = serde_json::from_slice(&bytes).map_err(unreadable)?;
    let mut spec = Spec::deserialize(&config).map_err(unreadable)?;
    spec.linux.cgroups_path = cgroup_path(&spec.linux.cgroups_path, &id)?;
    let rules = &mut spec.linux.resources.devices;
    if rules.is_empty() {
        // an empty list denies: what a container always may is added by the cgroup
        rules.push(DeviceRule { allow: false, kind: None, major: None, minor: None, access: None });
    }
    let group = cgroup::open(&spec.linux.cgroups_path)?;
    Ok(Request { id, bundle, config, spec, group, args })
}

/// A relative path lies below `/caisson-runtime`, as does a container without one.
fn cgroup_path(asked: &str, id: &str) -> Result<String> {
    if asked.contains(':') {
        return Err(Failure::invalid("cgroup", format!("/linux/cgroupsPath: {asked:?} is for systemd's driver")));
    }
    Ok(match asked {
        "" => format!("/caisson-runtime/{id}"),
        asked if asked.starts_with('/') => asked.to_owned(),
        asked => format!("/caisson-runtime/{asked}"),
    })
}

fn build(request: &Request, listener: Option<BorrowedFd>) -> Result<Pending> {
    let (spec, group) = (&request.spec, request.group.as_ref());
    spec.refuse_unsupported()?;
    let path = spec.root.as_ref().map(|root| request.bundle.join(&root.path)).unwrap_or_default();
    let path = path.to_str().ok_or_else(|| Failure::invalid("root", "/root/path is not UTF-8"))?;
    group.create()?;
    if !group.pids()?.is_empty() {
        let message = format!("the cgroup {} has processes already", spec.linux.cgroups_path);
        return Err(Failure::new(crate::failure::Kind::Conflict, "cgroup", message));
    }
    group.set(&spec.linux.resources)?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let options = CreateOptions {
        spec,
        rootfs: &Rootfs::Path(path.to_owned()),
        netns: None,
        user: None,
        stdio: match spec.process.terminal {
            true => Stdio::Terminal,
            false => Stdio::Descriptors([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]),
        },
        reaper: false,
        cgroup: group,
    };
    match listener {
        Some(listener) => container::create_parked(&options, listener),
        None => container::create(&options),
    }
}

fn record(dir: &Path, request: &Request, pending: &Pending) -> Result<()> {
    let state = State {
        id: request.id.clone(),
        pid: pending.pid,
        start_time: pending.start_time,
        bundle: request.bundle.clone(),
        created: now(),
        cgroup: request.spec.linux.cgroups_path.clone(),
        config: request.config.clone(),
    };
    state.save(dir)?;
    write_pid_file(request.args.value("pid-file"), pending.pid)
}

/// Whole or not at all: its reader waits for it to appear.
pub fn write_pid_file(path: Option<&str>, pid: i32) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let temporary = format!("{path}.new");
    fs::write(&temporary, pid.to_string()).context("write", &temporary)?;
    fs::rename(&temporary, path).context("rename to", path)
}

fn hand_over_console(request: &Request, pending: &Pending) -> Result<()> {
    match (request.args.value("console-socket"), &pending.console) {
        (Some(path), Some(master)) => send_console(Path::new(path), master.as_fd()),
        (Some(_), None) => Err(Failure::invalid(
            "options",
            "--console-socket is for a process with a terminal: /process/terminal is false",
        )),
        _ => Ok(()),
    }
}

/// The receiver gets the terminal's master with a name as the message.
pub fn send_console(path: &Path, master: BorrowedFd) -> Result<()> {
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).context("socket", "")?;
    let address = SocketAddrUnix::new(path).context("socket address", path.display())?;
    connect(&socket, &address).context("connect to the console socket", path.display())?;
    let fds = [master];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(&socket, &[IoSlice::new(b"/dev/ptmx")], &mut ancillary, SendFlags::NOSIGNAL)
        .context("send the terminal to", path.display())
        .map(drop)
}

fn listen_at(path: &Path) -> Result<OwnedFd> {
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context("socket", "")?;
    let (_dir, address) = container::short_address(path).context("socket address", path.display())?;
    bind(&socket, &address).context("bind", path.display())?;
    listen(&socket, 1).context("listen", path.display())?;
    Ok(socket)
}
