//! `exec`: a further process in a running container.

use super::args::{Args, Known};
use super::place::Place;
use super::state::{State, Status};
use super::{create, foreground, log};
use crate::cgroup;
use crate::container::{self, ExecOptions, Stdio};
use crate::failure::{Context, Failure, Kind, Result};
use crate::spec::{self, Process, Spec};
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

const OPTIONS: [Known; 18] = [
    ("process", "p", true),
    ("pid-file", "", true),
    ("pidfd-socket", "", true),
    ("console-socket", "", true),
    ("cwd", "", true),
    ("env", "e", true),
    ("user", "u", true),
    ("additional-gids", "g", true),
    ("cap", "c", true),
    ("apparmor", "", true),
    ("process-label", "", true),
    ("preserve-fds", "", true),
    ("cgroup", "", true),
    ("detach", "d", false),
    ("tty", "t", false),
    ("no-new-privs", "", false),
    ("no-subreaper", "", false),
    ("ignore-paused", "", false),
];

pub fn exec(root: &Path, words: Vec<String>) -> Result<i32> {
    let args = Args::parse_front(words, &OPTIONS)?;
    let id = args.id(true)?;
    let state = State::load(root, id)?;
    match state.status(root) {
        Status::Running | Status::Created => {}
        Status::Paused if args.has("ignore-paused") => {}
        Status::Paused => {
            let message = "cannot exec in a paused container (use --ignore-paused to override)";
            return Err(Failure::new(Kind::Conflict, "exec", message));
        }
        Status::Stopped => {
            let message = format!("cannot exec in container {id}: cannot exec in a stopped container");
            return Err(Failure::new(Kind::Conflict, "exec", message));
        }
    }
    let Some(pidfd) = state.init() else {
        return Err(Failure::new(Kind::Gone, "exec", format!("container {id} is not running")));
    };
    let spec = state.spec()?;
    let process = process(&args, &spec)?;
    let (detach, console) = (args.has("detach"), args.value("console-socket"));
    if process.terminal && detach && console.is_none() {
        return Err(Failure::invalid("exec", "a detached process with a terminal needs --console-socket"));
    }
    let (place, below) = place(&state, &args)?;
    let attach = place.attach(&below);
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let pending = container::exec(&ExecOptions {
        process: &process,
        pidfd: pidfd.as_fd(),
        spec: &spec,
        user: None,
        stdio: match process.terminal {
            true => Stdio::Terminal,
            false => Stdio::Descriptors([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]),
        },
        privileged: false,
        cgroup: place.group.as_ref(),
        attach: attach.as_deref(),
        beside_init: args.value("cgroup").is_none(),
        identity: &state.identity(),
        preserved_fds: create::preserved_fds(&args)?,
        notes: log::notes(),
    })?;
    place.join_class(pending.pid)?;
    create::write_pid_file(args.value("pid-file"), pending.pid)?;
    create::send_pidfd(args.value("pidfd-socket"), &pending)?;
    if let (Some(path), Some(master)) = (console, &pending.console) {
        create::send_console(Path::new(path), master.as_fd())?;
    }
    foreground::start_and_wait(pending, detach, console.is_none(), || Ok(()))
}

/// The container's cgroup, or one below it that exists: `PATH`, on v1 also `CONTROLLER[,CONTROLLER]:PATH`. With the path below it.
fn place(state: &State, args: &Args) -> Result<(Place, String)> {
    let asked = args.values("cgroup");
    if asked.is_empty() {
        return Ok((state.place()?, String::new()));
    }
    let mut below = Vec::new();
    for word in asked {
        let (controllers, path) = match word.split_once(':') {
            Some((controllers, path)) => (Some(controllers), path),
            None => (None, word),
        };
        if path.is_empty() || path.split('/').any(|part| part == "..") {
            return Err(Failure::invalid(
                "exec",
                format!("bad sub cgroup path: --cgroup: {path} is not a sub cgroup path"),
            ));
        }
        below.push((controllers, path));
    }
    let path = below.iter().map(|(_, path)| (*path).to_owned()).next().unwrap_or_default();
    Ok((Place { group: cgroup::open_below(&state.cgroup, &below)?, ..state.place()? }, path))
}

/// A process file as it is, or the container's own process with what the options change.
fn process(args: &Args, spec: &Spec) -> Result<Process> {
    if let Some(path) = args.value("process") {
        let bytes = fs::read(path).context("read", path)?;
        return spec::read(&bytes, path).map(|(_, process)| process);
    }
    let mut process = spec.process.clone();
    process.args = args.rest[1..].to_vec();
    if process.args.is_empty() {
        return Err(Failure::invalid("exec", "the command is missing"));
    }
    process.terminal = args.has("tty");
    if let Some(cwd) = args.value("cwd") {
        cwd.clone_into(&mut process.cwd);
    }
    process.env.extend(args.values("env").into_iter().map(str::to_owned));
    process.no_new_privileges |= args.has("no-new-privs");
    if let Some(user) = args.value("user") {
        let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
        let number = |word: &str| {
            word.parse::<u32>()
                .map_err(|_| Failure::invalid("exec", format!("--user {user}: {word:?} is not a number")))
        };
        process.user.uid = number(uid)?;
        process.user.gid = number(gid)?;
        process.user.additional_gids.clear();
    }
    for word in args.values("additional-gids") {
        let gid = word.parse::<u32>();
        let gid = gid.map_err(|_| Failure::invalid("exec", format!("--additional-gids: {word:?} is not a number")))?;
        process.user.additional_gids.push(gid);
    }
    if let Some(profile) = args.value("apparmor") {
        profile.clone_into(&mut process.apparmor_profile);
    }
    if let Some(label) = args.value("process-label") {
        label.clone_into(&mut process.selinux_label);
    }
    let caps = args.values("cap");
    if !caps.is_empty() {
        let sets = process.capabilities.get_or_insert_default();
        for cap in caps {
            for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
                set.push(cap.to_owned());
            }
            // the kernel takes no ambient capability that is not inheritable, which this option makes none
            if !sets.inheritable.is_empty() {
                sets.ambient.push(cap.to_owned());
            }
        }
    }
    Ok(process)
}
