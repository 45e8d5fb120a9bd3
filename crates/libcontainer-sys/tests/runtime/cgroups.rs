//! Which cgroups a container is in, and what limits reach them.

use super::bundle::{Bundle, able, cgroup2, text};
use serde_json::json;
use std::fs;
use std::path::Path;

#[test]
fn a_cgroup_may_have_a_name_of_systemds_form() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::shell("colons", "cat /proc/self/cgroup");
    let name = format!("test.slice:cri-containerd:{}", bundle.id);
    bundle.config["linux"]["cgroupsPath"] = json!(name);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    let output = bundle.output();
    assert!(output.contains(&format!("/caisson-runtime/{name}")), "{output}");
}

#[test]
fn a_cgroup_of_others_is_neither_joined_nor_taken_away() {
    if !able() {
        return;
    }
    let bundle = Bundle::new("taken");
    bundle.write();
    let (hierarchy, file, frozen) =
        if cgroup2() { ("", "cgroup.freeze", "1") } else { ("freezer", "freezer.state", "FROZEN") };
    let group = Path::new("/sys/fs/cgroup").join(hierarchy).join("caisson-runtime-test").join(&bundle.id);
    fs::create_dir_all(&group).unwrap();
    fs::write(group.join(file), frozen).unwrap();
    for command in ["run", "create"] {
        let output = bundle.call(&[command, "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("container's cgroup unexpectedly frozen"), "{}", text(&output.stderr));
    }
    assert_eq!(fs::read_to_string(group.join(file)).unwrap().trim(), frozen);
    fs::remove_dir(&group).unwrap();

    let mut first = Bundle::new("holder");
    first.config["process"]["args"] = json!(["sleep", "1000"]);
    first.write();
    assert!(first.call_quiet(&["run", "--detach", "--bundle", first.dir.to_str().unwrap(), &first.id]));
    let mut second = Bundle::new("intruder");
    second.config["linux"]["cgroupsPath"] = first.config["linux"]["cgroupsPath"].clone();
    assert!(second.refusal().contains("container's cgroup is not empty"));
    assert_eq!(first.status(), "running");
    assert!(first.call(&["delete", "--force", &first.id]).status.success());
    first.assert_nothing_left();
}

#[test]
fn limits_reach_the_cgroup() {
    if !able() {
        return;
    }
    let (files, expected) = if cgroup2() {
        ("memory.max memory.swap.max pids.max cpu.max", "33554432\n0\n50\n50000 100000\n")
    } else {
        ("memory/memory.limit_in_bytes pids/pids.max cpu/cpu.shares cpu/cpu.cfs_quota_us", "33554432\n50\n512\n50000\n")
    };
    let mut bundle = Bundle::shell("limits", &format!("cd /sys/fs/cgroup && cat {files}"));
    let resources = &mut bundle.config["linux"]["resources"];
    resources["memory"] = json!({"limit": 33554432, "swap": 33554432});
    resources["pids"] = json!({"limit": 50});
    resources["cpu"] = json!({"shares": 512, "quota": 50000, "period": 100000});
    assert_eq!(bundle.output(), expected);
}

#[test]
fn limits_of_a_running_container_change() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("update");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 33554432, "swap": 33554432});
    bundle.write();
    assert!(bundle.call_quiet(&["run", "--detach", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
    let (files, none) = if cgroup2() {
        (["memory.max", "memory.swap.max", "cpu.max"], "max")
    } else {
        (
            ["memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes", "cpu/cpu.cfs_quota_us"],
            "9223372036854771712",
        )
    };
    let path = |file: &str| {
        let (hierarchy, file) = file.split_once('/').unwrap_or(("", file));
        Path::new("/sys/fs/cgroup").join(hierarchy).join("caisson-runtime-test").join(&bundle.id).join(file)
    };
    // v1 counts memory and swap together
    let (swap, no_swap) = if cgroup2() { ("33554432", "0") } else { ("100663296", "33554432") };
    let cpu = if cgroup2() { ["max 100000", "50000 100000", "2000 1000"] } else { ["-1", "50000", "2000"] };
    let mut cases = vec![
        (&["--memory", "64M", "--memory-swap", "96M"][..], ["67108864", swap, cpu[0]]),
        (&["--memory", "32M", "--memory-swap", "32M"][..], ["33554432", no_swap, cpu[0]]),
        // the limit of memory and swap goes too: it could not stay below
        (&["--memory", "-1"][..], [none, none, cpu[0]]),
        (&["--cpu-quota", "50000", "--cpu-period", "100000"][..], [none, none, cpu[1]]),
        (&["--cpu-quota", "2000", "--cpu-period", "1000"][..], [none, none, cpu[2]]),
    ];
    if cgroup2() {
        // nothing to take off: it is the limit of swap
        cases.push((&["--memory", "-1", "--memory-swap", "32M"][..], [none, "33554432", cpu[2]]));
    }
    for (options, expected) in cases {
        let mut words = vec!["update"];
        words.extend(options);
        words.push(&bundle.id);
        let output = bundle.call(&words);
        assert!(output.status.success(), "{options:?} {}", text(&output.stderr));
        for (file, value) in files.iter().zip(expected) {
            // kernels without swap have no limit of it
            let now = match fs::read_to_string(path(file)) {
                Err(_) if file.contains("sw") => continue,
                now => now.unwrap(),
            };
            assert_eq!(now.trim(), value, "{options:?} {file}");
        }
    }
}

#[test]
fn a_container_is_in_its_own_cgroup_of_every_hierarchy() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("hierarchies");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write();
    assert!(bundle.call_quiet(&["run", "--detach", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
    let own = format!(":/caisson-runtime-test/{}", bundle.id);
    let elsewhere = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        text.lines().filter(|line| !line.ends_with(&own)).map(str::to_owned).collect::<Vec<_>>()
    };
    let state: serde_json::Value = serde_json::from_slice(&bundle.call(&["state", &bundle.id]).stdout).unwrap();
    assert_eq!(elsewhere(&state["pid"].to_string()), Vec::<String>::new());
    let exec = bundle.call(&["exec", &bundle.id, "cat", "/proc/self/cgroup"]);
    let lines = text(&exec.stdout);
    assert!(lines.contains("0::/") && lines.lines().all(|line| line.ends_with(&own)), "{lines}");
    assert!(bundle.call(&["delete", "--force", &bundle.id]).status.success());
    bundle.assert_nothing_left();
}
