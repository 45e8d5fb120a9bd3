//! A configuration that cannot be carried out: the place in it is told, nothing is left, the exit code is 1.

use super::bundle::{Bundle, able, cgroup2, text};
use serde_json::{Value, json};

fn refused(bundle: &Bundle, words: &[&str]) {
    let output = bundle.call(&["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
    let start: String = said.chars().take(300).collect();
    assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {start}");
    bundle.assert_nothing_left();
}

#[test]
fn a_document_that_is_none_is_refused() {
    if !able() {
        return;
    }
    let bundle = Bundle::new("malformed");
    bundle.write();
    let whole = std::fs::read_to_string(bundle.dir.join("config.json")).unwrap();
    for (document, words) in [
        ("", "line 1 column 0"),
        (&whole[..whole.len() / 2], "line 1 column"),
        ("[]", "config.json: /"),
        ("null", "config.json: /"),
        ("{}", "missing field"),
    ] {
        std::fs::write(bundle.dir.join("config.json"), document).unwrap();
        refused(&bundle, &["config.json", words]);
    }
    std::fs::remove_file(bundle.dir.join("config.json")).unwrap();
    refused(&bundle, &["config.json: no such file or directory"]);
}

#[test]
fn a_field_that_makes_no_sense_is_named() {
    if !able() {
        return;
    }
    let long = |bytes: usize| "x".repeat(bytes);
    let (memory_limit, cpu_quota) =
        if cgroup2() { ("memory.max", "cpu.max") } else { ("memory.limit_in_bytes", "cpu.cfs_quota_us") };
    let cases: Vec<(&str, Value, &str)> = vec![
        ("/ociVersion", json!("7.0.0"), "/ociVersion"),
        ("/ociVersion", json!("one"), "/ociVersion"),
        ("/root/path", json!(""), "/root/path"),
        ("/root/path", json!("/no/such/root"), "/no/such/root: no such file"),
        ("/root/path", json!("config.json"), "config.json: not a directory"),
        ("/linux/namespaces/0/type", json!("planet"), "/linux/namespaces/0/type"),
        ("/linux/namespaces/0/type", json!("ipc"), "a second Ipc namespace"),
        ("/linux/namespaces/0/path", json!("relative"), "/linux/namespaces/0/path"),
        ("/linux/namespaces/1/path", json!("/no/such/ns"), "/no/such/ns: no such file"),
        ("/linux/resources/memory", json!({"limit": "much"}), "/linux/resources/memory/limit"),
        ("/linux/resources/memory", json!({"limit": -5}), memory_limit),
        ("/linux/resources/memory", json!({"limit": 1}), "(memory limit too low?): the limit is 1 bytes"),
        ("/linux/resources/cpu", json!({"shares": -1}), "/linux/resources/cpu/shares"),
        ("/linux/resources/cpu", json!({"quota": 1, "period": 1}), cpu_quota),
        ("/linux/resources/cpu", json!({"cpus": "4000"}), "cpuset.cpus"),
        ("/linux/resources/pids", json!({"limit": 1e30}), "/linux/resources/pids/limit"),
        ("/linux/rootfsPropagation", json!("rwhat"), "/linux/rootfsPropagation"),
        ("/linux/sysctl", json!({"kernel.panic": "1"}), "kernel.panic"),
        ("/linux/seccomp", json!({"defaultAction": "NO"}), "/linux/seccomp/defaultAction"),
        ("/process/args", json!([]), "/process/args"),
        ("/process/args", json!(["true", 5]), "/process/args/1"),
        ("/process/cwd", json!("relative"), "/process/cwd"),
        ("/process/user", json!({"uid": -1}), "/process/user/uid"),
        ("/process/rlimits", json!([{"type": "RLIMIT_X", "soft": 1, "hard": 1}]), "/process/rlimits/0/type"),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]), "/process/rlimits/0"),
        ("/process/oomScoreAdj", json!(5000), "/process/oomScoreAdj"),
        ("/hooks", json!({"prestart": [{"path": "relative"}]}), "/hooks/prestart/0/path"),
        ("/annotations", json!({"a": 1}), "/annotations/a"),
        ("/mounts/0/destination", json!(""), "/mounts/0/destination"),
        ("/mounts/0/type", json!("nofs"), "nofs"),
        ("/hostname", json!(long(65)), "/hostname: 65 bytes"),
        ("/hostname", json!(long(1 << 20)), "/hostname: 1048576 bytes"),
        // longer than a path may be, around the size of a message between init and its creator, and far above
        ("/process/cwd", json!("/".to_owned() + &long((64 << 10) - 2)), "file name too long"),
        ("/process/cwd", json!("/".to_owned() + &long((64 << 10) - 1)), "file name too long"),
        ("/process/cwd", json!("/".to_owned() + &long(64 << 10)), "file name too long"),
        ("/process/args", json!(["/".to_owned() + &long(1 << 20)]), "exec: "),
        ("/process/env", json!(["A=".to_owned() + &long(1 << 20)]), "argument list too long"),
        ("/mounts/0/destination", json!("/".to_owned() + &long(1 << 20)), "file name too long"),
    ];
    for (pointer, value, words) in cases {
        let mut bundle = Bundle::new("field");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = bundle.config.pointer_mut(parent).unwrap();
        match key.parse::<usize>() {
            Ok(at) => parent[at] = value,
            Err(_) => parent[key] = value,
        }
        bundle.write();
        refused(&bundle, &[words]);
    }
}

#[test]
fn much_is_no_error() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::shell("much", "echo ${#A} $(grep -c ' /m/' /proc/self/mountinfo)");
    bundle.config["process"]["env"].as_array_mut().unwrap().push(json!("A=".to_owned() + &"x".repeat(100_000)));
    for at in 0..10_000 {
        bundle.add_mount(json!({"destination": format!("/m/{at}"), "type": "tmpfs", "source": "tmpfs"}));
    }
    assert_eq!(bundle.output(), "100000 10000\n");
    bundle.assert_nothing_left();
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    if !able() {
        return;
    }
    let change = |pointer: &str, value: serde_json::Value| {
        let mut bundle = Bundle::new("refused");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        bundle.config.pointer_mut(parent).unwrap()[key] = value;
        bundle.refusal()
    };
    for (pointer, value) in [
        ("/linux/intelRdt", json!({})),
        ("/linux/resources/rdma", json!({"mlx5_1": {"hcaHandles": 3}})),
        ("/linux/resources/network", json!({"classID": 1})),
        ("/linux/mountLabel", json!("system_u:object_r:container_file_t:s0")),
        ("/linux/personality", json!({"domain": "LINUX32", "flags": ["X"]})),
        ("/process/apparmorProfile", json!("docker-default")),
        ("/process/selinuxLabel", json!("system_u:system_r:container_t:s0")),
    ] {
        let message = change(pointer, value);
        assert!(message.contains(pointer), "{pointer}: {message}");
    }
}
