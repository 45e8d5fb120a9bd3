//! A process that a runtime brings into its container (`exec`).

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use serde_json::{Value, json};

use super::super::config::ExecConfig;
use super::super::container::{Arriving, JoiningStreams, Pipes};
use super::bundle::{Bundle, complete};
use super::command::{Call, Command, Output};
use super::console::ConsoleSocket;
use super::read_pid;
use crate::container::Joined;
use crate::failure::{Context, Failure, Result};

const PID_FILE: &str = "exec.pid";

pub struct ForeignExec {
    call: Call,
    scratch: PathBuf,
    console: Option<ConsoleSocket>,
    /// The exit code of the call, which the shim has reaped.
    ended: Option<i32>,
}

impl ForeignExec {
    pub fn begin(
        command: &Command,
        bundle: &Bundle,
        config: &ExecConfig,
    ) -> Result<(Box<dyn Arriving>, JoiningStreams)> {
        let scratch = bundle.path().join(format!("exec-{}", config.exec_id));
        std::fs::create_dir(&scratch).context("mkdir", scratch.display())?;
        let begun = Self::begin_in(&scratch, command, bundle, config);
        if begun.is_err() {
            let _ = std::fs::remove_dir_all(&scratch);
        }
        begun
    }

    fn begin_in(
        scratch: &std::path::Path,
        command: &Command,
        bundle: &Bundle,
        config: &ExecConfig,
    ) -> Result<(Box<dyn Arriving>, JoiningStreams)> {
        let mut process: Value = serde_json::from_slice(config.process.get().as_bytes())
            .map_err(|error| Failure::invalid("exec", format!("process: {error}")))?;
        complete(&mut process, bundle.root(), &config.user)?;
        process["terminal"] = json!(config.tty);
        let file = scratch.join("process.json");
        std::fs::write(&file, process.to_string()).context("write", file.display())?;
        let mut words: Vec<OsString> = vec!["--detach".into(), "--process".into(), file.into()];
        words.extend(["--pid-file".into(), scratch.join(PID_FILE).into()]);
        let begin = |words, output: &Output| command.begin(scratch, "exec", words, output);
        let scratch = scratch.to_owned();
        if !config.tty {
            let pipes = Pipes::new(config.open_stdin)?;
            words.push(command.id());
            let call = begin(words, &Output::Process(&pipes))?;
            let exec = Self { call, scratch, console: None, ended: None };
            return Ok((Box::new(exec), JoiningStreams(Some(pipes.ours))));
        }
        let console = ConsoleSocket::listen(&scratch)?;
        words.extend(["--console-socket".into(), console.address().into(), command.id()]);
        let call = begin(words, &Output::Own)?;
        Ok((Box::new(Self { call, scratch, console: Some(console), ended: None }), JoiningStreams(None)))
    }
}

impl Arriving for ForeignExec {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.call.pidfd.as_fd()
    }

    fn pid(&self) -> i32 {
        0
    }

    fn advance(&mut self) -> Result<Option<Joined>> {
        let Some(code) = self.ended else { return Ok(None) };
        self.call.check(ExitStatus::from_raw(code << 8))?;
        let pid = read_pid(&self.scratch.join(PID_FILE))?.as_raw_nonzero().get();
        let console = self.console.take().map(ConsoleSocket::receive).transpose()?;
        Ok(Some(Joined { pid, console }))
    }

    fn child_ended(&mut self, pid: i32, code: i32) {
        if self.call.child.id().cast_signed() == pid {
            self.ended = Some(code);
        }
    }

    fn abort(mut self: Box<Self>) {
        // The shim reaps it.
        if self.ended.is_none() {
            let _ = self.call.child.kill();
        }
    }
}

impl Drop for ForeignExec {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}
