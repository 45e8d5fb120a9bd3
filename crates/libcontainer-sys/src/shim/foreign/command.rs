//! One call of a runtime's command line, and why it failed, in Docker's words.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use super::super::config::ForeignRuntime;
use super::super::container::Pipes;
use crate::failure::{Context, Failure, Kind, Result, reason};

/// Less than the daemon waits for an answer.
pub const CREATE_TIME: Duration = Duration::from_secs(50);
pub const SIGNAL_TIME: Duration = Duration::from_secs(8);
/// The shim has no environment, and runtimes look for helpers of their own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const LOG_FILE: &str = "log.json";
/// What is read of a complaint.
const COMPLAINT: usize = 4096;

pub struct Command {
    path: PathBuf,
    args: Vec<String>,
    id: String,
    /// Where the runtime keeps its state.
    root: PathBuf,
}

/// Where what a call writes goes.
pub enum Output<'a> {
    /// To us.
    Own,
    /// It is the container's process that inherits these streams.
    Process(&'a Pipes),
}

/// A call under way.
pub struct Call {
    pub child: Child,
    pub pidfd: OwnedFd,
    op: &'static str,
    log: PathBuf,
    said: Vec<Said>,
}

impl Command {
    pub fn new(runtime: &ForeignRuntime, id: &str, state_dir: &Path) -> Result<Self> {
        let root = state_dir.join("runtime");
        std::fs::create_dir_all(&root).context("mkdir", root.display())?;
        Ok(Self { path: runtime.path.clone(), args: runtime.args.clone(), id: id.to_owned(), root })
    }

    pub fn id(&self) -> OsString {
        self.id.clone().into()
    }

    /// Begins a call: the operation, and what follows it. `scratch` takes the runtime's log.
    pub fn begin(&self, scratch: &Path, op: &'static str, words: Vec<OsString>, output: &Output) -> Result<Call> {
        let log = scratch.join(LOG_FILE);
        let _ = std::fs::remove_file(&log);
        let mut command = std::process::Command::new(&self.path);
        command.env_clear().env("PATH", PATH).args(&self.args);
        command.arg("--root").arg(&self.root).arg("--log").arg(&log).args(["--log-format", "json"]);
        command.arg(op).args(words);
        let said = match output {
            Output::Own => {
                // a file, not a pipe: it may say much, and nobody reads before it ends
                let file = File::from(memfd_create("runtime", MemfdFlags::CLOEXEC).context("memfd", op)?);
                let dup = || file.try_clone().context("dup", op);
                command.stdin(Stdio::null()).stdout(dup()?).stderr(dup()?);
                vec![Said::File(file)]
            }
            Output::Process(pipes) => {
                let dup = |fd: &OwnedFd| fd.try_clone().context("dup", "stdio");
                let [stdin, stdout, stderr] = &pipes.theirs;
                command.stdin(dup(stdin)?).stdout(dup(stdout)?).stderr(dup(stderr)?);
                let ours = [&pipes.ours.stderr, &pipes.ours.stdout].into_iter().flatten();
                ours.map(|fd| dup(fd).map(Said::Pipe)).collect::<Result<_>>()?
            }
        };
        let child = command.spawn().map_err(|error| {
            other(op, &format!("unable to start the runtime {}: {}", self.path.display(), reason(&error)))
        })?;
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open", self.path.display())?;
        Ok(Call { child, pidfd, op, log, said })
    }

    /// Runs to its end, or to that of its time.
    pub fn run(
        &self,
        scratch: &Path,
        op: &'static str,
        words: Vec<OsString>,
        time: Duration,
        output: &Output,
    ) -> Result<()> {
        self.begin(scratch, op, words, output)?.wait(time)
    }
}

/// Where a call's own words are read.
enum Said {
    File(File),
    Pipe(OwnedFd),
}

impl Said {
    /// The first of them, now, whoever else can still write.
    fn read(&self) -> String {
        let mut bytes = vec![0; COMPLAINT];
        let count = match self {
            Self::File(file) => file.read_at(&mut bytes, 0).unwrap_or(0),
            Self::Pipe(pipe) => {
                rustix::io::ioctl_fionbio(pipe, true).and_then(|()| rustix::io::read(pipe, &mut bytes)).unwrap_or(0)
            }
        };
        bytes.truncate(count);
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

impl Call {
    fn wait(mut self, time: Duration) -> Result<()> {
        let timeout = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: 0 };
        let ended = loop {
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => {}
                ended => break ended.is_ok_and(|count| count > 0),
            }
        };
        if !ended {
            let _ = self.child.kill();
        }
        let status = self.child.wait().context("wait", self.op)?;
        match ended {
            true => self.check(status),
            false => {
                let message = format!("the runtime has not ended after {} s and was killed", time.as_secs());
                Err(other(self.op, &message))
            }
        }
    }

