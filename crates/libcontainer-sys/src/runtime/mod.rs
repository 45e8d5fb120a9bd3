//! The command line of an OCI runtime, as runc has it: what dockerd, containerd and podman call.
//!
//! ```text
//! <root>/<id>/state.json     what `state` answers from, and the copy of config.json that exec needs
//! <root>/<id>/start.sock     init waits here until `start`; gone once it was released
//! ```

mod args;
mod create;
mod exec;
mod foreground;
mod inspect;
mod lifecycle;
mod seal;
mod state;

use crate::failure::{Failure, Result};
use args::Args;
use std::io::Write;

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

const USAGE: &str = "\
caisson-runtime [--root DIR] [--log FILE] [--log-format text|json] COMMAND

  create  [--bundle DIR] [--pid-file FILE] [--console-socket PATH] [--preserve-fds 0] ID
  start   ID
  run     [--bundle DIR] [--pid-file FILE] [--console-socket PATH] [--detach] [--keep] ID
  exec    [--process FILE] [--pid-file FILE] [--console-socket PATH] [--detach] [--tty] [--cwd DIR] [--env K=V]
          [--user UID[:GID]] [--cap CAP] [--no-new-privs] ID [COMMAND ARG...]
  state   ID
  list    [--quiet] [--format table|json]
  ps      [--format table|json] ID
  kill    [--all] ID [SIGNAL]
  delete  [--force] ID
  pause   ID
  resume  ID
  update  [--resources FILE|-] ID
  spec    [--bundle DIR]
  features";

/// Runs the command line; the exit code.
pub fn main(words: Vec<String>) -> i32 {
    // inherited by what is cloned: nobody in a container may look into a process on its way there (CVE-2016-9962)
    if let Err(error) = crate::sys::prctl::set_dumpable(false) {
        return report(None, &Failure::io("prctl", "not dumpable", error));
    }
    let mut global = match Args::parse_global(words) {
        Ok(global) => global,
        Err(failure) => return report(None, &failure),
    };
    match dispatch(&mut global) {
        Ok(code) => code,
        Err(failure) => report(Some(&global), &failure),
    }
}

fn dispatch(global: &mut Args) -> Result<i32> {
    if global.has("version") {
        println!("caisson-runtime version {VERSION}\nspec: 1.2.0");
        return Ok(0);
    }
    if global.has("systemd-cgroup") {
        return Err(Failure::invalid("options", "--systemd-cgroup is not supported: use the cgroupfs driver"));
    }
    let words = std::mem::take(&mut global.rest);
    let Some((command, words)) = words.split_first() else {
        println!("{USAGE}");
        return Ok(if global.has("help") { 0 } else { 1 });
    };
    let words = words.to_vec();
    let root = global.root();
    if matches!(command.as_str(), "create" | "run" | "exec") {
        seal::enter_copy(command != "exec")?;
    }
    match command.as_str() {
        "create" => create::create(&root, words),
        "run" => create::run(&root, words),
        "start" => lifecycle::start(&root, words),
        "kill" => lifecycle::kill(&root, words),
        "delete" => lifecycle::delete(&root, words),
        "pause" => lifecycle::freeze(&root, words, true),
        "resume" => lifecycle::freeze(&root, words, false),
        "update" => lifecycle::update(&root, words),
        "exec" => exec::exec(&root, words),
        "state" => inspect::state(&root, words),
        "list" => inspect::list(&root, words),
        "ps" => inspect::ps(&root, words),
        "spec" => inspect::spec(words),
        "features" => inspect::features(),
        "help" => {
            println!("{USAGE}");
            Ok(0)
        }
        other => Err(Failure::invalid("command", format!("{other:?} is not a command of caisson-runtime"))),
    }
}

/// On stderr, and in the log file from which dockerd and containerd take the text.
fn report(global: Option<&Args>, failure: &Failure) -> i32 {
    eprintln!("caisson-runtime: {}", failure.message);
    if let Some(path) = global.and_then(|global| global.value("log"))
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
    {
        let line = serde_json::json!({"level": "error", "msg": failure.message, "time": state::now()});
        let _ = writeln!(file, "{line}");
    }
    1
}
