//! What a process is given beside its user and its rights: time, scheduling, personality, descriptors.

use super::bundle::{Bundle, able, python, text};
use serde_json::json;
use std::process::Stdio;

#[test]
fn clocks_are_moved_for_the_container_only() {
    if !able() {
        return;
    }
    let mut bundle =
        Bundle::shell("time", "cat /proc/self/timens_offsets; cat /proc/uptime; stat -c %N /proc/self/ns/time");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    bundle.config["linux"]["timeOffsets"] =
        json!({"monotonic": {"secs": 172800}, "boottime": {"secs": 864000, "nanosecs": 5}});
    let output = bundle.output();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(&words[..6], ["monotonic", "172800", "0", "boottime", "864000", "5"], "{output}");
    assert!(words[6].parse::<f64>().unwrap() > 864_000.0, "{output}");
    assert!(!output.contains(std::fs::read_link("/proc/self/ns/time").unwrap().to_str().unwrap()), "{output}");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().pop();
    assert!(bundle.refusal().contains("/linux/timeOffsets: needs a time namespace"));
}

const LOOK: &str = "import os, ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0), libc.syscall(IOPRIO_GET, 1, 0), \
os.uname().machine, sorted(os.sched_getaffinity(0)))";

#[test]
fn scheduling_and_personality_reach_the_program() {
    if !able() || !python() {
        return;
    }
    let ioprio_get = if cfg!(target_arch = "aarch64") { "31" } else { "252" };
    let mut bundle = Bundle::new("scheduling");
    bundle.bind_python();
    bundle.config["process"]["args"] = json!(["/usr/bin/python3", "-c", LOOK.replace("IOPRIO_GET", ioprio_get)]);
    let plain = bundle.output();
    assert!(plain.starts_with("0 0 "), "{plain}");
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
    bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 3});
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    let output = bundle.output();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(&words[..3], ["3", "7", &(3 << 13 | 3).to_string()], "{output}");
    assert!(["i686", "armv8l"].contains(&words[3]), "{output}");

    for (key, value, pointer) in [
        ("scheduler", json!({"policy": "SCHED_WHAT"}), "/process/scheduler/policy"),
        ("ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8}), "/process/ioPriority/priority"),
    ] {
        let mut bundle = Bundle::new("scheduling-wrong");
        bundle.config["process"][key] = value;
        let message = bundle.refusal();
        assert!(message.contains(pointer), "{message}");
    }
}

#[test]
fn memory_comes_from_the_nodes_that_were_asked_for() {
    if !able() {
        return;
    }
    let with = |name: &str, policy: serde_json::Value| {
        let mut bundle = Bundle::new(name);
        bundle.config["process"]["args"] = json!(["sleep", "1000"]);
        bundle.config["linux"]["memoryPolicy"] = policy;
        bundle
    };
    let bundle = with("memory-policy", json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}));
    bundle.write();
    assert!(bundle.call_quiet(&["run", "--detach", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
    let exec = bundle.call(&["exec", &bundle.id, "cat", "/proc/1/numa_maps", "/proc/self/numa_maps"]);
    let maps = text(&exec.stdout);
    let policies: Vec<&str> = maps.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert!(!policies.is_empty() && policies.iter().all(|policy| *policy == "bind=static:0"), "{maps}");

    for (policy, message) in [
        (json!({"mode": "MPOL_NEAR"}), "/linux/memoryPolicy/mode: \"MPOL_NEAR\" is not known"),
        (json!({"nodes": "0"}), "/linux/memoryPolicy"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["F"]}), "/linux/memoryPolicy/flags: \"F\" is not known"),
        (json!({"mode": "MPOL_BIND", "nodes": "1-0"}), "/linux/memoryPolicy/nodes: \"1-0\" is not a list"),
        (
            json!({"mode": "MPOL_BIND", "nodes": "0-9876543210"}),
            "/linux/memoryPolicy/nodes: \"0-9876543210\" is not a list",
        ),
        (json!({"mode": "MPOL_INTERLEAVE"}), "/linux/memoryPolicy: MPOL_INTERLEAVE of nodes \"\": invalid argument"),
    ] {
        let said = with("memory-policy-wrong", policy).refusal();
        assert!(said.contains(message), "{said}");
    }
}

#[test]
fn an_exec_runs_on_the_cpus_it_was_given() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("affinity");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write();
    assert!(bundle.call_quiet(&["run", "--detach", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["grep", "Cpus_allowed_list", "/proc/self/status"]);
    process["execCPUAffinity"] = json!({"initial": "0", "final": "1"});
    let path = bundle.dir.join("process.json");
    std::fs::write(&path, process.to_string()).unwrap();
    let exec = bundle.call(&["exec", "--process", path.to_str().unwrap(), &bundle.id]);
    assert_eq!(text(&exec.stdout), "Cpus_allowed_list:\t1\n", "{}", text(&exec.stderr));
    process["execCPUAffinity"] = json!({"initial": "0-x"});
    std::fs::write(&path, process.to_string()).unwrap();
    let exec = bundle.call(&["exec", "--process", path.to_str().unwrap(), &bundle.id]);
    assert!(text(&exec.stderr).contains("/process/execCPUAffinity/initial"), "{}", text(&exec.stderr));
}

#[test]
fn descriptors_are_passed_on_when_asked() {
    if !able() {
        return;
    }
    let bundle = Bundle::shell("fds", "cat <&3; cat <&4; ls /proc/self/fd");
    bundle.write();
    let run = |words: &str, redirect: &str| {
        let line = format!(
            "exec {redirect} {} --root {} {words}",
            env!("CARGO_BIN_EXE_caisson-runtime"),
            bundle.state_root().display()
        );
        let mut command = std::process::Command::new("/bin/bash");
        command.args(["-c", &line]).stdin(Stdio::null()).output().unwrap()
    };
    let (dir, id) = (bundle.dir.display().to_string(), &bundle.id);
    let output = run(&format!("run --preserve-fds 2 --bundle {dir} {id}"), "3<<<three 4<<<four");
    assert_eq!(text(&output.stdout), "three\nfour\n0\n1\n2\n3\n4\n5\n", "{}", text(&output.stderr));
    let output = run(&format!("run --preserve-fds 2 --bundle {dir} {id}"), "3<<<three");
    assert!(text(&output.stderr).contains("4 is not open"), "{}", text(&output.stderr));
    bundle.assert_nothing_left();
}