    /// What the call's end says.
    pub fn check(&self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let said = || self.said.iter().map(Said::read).find(|text| !text.is_empty());
        let why = logged(&self.log).or_else(said).unwrap_or_else(|| format!("the runtime gave no reason ({status})"));
        Err(failed(self.op, &why))
    }
}

/// The last error of a runtime's log; runc, crun, runsc and youki have different names for its parts.
fn logged(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let error = |line: &str| -> Option<String> {
        let entry: Value = serde_json::from_slice(line.as_bytes()).ok()?;
        let level = entry["level"].as_str()?.to_ascii_lowercase();
        let message = [&entry["msg"], &entry["message"], &entry["fields"]["message"]];
        let message = message.into_iter().find_map(Value::as_str)?;
        matches!(level.as_str(), "error" | "fatal").then(|| message.to_owned())
    };
    text.lines().rev().find_map(error)
}

/// Whether a program could not be executed is told by words alone, which dockerd goes by as well.
fn failed(op: &'static str, why: &str) -> Failure {
    const MISSING: [&str; 2] = ["executable file", "no such file or directory"];
    const REFUSED: [&str; 3] = ["permission denied", "is a directory", "exec format error"];
    let text = why.to_ascii_lowercase();
    // not any "exec": a path of the runtime's own may have it
    let about = ["exec: \"", "executable", "exec format error"];
    let is_program = ["create", "start", "exec"].contains(&op) && about.iter().any(|words| text.contains(words));
    let errno = match is_program {
        true if MISSING.iter().any(|words| text.contains(words)) => Some(libc::ENOENT),
        true if REFUSED.iter().any(|words| text.contains(words)) => Some(libc::EACCES),
        _ => None,
    };
    if errno.is_none() {
        return other(op, why);
    }
    let message = as_go_says(why.rsplit("unable to start container process: ").next().unwrap_or(why));
    Failure { errno, ..Failure::new(Kind::Exec, "runtime", message) }
}

fn other(op: &'static str, why: &str) -> Failure {
    Failure::new(Kind::System, "runtime", format!("OCI runtime {op} failed: {why}"))
}

/// The docker CLI chooses its exit code by the kernel's words as Go writes them; crun has the C library's.
fn as_go_says(why: &str) -> String {
    [("No such file", "no such file"), ("Permission denied", "permission denied")]
        .iter()
        .fold(why.to_owned(), |why, (theirs, gos)| why.replace(theirs, gos))
}

/// Comes back when it failed only.
pub fn execute(command: &[OsString]) -> Failure {
    let Some((program, arguments)) = command.split_first() else {
        return Failure::invalid("exec", "no program was given");
    };
    Failure::io("exec", program.display(), std::process::Command::new(program).args(arguments).exec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_cannot_be_executed_is_told_from_other_failures() {
        let cases = [
            (
                "create",
                "runc create failed: unable to start container process: exec: \"x\": executable file not found in $PATH",
                Kind::Exec,
                Some(libc::ENOENT),
                "exec: \"x\": executable file not found in $PATH",
            ),
            (
                "create",
                "executable file `x` not found in $PATH: No such file or directory",
                Kind::Exec,
                Some(libc::ENOENT),
                "executable file `x` not found in $PATH: no such file or directory",
            ),
            (
                "exec",
                "exec: \"/etc\": permission denied",
                Kind::Exec,
                Some(libc::EACCES),
                "exec: \"/etc\": permission denied",
            ),
            (
                "create",
                "no such file or directory",
                Kind::System,
                None,
                "OCI runtime create failed: no such file or directory",
            ),
            (
                "create",
                "open /run/exec/c/1/bundle/config.json: no such file or directory",
                Kind::System,
                None,
                "OCI runtime create failed: open /run/exec/c/1/bundle/config.json: no such file or directory",
            ),
            ("kill", "container not running", Kind::System, None, "OCI runtime kill failed: container not running"),
        ];
        for (op, why, kind, errno, message) in cases {
            let failure = failed(op, why);
            assert_eq!((failure.kind, failure.errno, failure.message.as_str()), (kind, errno, message));
        }
    }

    #[test]
    fn the_last_error_of_each_runtimes_log_is_its_reason() {
        let dir = std::env::temp_dir().join(format!("caisson-runtime-log-{}", std::process::id()));
        let cases = [
            (
                "{\"level\":\"warning\",\"msg\":\"w\"}\n{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"last\"}\n",
                Some("last"),
            ),
            ("{\"level\":\"ERROR\",\"fields\":{\"message\":\"youki's\"}}\n", Some("youki's")),
            ("{\"level\":\"info\",\"msg\":\"i\"}\nnot json\n", None),
        ];
        for (text, wanted) in cases {
            std::fs::write(&dir, text).unwrap();
            assert_eq!(logged(&dir).as_deref(), wanted);
        }
        std::fs::remove_file(&dir).unwrap();
        assert_eq!(logged(&dir), None);
    }
}
