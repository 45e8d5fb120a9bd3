//! Hooks: programs that are run at fixed points of a container's life, with its state on their stdin.

use crate::failure::{Failure, Kind, Result, reason};
use crate::spec::Hook;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::Timespec;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};

/// In order; the first that fails is the last that runs. One without an environment has the caller's.
pub fn run(kind: &str, hooks: &[Hook], state: &Value) -> Result<()> {
    for (at, hook) in hooks.iter().enumerate() {
        run_one(hook, state).map_err(|why| failed(kind, at, hook, &why))?;
    }
    Ok(())
}

/// As `run`, but one without an environment has this one.
pub fn run_with(kind: &str, hooks: &[Hook], state: &Value, env: &[String]) -> Result<()> {
    for (at, hook) in hooks.iter().enumerate() {
        let env = hook.env.clone().unwrap_or_else(|| env.to_vec());
        run_one(&Hook { env: Some(env), ..hook.clone() }, state).map_err(|why| failed(kind, at, hook, &why))?;
    }
    Ok(())
}

/// All of them; what fails is told on stderr and does not keep the others.
pub fn run_all(kind: &str, hooks: &[Hook], state: &Value) {
    for (at, hook) in hooks.iter().enumerate() {
        if let Err(why) = run_one(hook, state) {
            eprintln!("caisson-runtime: warning: {}", failed(kind, at, hook, &why));
        }
    }
}

fn failed(kind: &str, at: usize, hook: &Hook, why: &str) -> Failure {
    let message = format!("error running {kind} hook #{at}: {}: {why}", hook.path);
    Failure { path: Some(hook.path.clone()), ..Failure::new(Kind::System, "hook", message) }
}

fn run_one(hook: &Hook, state: &Value) -> std::result::Result<(), String> {
    let words = |error: std::io::Error| reason(&error);
    // files, not pipes: a hook need not read its state, may say much, and may leave children behind that hold its streams
    let (mut stdin, mut stdout, mut stderr) = (file().map_err(words)?, file().map_err(words)?, file().map_err(words)?);
    stdin.write_all(state.to_string().as_bytes()).and_then(|()| stdin.rewind()).map_err(words)?;
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    if let Some(env) = &hook.env {
        command.env_clear().envs(env.iter().filter_map(|entry| entry.split_once('=')));
    }
    let outputs = (stdout.try_clone().map_err(words)?, stderr.try_clone().map_err(words)?);
    let mut child = command.stdin(stdin).stdout(outputs.0).stderr(outputs.1).spawn().map_err(words)?;
    match wait(&mut child, hook.timeout) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(format!("{}, stdout: {}, stderr: {}", ended(status), content(&mut stdout), content(&mut stderr)))
        }
        Err(why) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(why)
        }
    }
}

fn file() -> std::io::Result<File> {
    Ok(memfd_create("hook", MemfdFlags::CLOEXEC)?.into())
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal: {}", signal_words(signal.unwrap_or(0))),
    }
}

/// As the C library has them, of those by which programs end.
fn signal_words(signal: i32) -> String {
    let words = match signal {
        libc::SIGABRT => "aborted",
        libc::SIGKILL => "killed",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGSYS => "bad system call",
        libc::SIGTERM => "terminated",
        other => return other.to_string(),
    };
    words.into()
}

fn wait(child: &mut Child, timeout: Option<u64>) -> std::result::Result<ExitStatus, String> {
    let words = |error: std::io::Error| reason(&error);
    let Some(seconds) = timeout else { return child.wait().map_err(words) };
    let pid = Pid::from_raw(child.id() as i32).ok_or("no pid")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| words(error.into()))?;
    let limit = Timespec { tv_sec: seconds.try_into().unwrap_or(i64::MAX), tv_nsec: 0 };
    match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)).map_err(|error| words(error.into()))? {
        0 => Err(format!("hook ran past specified timeout of {seconds}.0s")),
        _ => child.wait().map_err(words),
    }
}

/// The first 4 KiB of what it said.
fn content(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let _ = file.rewind().and_then(|()| file.take(4096).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}
