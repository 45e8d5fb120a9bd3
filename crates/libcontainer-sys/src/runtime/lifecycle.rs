//! `start`, `kill`, `delete`, `pause`, `resume`.

use super::args::Args;
use super::log;
use super::place::Place;
use super::state::{State, Status, check_id, directory, start_socket};
use crate::container;
use crate::failure::{Context, Failure, Kind, Result};
use crate::hooks;
use crate::spec::{Identity, NamespaceKind, Spec};
use crate::sys::signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{UnmountFlags, unmount};
use rustix::time::Timespec;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

pub fn start(root: &Path, words: Vec<String>) -> Result<i32> {
    let args = Args::parse(words, &[])?;
    let id = args.id(false)?;
    let state = State::load(root, id)?;
    match state.status(root) {
        Status::Created => {}
        status => return Err(wrong_status("start", id, status)),
    }
    let socket = start_socket(root, id);
    let result = container::start_parked(&socket, log::notes());
    fs::remove_file(&socket).context("remove", socket.display())?;
    result?;
    let spec = state.spec()?;
    if let Err(failure) = run_poststart(&spec, &state.identity(), state.pid) {
        // as the specification has it: the container is stopped and deleted
        destroy(root, id, &state)?;
        return Err(failure);
    }
    Ok(0)
}

/// A failure ends the container.
pub fn run_poststart(spec: &Spec, identity: &Identity, pid: i32) -> Result<()> {
    hooks::run("poststart", &spec.hooks.poststart, &identity.state("running", pid))
}

/// Once nothing of the container is left.
pub fn run_poststop(spec: &Spec, identity: &Identity) {
    hooks::run_all("poststop", &spec.hooks.poststop, &identity.state("stopped", 0));
}

fn wrong_status(op: &str, id: &str, status: Status) -> Failure {
    Failure::new(Kind::Conflict, op, format!("cannot {op} container {id}: it is {}", status.name()))
}

pub fn kill(root: &Path, words: Vec<String>) -> Result<i32> {
    let args = Args::parse(words, &[("all", "a", false)])?;
    let id = args.id(true)?;
    let number = signal_number(args.rest.get(1).map_or("TERM", String::as_str))?;
    let state = State::load(root, id)?;
    // in a pid namespace of others the end of init ends nobody else
    let own_pids = state.spec()?.has_new(NamespaceKind::Pid);
    let all = args.has("all") || (number == libc::SIGKILL && !own_pids);
    let init = state.init();
    let somebody = init.is_some() || args.has("all") || (all && !state.group()?.pids()?.is_empty());
    match init {
        _ if all && somebody => state.group()?.kill(number)?,
        Some(pidfd) => signal::send(pidfd.as_fd(), number).context("kill", state.pid)?,
        None => return Err(Failure::new(Kind::Gone, "kill", "container not running")),
    }
    if number == libc::SIGKILL && state.status(root) == Status::Paused {
        // a frozen process does not die before it is thawed
        state.group()?.freeze(false)?;
    }
    Ok(0)
}

const SIGNALS: [(&str, i32); 31] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

fn signal_number(word: &str) -> Result<i32> {
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = match word.parse::<i32>() {
        Ok(number) => Some(number).filter(|number| (0..=64).contains(number)),
        Err(_) => SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number),
    };
    number.ok_or_else(|| Failure::invalid("kill", format!("unknown signal {word:?}")))
}

pub fn delete(root: &Path, words: Vec<String>) -> Result<i32> {
    let args = Args::parse(words, &[("force", "f", false)])?;
    let id = args.id(false)?;
    let force = args.has("force");
    let state = match State::load(root, id) {
        Ok(state) => state,
        Err(failure) if failure.kind == Kind::NotFound && force => {
            // what a `create` that was killed half way has left
            check_id(id)?;
            let _ = fs::remove_dir_all(directory(root, id));
            return Ok(0);
        }
        Err(failure) => return Err(failure),
    };
    match state.status(root) {
        Status::Running | Status::Paused if !force => {
            return Err(Failure::new(
                Kind::Conflict,
                "delete",
                format!("cannot delete container {id} that is not stopped: {}", state.status(root).name()),
            ));
        }
        _ => {}
    }
    destroy(root, id, &state)?;
    Ok(0)
}

fn destroy(root: &Path, id: &str, state: &State) -> Result<()> {
    remove(root, id, &state.place()?)?;
    unmount_root(&state.spec()?, &state.bundle);
    run_poststop(&state.spec()?, &state.identity());
    Ok(())
}

/// Ends what still runs, then removes cgroup and state; the state last, so that a failure can be tried again.
pub fn remove(root: &Path, id: &str, place: &Place) -> Result<()> {
    let group = place.group.as_ref();
    if let Ok(state) = State::load(root, id)
        && let Some(pidfd) = state.init()
    {
        let paused = state.status(root) == Status::Paused;
        signal::send(pidfd.as_fd(), libc::SIGKILL).context("kill", state.pid)?;
        if paused {
            group.freeze(false)?;
        }
        wait_for_end(pidfd.as_fd())?;
    }
    // without a pid namespace of its own, or after an exec, others may be left
    if !group.pids()?.is_empty() {
        group.kill(libc::SIGKILL)?;
    }
    place.remove()?;
    let dir = directory(root, id);
    fs::remove_dir_all(&dir).context("remove", dir.display())
}

/// In a mount namespace of its own everything has gone with the container; in the host's it has not.
pub fn unmount_root(spec: &Spec, bundle: &Path) {
    if let (None, Some(path)) = (spec.namespace(NamespaceKind::Mount), spec.root_in(bundle)) {
        let _ = unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
}

fn wait_for_end(pidfd: BorrowedFd) -> Result<()> {
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    match poll(&mut fds, Some(&limit)).context("poll", "pidfd")? {
        0 => Err(Failure::new(Kind::System, "delete", "init did not end within 10 s of SIGKILL")),
        _ => Ok(()),
    }
}

pub fn freeze(root: &Path, words: Vec<String>, frozen: bool) -> Result<i32> {
    let args = Args::parse(words, &[])?;
    let id = args.id(false)?;
    let state = State::load(root, id)?;
    let (op, wanted) = if frozen { ("pause", Status::Running) } else { ("resume", Status::Paused) };
    match state.status(root) {
        status if status == wanted || (frozen && status == Status::Created) => {}
        status => return Err(wrong_status(op, id, status)),
    }
    state.group()?.freeze(frozen)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for word in ["KILL", "SIGKILL", "kill", "sigkill", "9"] {
            assert_eq!(signal_number(word).unwrap(), 9, "{word}");
        }
        for word in ["", "NOPE", "65", "-1"] {
            assert!(signal_number(word).is_err(), "{word}");
        }
    }
}
