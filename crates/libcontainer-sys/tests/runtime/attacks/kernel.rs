//! What of the kernel a container must not reach.

use crate::bundle::{Bundle, able, python, text};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// CVE-2022-0811: sysctls that are the host's.
#[test]
fn sysctls_of_the_host_stay_the_hosts() {
    if !able() {
        return;
    }
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let refused = |key: &str, namespaces: Option<Value>| {
        let mut bundle = Bundle::new("sysctl");
        bundle.config["linux"]["sysctl"] = json!({key: "1"});
        if let Some(namespaces) = namespaces {
            bundle.config["linux"]["namespaces"] = namespaces;
        }
        let message = bundle.refusal();
        assert!(message.contains("not in a separate kernel namespace"), "{key}: {message}");
    };
    for key in
        ["kernel.core_pattern", "vm.overcommit_memory", "net./../kernel.core_pattern", "net.ipv4/../../kernel", ""]
    {
        refused(key, None);
    }
    refused("net.ipv4.ip_forward", Some(json!([{"type": "mount"}, {"type": "pid"}, {"type": "uts"}])));
    refused("kernel.msgmax", Some(json!([{"type": "mount"}, {"type": "pid"}, {"type": "uts"}])));
    let callers = json!([{"type": "mount"}, {"type": "uts"}, {"type": "network", "path": "/proc/self/ns/net"}]);
    refused("net.ipv4.ip_forward", Some(callers));
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), pattern);
    let mut bundle =
        Bundle::shell("sysctl-own", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax");
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0", "kernel.msgmax": "9000"});
    assert_eq!(bundle.output(), "0\n9000\n");
}

/// As Kubernetes and podman have it for the containers of a pod.
#[test]
fn sysctls_of_a_network_namespace_that_is_joined_are_set() {
    if !able() {
        return;
    }
    let mut holder = Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap();
    let theirs = format!("/proc/{}/ns/net", holder.id());
    while fs::read_link(&theirs).unwrap() == fs::read_link("/proc/self/ns/net").unwrap() {
        std::thread::yield_now();
    }
    let mut bundle = Bundle::shell("sysctl-joined", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start");
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "7"});
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "network" {
            namespace["path"] = json!(theirs);
        }
    }
    let output = bundle.output();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(output, "7\n");
}

/// GO-2022-0396: a device list that denies in place of allowing.
#[test]
fn only_listed_devices_can_be_opened() {
    if !able() {
        return;
    }
    let script = "cd /tmp; mknod a c 1 2; mknod b b 8 0; mknod c c 10 229; mknod d c 1 7; \
                  for f in a b c; do (: < $f) 2>&1; done; head -c 4 d | wc -c; ls a b c d | wc -l";
    let mut bundle = Bundle::shell("devices", script);
    let refused = |output: &str| output.matches("Operation not permitted").count();
    let output = bundle.output();
    assert_eq!(refused(&output), 3, "{output}");
    assert!(output.ends_with("4\n4\n"), "{output}");
    if let Some(runc) = bundle.run_by_runc() {
        assert_eq!(text(&runc.stdout), output, "runc has the same rules");
    }
    // the same nodes under a list that denies: what the rules above stand against
    bundle.config["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    let output = bundle.output();
    assert_eq!(refused(&output), 0, "{output}");
}

/// Calls by number with zeros in place of pointers: one that got through would answer EFAULT or EINVAL.
const PROBE: &str = r#"
import ctypes, errno, platform
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
def say(name, number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(number, *(list(args) + [0] * (6 - len(args))))
    print(f"{name}: {'ok' if result >= 0 else errno.errorcode[ctypes.get_errno()]}", flush=True)
for family in (38, 40, 2):
    say(f"socket {family}", 41 if x86 else 198, family, 2)
say("io_uring_setup", 425, 1)
say("unshare", 272 if x86 else 97, 0x10000000)
say("clone3", 435)
say("keyctl", 250 if x86 else 219)
say("bpf", 321 if x86 else 280)
say("userfaultfd", 323 if x86 else 282)
say("mount", 165 if x86 else 40)
say("setns", 308 if x86 else 268)
say("future", 900)
"#;

/// CVE-2026-31431 and the kernel's larger surfaces, asked for inside a container under Docker's default filter.
#[test]
fn the_default_filter_keeps_the_kernel_small() {
    if !able() || !python() {
        return;
    }
    let mut bundle = Bundle::new("seccomp");
    bundle.config["process"]["args"] = json!(["/usr/bin/python3", "-c", PROBE]);
    bundle.config["linux"]["seccomp"] = default_filter();
    bundle.bind_python();
    let output = bundle.output();
    for line in [
        "socket 38: EPERM",
        "socket 40: EPERM",
        "socket 2: ok",
        "io_uring_setup: EPERM",
        "unshare: EPERM",
        "clone3: ENOSYS",
        "keyctl: EPERM",
        "bpf: EPERM",
        "userfaultfd: EPERM",
        "mount: EPERM",
        "setns: EPERM",
        "future: ENOSYS",
    ] {
        assert!(output.lines().any(|have| have == line), "{line:?} is not in\n{output}");
    }
}

/// The engine's table of Docker's profile, for a container with the default capabilities.
fn default_filter() -> Value {
    let table: Value =
        serde_json::from_str(include_str!("../../../../../ts/engine/runtime/seccomp-default.json")).unwrap();
    let mut rules = vec![json!({"names": table["allowed"], "action": "SCMP_ACT_ALLOW"})];
    for entry in table["conditional"].as_array().unwrap() {
        let given = ["SYS_CHROOT"].contains(&entry["withCap"].as_str().unwrap_or("SYS_CHROOT"));
        let here = entry["on"].as_str().is_none_or(|arch| arch == std::env::consts::ARCH);
        if !given || !here {
            continue;
        }
        let mut rule = json!({"names": entry["names"], "action": "SCMP_ACT_ALLOW"});
        if let Some(errno) = entry["errno"].as_u64() {
            rule["action"] = json!("SCMP_ACT_ERRNO");
            rule["errnoRet"] = json!(errno);
        }
        if let Some(arg) = entry.get("arg") {
            let number = |key: &str| arg[key].as_u64();
            let (op, value, two) = match (number("mask"), number("below"), number("above"), number("equals")) {
                (Some(mask), .., Some(value)) => ("SCMP_CMP_MASKED_EQ", mask, value),
                (_, Some(value), ..) => ("SCMP_CMP_LT", value, 0),
                (_, _, Some(value), _) => ("SCMP_CMP_GT", value, 0),
                (.., value) => ("SCMP_CMP_EQ", value.unwrap(), 0),
            };
            rule["args"] = json!([{"index": arg["index"], "value": value, "valueTwo": two, "op": op}]);
        }
        rules.push(rule);
    }
    json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": rules})
}
