//! `create` and `run`.

use super::args::{Args, Known};
use super::place::Place;
use super::state::{State, make_directory, now, start_socket};
use super::systemd::Unit;
use super::{foreground, lifecycle, log, net_devices};
use crate::cgroup::{self, Cgroup};
use crate::container::{self, CreateOptions, Level, Manner, Pending, Stdio};
use crate::failure::{Context, Failure, Kind, Result};
use crate::resctrl;
use crate::spec::{self, DeviceRule, Identity, Memory, Rootfs, Spec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const OPTIONS: [Known; 10] = [
    ("bundle", "b", true),
    ("pid-file", "", true),
    ("pidfd-socket", "", true),
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
    identity: Identity,
    how: Manner,
    place: Place,
    args: Args,
}

/// Who makes cgroups.
#[derive(Clone, Copy)]
pub struct Driver {
    pub systemd: bool,
    /// An ordinary user, who may not be allowed to.
    pub rootless: bool,
}

pub fn create(root: &Path, driver: Driver, words: Vec<String>) -> Result<i32> {
    let request = read(driver, words)?;
    let dir = claim(root, &request)?;
    let undo = |failure| {
        let _ = request.place.remove();
        lifecycle::unmount_root(&request.spec, &request.bundle);
        let _ = fs::remove_dir_all(&dir);
        lifecycle::run_poststop(&request.spec, &request.identity);
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

pub fn run(root: &Path, driver: Driver, words: Vec<String>) -> Result<i32> {
    let request = read(driver, words)?;
    let dir = claim(root, &request)?;
    let outcome = run_in(&dir, &request);
    // a detached container stays, with what `delete` needs
    let stays = outcome.is_ok() && (request.args.has("detach") || request.args.has("keep"));
    if !stays {
        lifecycle::remove(root, &request.id, &request.place)?;
        lifecycle::unmount_root(&request.spec, &request.bundle);
        lifecycle::run_poststop(&request.spec, &request.identity);
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
    let pid = pending.pid;
    let started = || lifecycle::run_poststart(&request.spec, &request.identity, pid);
    foreground::start_and_wait(pending, detach, own_console, started)
}

fn read(Driver { systemd, rootless }: Driver, words: Vec<String>) -> Result<Request> {
    let args = Args::parse(words, &OPTIONS)?;
    let id = args.id(false)?.to_owned();
    super::state::check_id(&id)?;
    let how = Manner {
        preserved_fds: preserved_fds(&args)?,
        no_pivot: args.has("no-pivot"),
        keep_keyring: args.has("no-new-keyring"),
        mover: Some(net_devices::hand_over),
    };
    let bundle = fs::canonicalize(args.value("bundle").unwrap_or(".")).context("bundle", "")?;
    let path = bundle.join("config.json");
    let bytes = fs::read(&path).context("read", path.display())?;
    let (config, mut spec): (_, Spec) = spec::read(&bytes, &path.display().to_string())?;
    spec.check()?;
    warn_of_ignored(&spec.linux.resources.memory);
    let identity = Identity {
        id: id.clone(),
        bundle: bundle.to_string_lossy().into_owned(),
        annotations: spec.annotations.clone(),
    };
    strip_root(&mut spec, &bundle);
    let unit = systemd.then(|| Unit::asked_for(&spec.linux.cgroups_path, &id)).transpose()?;
    spec.linux.cgroups_path = match &unit {
        Some(unit) => unit.path()?,
        None => {
            let path = cgroup_path(&spec.linux.cgroups_path, &id);
            let go_without = rootless && spec.linux.cgroups_path.is_empty() && !cgroup::may_create(&path)?;
            if go_without { String::new() } else { path }
        }
    };
    let rules = &mut spec.linux.resources.devices;
    if rules.is_empty() {
        // an empty list denies: what a container always may is added by the cgroup
        rules.push(DeviceRule { allow: false, kind: None, major: None, minor: None, access: None });
    }
    let class = resctrl::Group::of(spec.linux.intel_rdt.as_ref(), &id);
    let place = Place { group: cgroup::open(&spec.linux.cgroups_path)?, unit, class };
    Ok(Request { id, bundle, config, spec, identity, how, place, args })
}

/// The specification has no more use for them, and documents of before it should still run.
pub fn warn_of_ignored(memory: &Memory) {
    if memory.kernel.or(memory.kernel_tcp).is_some_and(|limit| limit != 0) {
        let text = "/linux/resources/memory/kernel is ignored: Linux 5.16 has removed the limits of kernel memory";
        log::tell(Level::Warning, text);
    }
}

/// Callers may write mount points as paths of the host.
fn strip_root(spec: &mut Spec, bundle: &Path) {
    let Some(root) = spec.root_in(bundle) else { return };
    for mount in &mut spec.mounts {
        if let Ok(inside) = Path::new(&mount.destination).strip_prefix(&root) {
            mount.destination = format!("/{}", inside.display());
        }
    }
}

/// The id and the cgroup.
fn claim(root: &Path, request: &Request) -> Result<PathBuf> {
    let dir = make_directory(root, &request.id)?;
    refuse_taken(request.place.group.as_ref(), &request.spec.linux.cgroups_path).inspect_err(|_| {
        let _ = fs::remove_dir(&dir);
    })?;
    Ok(dir)
}

/// A cgroup of somebody else's: this container's limits would be his too, and with the container it would go.
fn refuse_taken(group: &dyn Cgroup, path: &str) -> Result<()> {
    let taken = |what: &str| Err(Failure::new(Kind::Conflict, "cgroup", format!("container's cgroup {what}: {path}")));
    if !group.pids()?.is_empty() {
        return taken("is not empty");
    }
    // whoever joins it would not run, and could not be killed
    if group.is_frozen()? { taken("unexpectedly frozen") } else { Ok(()) }
}

/// Those that were asked for, and those that a service manager passes.
pub fn preserved_fds(args: &Args) -> Result<u32> {
    let number = |name: &str, word: &str| {
        let parsed = word.parse::<u32>().ok().filter(|count| *count <= 1024);
        parsed.ok_or_else(|| Failure::invalid("options", format!("{name}: {word:?} is not a number up to 1024")))
    };
    let asked = number("--preserve-fds", args.value("preserve-fds").unwrap_or("0"))?;
    let listening = std::env::var("LISTEN_FDS").map_or(Ok(0), |word| number("LISTEN_FDS", &word))?;
    let count = asked + listening;
    for fd in 3..3 + count {
        if !fs::exists(format!("/proc/self/fd/{fd}")).unwrap_or(false) {
            let message = format!("unable to pass {count} descriptors: {fd} is not open");
            return Err(Failure::invalid("options", message));
        }
    }
    Ok(count)
}

/// A relative path lies below `/caisson-runtime`, as does a container without one. One of systemd's form is a name like any
/// other, as with runc: containerd writes it for a parent called `.slice` also where its driver is another.
fn cgroup_path(asked: &str, id: &str) -> String {
    match asked {
        "" => format!("/caisson-runtime/{id}"),
        asked if asked.starts_with('/') => asked.to_owned(),
        asked => format!("/caisson-runtime/{asked}"),
    }
}

fn build(request: &Request, listener: Option<BorrowedFd>) -> Result<Pending> {
    let (spec, group) = (&request.spec, request.place.group.as_ref());
    spec.check()?;
    let path = spec.root_in(&request.bundle).unwrap_or_default();
    let path = path.to_str().ok_or_else(|| Failure::invalid("root", "/root/path is not UTF-8"))?;
    // until init is in the cgroup
    let _keeper = request.place.create(&request.identity)?;
    request.place.set(&spec.linux.resources)?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let attach = request.place.attach("/");
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
        attach: attach.as_deref(),
        identity: &request.identity,
        how: request.how,
        notes: log::notes(),
    };
    let pending = match listener {
        Some(listener) => container::create_parked(&options, listener)?,
        None => container::create(&options)?,
    };
    match request.place.join_class(pending.pid) {
        Ok(()) => Ok(pending),
        Err(failure) => {
            end(pending);
            Err(failure)
        }
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
        unit: request.place.unit.clone(),
        config: request.config.clone(),
    };
    state.save(dir)?;
    write_pid_file(request.args.value("pid-file"), pending.pid)?;
    send_pidfd(request.args.value("pidfd-socket"), pending)
}

pub fn send_pidfd(path: Option<&str>, pending: &Pending) -> Result<()> {
    path.map_or(Ok(()), |path| container::send_to_socket(Path::new(path), b"pidfd", pending.pidfd.as_fd()))
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
    container::send_to_socket(path, b"/dev/ptmx", master)
}

fn listen_at(path: &Path) -> Result<OwnedFd> {
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context("socket", "")?;
    let (_dir, address) = container::short_address(path).context("socket address", path.display())?;
    bind(&socket, &address).context("bind", path.display())?;
    listen(&socket, 1).context("listen", path.display())?;
    Ok(socket)
}
