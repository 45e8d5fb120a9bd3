//! The command line of an OCI runtime, as runc has it: what dockerd, containerd and podman call.
//!
//! ```text
//! <root>/<id>/state.json     what `state` answers from, and the copy of config.json that exec needs
//! <root>/<id>/start.sock     init waits here until `start`; gone once it was released
//! ```

mod args;
mod create;
mod events;
mod exec;
mod foreground;
mod inspect;
mod lifecycle;
mod log;
mod net_devices;
mod place;
mod seal;
mod state;
mod systemd;
mod update;

use crate::failure::{Failure, Kind, Result};
use args::Args;

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

const USAGE: &str = "\
Usage: caisson-runtime [--root DIR] [--log FILE] [--log-format text|json] [--systemd-cgroup] COMMAND

  create  [--bundle DIR] [--pid-file FILE] [--pidfd-socket PATH] [--console-socket PATH] [--preserve-fds N]
          [--no-pivot] [--no-new-keyring] ID
  start   ID
  run     as create, and [--detach] [--keep] ID
  exec    [--process FILE] [--pid-file FILE] [--pidfd-socket PATH] [--console-socket PATH] [--detach] [--tty]
          [--cwd DIR] [--env K=V] [--user UID[:GID]] [--additional-gids GID] [--cap CAP] [--no-new-privs]
          [--apparmor PROFILE] [--process-label LABEL] [--preserve-fds N] [--cgroup PATH] [--ignore-paused]
          ID [COMMAND ARG...]
  state   ID
  list    [--quiet] [--format table|json]
  ps      [--format table|json] ID [PS-OPTION...]
  events  [--stats] [--interval DURATION] ID
  kill    [--all] ID [SIGNAL]
  delete  [--force] ID
  pause   ID
  resume  ID
  update  [--resources FILE|-] [--memory SIZE] [--memory-swap SIZE] [--memory-reservation SIZE] [--cpu-share N]
          [--cpu-quota N] [--cpu-period N] [--cpu-burst N] [--cpu-idle N] [--cpu-rt-period N] [--cpu-rt-runtime N]
          [--cpuset-cpus LIST] [--cpuset-mems LIST] [--blkio-weight N] [--pids-limit N] ID
  spec    [--bundle DIR]
  features";

/// Runs the command line; the exit code.
pub fn main(words: Vec<String>) -> i32 {
    // inherited by what is cloned: nobody in a container may look into a process on its way there (CVE-2016-9962)
    if let Err(error) = crate::sys::prctl::set_dumpable(false) {
        return report(&Failure::io("prctl", "not dumpable", error));
    }
    let mut global = match Args::parse_global(words) {
        Ok(global) => global,
        Err(failure) => return report(&failure),
    };
    if let Err(failure) = log::set_up(&global) {
        return report(&failure);
    }
    let is_exec = global.rest.first().is_some_and(|command| command == "exec");
    match dispatch(&mut global) {
        Ok(code) => code,
        Err(failure) => {
            let code = report(&failure);
            // an exit code of the program's own must not be taken for it
            if is_exec { 255 } else { code }
        }
    }
}

fn dispatch(global: &mut Args) -> Result<i32> {
    if global.has("version") {
        println!("caisson-runtime version {VERSION}\nspec: {}", crate::spec::VERSION);
        return Ok(0);
    }
    check_global(global)?;
    let systemd = global.has("systemd-cgroup") || global.value("cgroup-manager") == Some("systemd");
    if systemd {
        systemd::check_running()?;
    }
    let driver = create::Driver { systemd, rootless: global.rootless() };
    let words = std::mem::take(&mut global.rest);
    let Some((command, words)) = words.split_first() else {
        println!("{USAGE}");
        return Ok(if global.has("help") { 0 } else { 1 });
    };
    if words.first().is_some_and(|word| word == "-h" || word == "--help") {
        println!("{}", usage_of(command).ok_or_else(|| unknown_command(command))?);
        return Ok(0);
    }
    let words = words.to_vec();
    let root = global.root();
    if matches!(command.as_str(), "create" | "run" | "exec") {
        seal::enter_copy(command != "exec")?;
    }
    match command.as_str() {
        "create" => create::create(&root, driver, words),
        "run" => create::run(&root, driver, words),
        "start" => lifecycle::start(&root, words),
        "kill" => lifecycle::kill(&root, words),
        "delete" => lifecycle::delete(&root, words),
        "pause" => lifecycle::freeze(&root, words, true),
        "resume" => lifecycle::freeze(&root, words, false),
        "update" => update::update(&root, words),
        "exec" => exec::exec(&root, words),
        "events" => events::events(&root, words),
        "checkpoint" | "restore" => Err(Failure::new(
            Kind::Unsupported,
            "command",
            format!("{command}: CRIU is not supported by caisson-runtime"),
        )),
        "state" => inspect::state(&root, words),
        "list" => inspect::list(&root, global.value("root").is_some(), words),
        "ps" => inspect::ps(&root, words),
        "spec" => inspect::spec(words),
        "features" => inspect::features(),
        "help" => {
            println!("{USAGE}");
            Ok(0)
        }
        other => Err(unknown_command(other)),
    }
}

fn unknown_command(name: &str) -> Failure {
    Failure::invalid("command", format!("No help topic for '{name}': it is not a command of caisson-runtime"))
}

/// Its lines of the whole.
fn usage_of(command: &str) -> Option<String> {
    let mut lines = USAGE.lines().skip_while(|line| line.trim_start().split(' ').next() != Some(command));
    let first = lines.next()?;
    let rest = lines.take_while(|line| line.starts_with("   "));
    let lines: Vec<&str> = std::iter::once(first).chain(rest).map(str::trim).collect();
    Some(format!("caisson-runtime [GLOBAL-OPTION...] {}", lines.join("\n    ")))
}

fn check_global(global: &Args) -> Result<()> {
    let among = |name: &str, words: &[&str]| match global.value(name) {
        Some(word) if !words.contains(&word) => {
            Err(Failure::invalid("options", format!("--{name}: {word:?} is not one of {}", words.join(", "))))
        }
        _ => Ok(()),
    };
    among("log-format", &["text", "json"])?;
    among("rootless", &["true", "false", "auto"])?;
    among("cgroup-manager", &["cgroupfs", "systemd"])
}

fn report(failure: &Failure) -> i32 {
    log::fail(failure);
    1
}
