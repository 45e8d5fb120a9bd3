//! The command line on the real kernel: its lifecycle and what a container gets by default.

use super::bundle::{Bundle, able, text};
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_container_goes_through_its_states() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("lifecycle");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write();
    let (id, dir) = (bundle.id.clone(), bundle.dir.to_str().unwrap().to_owned());
    let pid_file = bundle.dir.join("pid");
    assert!(bundle.call_quiet(&["create", "--bundle", &dir, "--pid-file", pid_file.to_str().unwrap(), &id]));
    assert_eq!(bundle.status(), "created");
    let pid = fs::read_to_string(&pid_file).unwrap();
    assert_ne!(text(&fs::read(format!("/proc/{pid}/cmdline")).unwrap()), "sleep\x001000\x00", "not yet released");

    let taken = bundle.call(&["create", "--bundle", &dir, &id]);
    assert!(text(&taken.stderr).contains("exists already"));

    assert!(bundle.call(&["start", &id]).status.success());
    assert_eq!(bundle.status(), "running");
    assert_eq!(text(&fs::read(format!("/proc/{pid}/cmdline")).unwrap()), "sleep\x001000\x00");
    assert!(text(&bundle.call(&["start", &id]).stderr).contains("it is running"));
    assert!(text(&bundle.call(&["delete", &id]).stderr).contains("that is not stopped: running"));

    assert!(bundle.call(&["pause", &id]).status.success());
    assert_eq!(bundle.status(), "paused");
    assert!(bundle.call(&["resume", &id]).status.success());
    assert_eq!(bundle.status(), "running");

    let listed = text(&bundle.call(&["list", "--quiet"]).stdout);
    assert_eq!(listed.trim(), id);
    let exec = bundle.call(&["exec", &id, "sh", "-c", "echo $PPID; exit 7"]);
    assert_eq!((exec.status.code(), text(&exec.stdout).as_str()), (Some(7), "0\n"));

    assert!(bundle.call(&["delete", "--force", &id]).status.success());
    assert!(!bundle.call(&["state", &id]).status.success());
    bundle.assert_nothing_left();
}

#[test]
fn a_paused_container_can_be_killed_and_a_created_one_deleted() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("paused");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write();
    let dir = bundle.dir.to_str().unwrap().to_owned();
    assert!(bundle.call_quiet(&["run", "--detach", "--bundle", &dir, &bundle.id]));
    assert!(bundle.call(&["pause", &bundle.id]).status.success());
    assert!(bundle.call(&["delete", "--force", &bundle.id]).status.success());
    bundle.assert_nothing_left();
    assert!(bundle.call_quiet(&["create", "--bundle", &dir, &bundle.id]));
    assert!(bundle.call(&["delete", &bundle.id]).status.success());
    bundle.assert_nothing_left();
}

#[test]
fn exit_codes_and_output_come_through() {
    if !able() {
        return;
    }
    let output = Bundle::shell("code", "echo out; echo err >&2; exit 42").run();
    assert_eq!(output.status.code(), Some(42));
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), ("out\n", "err\n"));
    assert_eq!(
        Bundle::shell("signal", "kill -9 $$; sleep 1").run().status.code(),
        Some(0),
        "PID 1 is immune to itself"
    );
}

#[test]
fn a_process_starts_with_dockers_defaults() {
    if !able() {
        return;
    }
    let script = "grep -E '^(Cap|Sig(Ign|Blk)|NoNewPrivs|Seccomp:)' /proc/self/status; ulimit -n; umask; pwd; echo $HOME; \
                  stat -c %a /dev/shm; for d in null zero full random urandom tty; do stat -c '%n %a %t:%T' /dev/$d; done; \
                  for l in fd stdin stdout stderr ptmx; do stat -c %N /dev/$l; done; ls /dev/console 2>&1 || true";
    let output = Bundle::shell("defaults", script).output();
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "SigBlk:\t0000000000000000",
        "SigIgn:\t0000000000000000",
        "NoNewPrivs:\t0",
        "1024",
        "0022",
        "/root",
        "1777",
        "/dev/null 666 1:3",
        "/dev/full 666 1:7",
        "/dev/tty 666 5:0",
        "'/dev/fd' -> '/proc/self/fd'",
        "'/dev/ptmx' -> 'pts/ptmx'",
    ] {
        assert!(output.lines().any(|have| have == line), "{line:?} is not in\n{output}");
    }
    assert!(output.contains("/dev/console: No such file"), "a console without a terminal: {output}");
}

