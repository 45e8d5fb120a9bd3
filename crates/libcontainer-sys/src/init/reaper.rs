//! `--init`: PID 1 is our own code. It starts the program as its child, passes signals on, reaps whatever is re-parented to
//! it, and ends as the program ends. No file of the image or the host is executed for it.

use crate::failure::Failure;
use crate::sys::clone::{exit_now, fork};
use crate::sys::title::Layout;
use crate::sys::{prctl, signal};

/// What Docker's is called in its containers.
const NAME: [&str; 2] = ["/sbin/docker-init", "--"];

/// Comes back only with the program's failure to execute, in the child, where it is reported.
pub fn run(layout: Option<Layout>, command: &[String], execute: impl FnOnce() -> Failure) -> Failure {
    if let Err(error) = signal::block_all() {
        return Failure::io("block", "signals", error);
    }
    // the container's seccomp filter stands already, and Docker's answers clone3 with ENOSYS
    match fork() {
        Err(error) => Failure::io("clone", "the program below init", error),
        Ok(None) => {
            // a foreground process group of its own, as tini gives; who is not in the foreground is stopped for asking, unless
            // it blocks SIGTTOU
            let _ = rustix::process::setpgid(None, None);
            let _ = rustix::termios::tcsetpgrp(std::io::stdin(), rustix::process::getpid());
            signal::reset();
            execute()
        }
        Ok(Some(pid)) => {
            prctl::set_name(c"docker-init");
            let words: Vec<String> =
                NAME.iter().map(|word| (*word).to_owned()).chain(command.iter().cloned()).collect();
            // where the kernel does not take it the shim's own words stay: a name is no reason to fail
            let _ = layout.map(|layout| layout.set_command_line(&words));
            // the report socket belongs to the child alone now: its end must tell that the program runs
            let _ = crate::sys::exec::close_from(3);
            forward_and_reap(pid)
        }
    }
}

fn forward_and_reap(child: i32) -> ! {
    loop {
        match signal::wait_any() {
            Ok(libc::SIGCHLD) => {
                while let Some((pid, status)) = signal::reap_any() {
                    if pid == child {
                        exit_now(signal::exit_code(status).0);
                    }
                }
            }
            Ok(libc::SIGTTIN | libc::SIGTTOU) | Err(_) => {}
            Ok(number) => {
                let _ = signal::kill(child, number);
            }
        }
    }
}
