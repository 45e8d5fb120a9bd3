//! A process in the foreground: signals are passed on, a terminal is relayed, the exit code is taken over.

use crate::container::{Pending, Started};
use crate::failure::{Context, Result};
use crate::sys::signal;
use rustix::termios::{OptionalActions, OutputModes, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

/// Starts the parked process; without `detach` waits for its end and gives its exit code. `after_start` is called once its
/// program runs, and ends it when it fails.
pub fn start_and_wait(
    pending: Pending,
    detach: bool,
    own_console: bool,
    after_start: impl FnOnce() -> Result<()>,
) -> Result<i32> {
    // before the program can end: its SIGCHLD is to be waited for
    signal::block_all().context("block", "signals")?;
    let pidfd = pending.pidfd.try_clone().context("dup", "pidfd")?;
    if let Some(master) = pending.console.as_ref().filter(|_| own_console) {
        // before anything is written: lines are ended by our own terminal alone
        let mut inner = tcgetattr(master).context("attributes of", "terminal")?;
        inner.output_modes.remove(OutputModes::ONLCR);
        tcsetattr(master, OptionalActions::Now, &inner).context("set attributes of", "terminal")?;
        resize(master);
    }
    let started = match pending.start() {
        Ok(started) => started,
        Err(failure) => {
            end(&pidfd);
            return Err(failure);
        }
    };
    if let Err(failure) = after_start() {
        end(&pidfd);
        return Err(failure);
    }
    if detach {
        return Ok(0);
    }
    match &started.console {
        Some(master) if own_console => {
            let terminal = Terminal::relay(master)?;
            let code = wait(&started, Some(master));
            terminal.end();
            Ok(code)
        }
        _ => Ok(wait(&started, None)),
    }
}

/// Also one whose program runs although we could not hear of it.
fn end(pidfd: &OwnedFd) {
    let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
    let _ =
        rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), rustix::process::WaitIdOptions::EXITED);
}

fn wait(started: &Started, master: Option<&OwnedFd>) -> i32 {
    loop {
        match signal::wait_any() {
            Ok(libc::SIGCHLD) => {
                while let Some((pid, status)) = signal::reap_any() {
                    if pid == started.pid {
                        return signal::exit_code(status).0;
                    }
                }
            }
            Ok(libc::SIGWINCH) if master.is_some() => {
                if let Some(master) = master {
                    resize(master);
                }
            }
            // job control of our own terminal, and what pipes tell us, are not for the container
            Ok(libc::SIGTTIN | libc::SIGTTOU | libc::SIGTSTP | libc::SIGPIPE | libc::SIGURG) | Err(_) => {}
            Ok(number) => {
                let _ = signal::kill(started.pid, number);
            }
        }
    }
}

fn resize(master: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(std::io::stdin()) {
        let _ = tcsetwinsize(master, size);
    }
}

/// Our own terminal in raw mode, tied to the container's.
struct Terminal {
    saved: Option<Termios>,
    output: JoinHandle<()>,
}

impl Terminal {
    /// Threads from here on: nothing is cloned any more.
    fn relay(master: &OwnedFd) -> Result<Terminal> {
        let saved = tcgetattr(std::io::stdin()).ok();
        if let Some(saved) = &saved {
            let mut raw = saved.clone();
            raw.make_raw();
            raw.output_modes.insert(OutputModes::OPOST);
            tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).context("set raw mode of", "stdin")?;
        }
        let input = std::fs::File::from(master.try_clone().context("dup", "terminal")?);
        let output = std::fs::File::from(master.try_clone().context("dup", "terminal")?);
        // ends with the process: stdin may never end
        std::thread::spawn(move || copy(std::io::stdin(), input));
        Ok(Terminal { saved, output: std::thread::spawn(move || copy(output, std::io::stdout())) })
    }

    fn end(self) {
        // the master reads EIO once the container's last process has closed the terminal
        let _ = self.output.join();
        if let Some(saved) = &self.saved {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, saved);
        }
    }
}

fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 16 << 10];
    loop {
        match from.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
        }
    }
}