#[test]
fn another_user_has_no_capabilities_and_takes_nothing_of_the_host() {
    if !able() {
        return;
    }
    let before = fs::metadata("/dev/null").unwrap();
    let mut bundle = Bundle::shell("user", "id -u; id -g; grep Cap /proc/self/status; echo again > /dev/stdout");
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5]});
    let output = bundle.output();
    assert!(output.starts_with("1000\n1001\n"), "{output}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(output.contains(&format!("{set}:\t0000000000000000")), "{output}");
    }
    assert!(output.contains("CapBnd:\t00000000a80425fb") && output.ends_with("again\n"), "{output}");
    let after = fs::metadata("/dev/null").unwrap();
    assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
}

#[test]
fn an_exec_has_no_more_than_its_container() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("exec-caps");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.config["process"]["capabilities"] = json!({});
    bundle.write();
    assert!(bundle.call_quiet(&["run", "--detach", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
    let output =
        text(&bundle.call(&["exec", &bundle.id, "sh", "-c", "grep Cap /proc/self/status; ls /proc/self/fd"]).stdout);
    assert_eq!(output.matches("0000000000000000").count(), 5, "{output}");
    assert_eq!(output.lines().skip(5).collect::<Vec<_>>(), ["0", "1", "2", "3"], "0 to 2 and ls's own");
}

#[test]
fn masks_cover_and_read_only_paths_cannot_be_written() {
    if !able() {
        return;
    }
    let script = "cat /proc/keys /proc/timer_list /proc/interrupts | wc -c; ls /sys/firmware | wc -l; \
                  echo 1 > /proc/sys/kernel/panic;\
                  umount /proc/keys; umount /proc/sys; touch /sys/x; touch /sys/fs/cgroup/x; mount -t tmpfs x /tmp; \
                  grep -c '/sys/fs/cgroup/memory' /proc/self/mountinfo";
    let output = Bundle::shell("masks", &format!("({script}) 2>&1")).output();
    assert!(output.starts_with("0\n0\n"), "{output}");
    assert_eq!(output.matches("Read-only file system").count(), 3, "{output}");
    assert_eq!(output.matches("not permitted").count() + output.matches("ermission denied").count(), 3, "{output}");
}

#[test]
fn programs_that_cannot_be_executed_are_named_as_runc_names_them() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("missing");
    fs::write(bundle.rootfs("bin/loader"), "#!/no/such/interpreter\n").unwrap();
    fs::write(bundle.rootfs("bin/plain"), "x").unwrap();
    let executable = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    fs::set_permissions(bundle.rootfs("bin/loader"), executable).unwrap();
    for (program, words) in [
        ("foo", "exec: \"foo\": executable file not found in $PATH"),
        ("/foo", "exec: \"/foo\": stat /foo: no such file or directory"),
        ("/etc", "is a directory"),
        ("/bin/plain", "permission denied"),
        ("/bin/loader", "interpreter \"/no/such/interpreter\" does not exist"),
    ] {
        bundle.config["process"]["args"] = json!([program]);
        let message = bundle.refusal();
        assert!(message.contains(words), "{program}: {message}");
    }
}

#[test]
fn every_namespace_is_the_containers_own() {
    if !able() {
        return;
    }
    const KINDS: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "uts"];
    let mut bundle =
        Bundle::shell("namespaces", "for n in cgroup ipc mnt net pid time uts; do stat -c %N /proc/self/ns/$n; done");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.extend([json!({"type": "cgroup"}), json!({"type": "time"})]);
    let output = bundle.output();
    for kind in KINDS {
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert!(output.contains(&format!("'{kind}:[")) && !output.contains(host.to_str().unwrap()), "{kind}: {output}");
    }
    // an exec joins them all
    let mut bundle = Bundle::new("joined");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.extend([json!({"type": "cgroup"}), json!({"type": "time"})]);
    bundle.write();
    assert!(bundle.call_quiet(&["run", "--detach", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
    let script = "for n in cgroup ipc mnt net pid time uts; do \
                  [ $(stat -c %N /proc/self/ns/$n | cut -d: -f2) = $(stat -c %N /proc/1/ns/$n | cut -d: -f2) ] || echo $n; done";
    let output = bundle.call(&["exec", &bundle.id, "sh", "-c", script]);
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), ("", ""));
}

#[test]
fn limits_reach_the_cgroup() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::shell(
        "limits",
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.shares \
         /sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    );
    let resources = &mut bundle.config["linux"]["resources"];
    resources["memory"] = json!({"limit": 33554432, "swap": 33554432});
    resources["pids"] = json!({"limit": 50});
    resources["cpu"] = json!({"shares": 512, "quota": 50000, "period": 100000});
    assert_eq!(bundle.output(), "33554432\n50\n512\n50000\n");
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
        ("/linux/netDevices", json!({"eth9": {}})),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_DEFAULT"})),
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
