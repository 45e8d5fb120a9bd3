//! Each system call on the way of a command fails once, with each of the errors that full disks, full tables, broken media and
//! signals give: the command ends, says why, leaves nothing, and the next one works.
//!
//! `npm run test:faults` tries every call with every error; elsewhere a part of the calls with one of them.

use super::bundle::{Bundle, able, rounds, text};
use super::tracer::{Call, Ended, Injected, trace};
use nix::errno::Errno;
use serde_json::json;
use std::fs;
use std::process::Stdio;

const ERRORS: [Errno; 5] = [Errno::ENOSPC, Errno::EMFILE, Errno::ENOMEM, Errno::EIO, Errno::EINTR];

/// Of the memory of the process itself: Rust ends at once when there is none. And what gives no error, or none that says anything:
/// a descriptor is closed whatever `close` says.
const PASSED_OVER: [i64; 18] = [
    libc::SYS_getrandom,
    libc::SYS_prlimit64,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_umask,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
];

struct Sweep<'a> {
    name: &'a str,
    /// What a new container goes through first.
    before: &'a [&'a [&'a str]],
    command: &'a [&'a str],
    /// What the container is when the command has failed; empty: nothing is left of it.
    after: &'a [&'a str],
}

fn bundle(name: &str) -> Bundle {
    let mut bundle = Bundle::new(name);
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 100});
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0"});
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]});
    bundle.add_mount(json!({"destination": "/data", "type": "bind", "source": "/etc", "options": ["rbind", "ro"]}));
    bundle.write();
    bundle
}

fn words<'a>(bundle: &'a Bundle, command: &[&'a str]) -> Vec<&'a str> {
    let dir = bundle.dir.to_str().unwrap();
    command
        .iter()
        .map(|word| {
            if *word == "ID" {
                &bundle.id
            } else if *word == "DIR" {
                dir
            } else {
                word
            }
        })
        .collect()
}

impl Sweep<'_> {
    fn run(&self) {
        if !able() {
            return;
        }
        let bundle = bundle(self.name);
        let clean = self.try_one(&bundle, None);
        assert_eq!(clean.code, 0, "{}", clean.stderr);
        let calls: Vec<Call> = clean.calls.into_iter().filter(|call| !PASSED_OVER.contains(&call.number)).collect();
        assert!(calls.len() > 20, "{calls:?}");
        let tried = calls.iter().enumerate().flat_map(|(at, call)| {
            let errors = if rounds(1, ERRORS.len()) == 1 { &ERRORS[at % ERRORS.len()..][..1] } else { &ERRORS[..] };
            errors.iter().map(move |error| Injected { call: *call, error: *error })
        });
        let wrong: Vec<String> = tried.step_by(rounds(9, 1)).filter_map(|fault| self.judge(&bundle, fault)).collect();
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), calls.len(), wrong.join("\n"));
    }

    /// The command on a new container.
    fn try_one(&self, bundle: &Bundle, fault: Option<Injected>) -> Ended {
        for command in self.before {
            // not to a pipe, which the container would hold open
            let told = bundle.dir.join("told");
            let stderr = fs::File::create(&told).unwrap();
            let done = bundle.command(&words(bundle, command)).stdout(Stdio::null()).stderr(stderr).status().unwrap();
            assert!(done.success(), "{command:?} after {fault:?}: {}", fs::read_to_string(&told).unwrap());
        }
        let ended = trace(bundle.command(&words(bundle, self.command)), fault);
        if fault.is_none() {
            self.remove(bundle).unwrap();
        }
        ended
    }

    /// What is wrong after this fault.
    fn judge(&self, bundle: &Bundle, fault: Injected) -> Option<String> {
        let ended = self.try_one(bundle, Some(fault));
        let mut wrong = Vec::new();
        if ended.hung {
            wrong.push("it hung".to_owned());
        }
        if ended.code != 0 {
            if !ended.stderr.contains("caisson-runtime: ") || ended.stderr.contains("panicked") {
                wrong.push(format!("no clear error, code {}", ended.code));
            }
            let status = bundle.status();
            if !self.after.is_empty() && !self.after.contains(&status.as_str()) {
                wrong.push(format!("the container is {status:?}"));
            }
            if self.after.is_empty()
                && let Some(left) = bundle.what_is_left()
            {
                wrong.push(left);
            }
        }
        if let Err(left) = self.remove(bundle) {
            wrong.push(left);
        }
        (!wrong.is_empty()).then(|| format!("{fault}: {} | {}", wrong.join("; "), ended.stderr.trim_end()))
    }

    fn remove(&self, bundle: &Bundle) -> Result<(), String> {
        let output = bundle.call(&["delete", "--force", &bundle.id]);
        if !output.status.success() {
            return Err(format!("delete --force: {}", text(&output.stderr)));
        }
        bundle.what_is_left().map_or(Ok(()), Err)
    }
}

const CREATE: &[&str] = &["create", "--bundle", "DIR", "ID"];
const START: &[&str] = &["start", "ID"];

#[test]
fn run() {
    let command = &["run", "--detach", "--bundle", "DIR", "ID"];
    Sweep { name: "fault-run", before: &[], command, after: &[] }.run();
}

#[test]
fn create() {
    Sweep { name: "fault-create", before: &[], command: CREATE, after: &[] }.run();
}

#[test]
fn start() {
    let after = &["created", "running", "stopped"];
    Sweep { name: "fault-start", before: &[CREATE], command: START, after }.run();
}

#[test]
fn exec() {
    let command = &["exec", "ID", "true"];
    Sweep { name: "fault-exec", before: &[CREATE, START], command, after: &["running"] }.run();
}

#[test]
fn kill() {
    let command = &["kill", "ID", "KILL"];
    let after = &["running", "stopped"];
    Sweep { name: "fault-kill", before: &[CREATE, START], command, after }.run();
}

#[test]
fn delete() {
    let command = &["delete", "--force", "ID"];
    let after = &["running", "stopped", ""];
    Sweep { name: "fault-delete", before: &[CREATE, START], command, after }.run();
}
