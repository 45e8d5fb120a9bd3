//! Seccomp: flags, and calls that an agent answers.

use super::bundle::{Bundle, able};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixListener;

#[test]
fn flags_are_taken_and_unknown_ones_refused() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::shell("seccomp-flags", "grep ^Seccomp: /proc/self/status");
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]});
    assert_eq!(bundle.output(), "Seccomp:\t2\n");
    bundle.config["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_WHAT"]);
    let message = bundle.refusal();
    assert!(message.contains("/linux/seccomp/flags/0"), "{message}");
}

/// A profile from before Linux 5.8 has no faccessat2, and a program may do without sockets.
#[test]
fn a_program_starts_under_a_filter_that_forbids_what_its_start_would_use() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("seccomp-old");
    bundle.config["process"]["args"] = json!(["echo", "found"]);
    for no_new_privileges in [false, true] {
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        for call in ["faccessat2", "sendmsg", "recvmsg"] {
            bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": [call], "action": "SCMP_ACT_ERRNO"}]});
            assert_eq!(bundle.output(), "found\n", "{call}");
        }
    }
}

/// Before the container is started, the agent gets a descriptor and is told of which container it is. (That a call waits for its answer is the kernel's.)
#[test]
fn a_listener_goes_to_the_agent() {
    if !able() {
        return;
    }
    for no_new_privileges in [false, true] {
        let mut bundle = Bundle::shell("seccomp-agent", "true");
        let path = bundle.dir.join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
            "listenerMetadata": "words", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_NOTIFY"}]});
        bundle.write();
        assert!(bundle.call_quiet(&["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
        let (connection, _) = listener.accept().unwrap();
        let mut bytes = vec![0; 64 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(&connection, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
        let fds: Vec<_> = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds.count()),
                _ => None,
            })
            .collect();
        assert_eq!(fds, [1]);
        let state: Value = serde_json::from_slice(&bytes[..received.bytes]).unwrap();
        assert_eq!((&state["fds"], &state["metadata"]), (&json!(["seccompFd"]), &json!("words")));
        assert_eq!(state["state"]["id"], json!(bundle.id));
        assert_eq!(state["pid"], state["state"]["pid"]);
        assert!(bundle.call_quiet(&["start", &bundle.id]));
        assert_eq!(state["state"]["status"], json!("creating"));
    }
    let mut bundle = Bundle::new("seccomp-nobody");
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/no/such/socket",
        "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_NOTIFY"}]});
    let message = bundle.refusal();
    assert!(message.contains("/no/such"), "{message}");
}
