//! What is told beside results: failures, warnings, and with `--debug` each step. On stderr, or in the file that `--log` names, from
//! which dockerd and containerd take the text.

use super::args::Args;
use super::state;
use crate::container::{Level, Notes};
use crate::failure::{Context, Failure, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

struct Log {
    path: Option<PathBuf>,
    json: bool,
    debug: bool,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// A log that cannot be written is told before anything is done.
pub fn set_up(global: &Args) -> Result<()> {
    let log = Log {
        path: global.value("log").map(PathBuf::from),
        json: global.value("log-format") == Some("json"),
        debug: global.has("debug"),
    };
    let writable = log.path.as_ref().map_or(Ok(()), |path| open(path).map(drop).context("open", path.display()));
    let _ = LOG.set(log);
    writable
}

/// For each line anew: a descriptor that stays could be taken for one to be passed on.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

pub fn notes() -> Notes {
    Notes { tell: |level, text| tell(level, text), debug: LOG.get().is_some_and(|log| log.debug) }
}

pub fn tell(level: Level, text: &str) {
    match level {
        Level::Debug => write(true, "debug", text),
        Level::Warning => write(true, "warning", text),
    }
}

/// On stderr in any case.
pub fn fail(failure: &Failure) {
    eprintln!("caisson-runtime: error: {}", failure.message);
    write(false, "error", &failure.message);
}

fn write(to_stderr: bool, level: &str, text: &str) {
    let Some(log) = LOG.get() else { return };
    let time = state::now();
    let line = match log.json {
        true => serde_json::json!({"level": level, "msg": text, "time": time}).to_string(),
        false => format!("time={time:?} level={level} msg={text:?}"),
    };
    match log.path.as_deref().map(open) {
        Some(Ok(file)) => append(file, &line),
        None if to_stderr => eprintln!("{line}"),
        _ => {}
    }
}

/// One write a line: several may share the file.
fn append(mut file: File, line: &str) {
    let _ = file.write_all(format!("{line}\n").as_bytes());
}
