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
fn a_created_container_ends_by_a_signal_as_any_program() {
    if !able() {
        return;
    }
    let bundle = Bundle::new("terminated");
    bundle.write();
    assert!(bundle.call_quiet(&["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
    let state: serde_json::Value = serde_json::from_slice(&bundle.call(&["state", &bundle.id]).stdout).unwrap();
    let pid = rustix::process::Pid::from_raw(state["pid"].as_i64().unwrap() as i32).unwrap();
    let init = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    assert!(bundle.call(&["kill", &bundle.id, "TERM"]).status.success());
    rustix::event::poll(&mut [rustix::event::PollFd::new(&init, rustix::event::PollFlags::IN)], None).unwrap();
    assert_eq!(bundle.status(), "stopped");
    assert!(bundle.call(&["delete", &bundle.id]).status.success());
    bundle.assert_nothing_left();
}

/// As containerd has it for a pod whose cgroup parent is called `.slice`, whatever its driver.
#[test]
fn steps_and_warnings_go_to_the_log() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::shell("log", "grep CapAmb /proc/self/status");
    let caps = &mut bundle.config["process"]["capabilities"];
    caps["bounding"].as_array_mut().unwrap().push(json!("CAP_WHAT"));
    caps["inheritable"] = json!(["CAP_KILL"]);
    caps["ambient"] = json!(["CAP_KILL", "CAP_CHOWN"]);
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    let log = bundle.dir.join("log.json");
    let log_options = ["--log", log.to_str().unwrap(), "--log-format", "json"];
    for (debug, wanted) in [(false, &["warning"][..]), (true, &["debug", "warning"][..])] {
        let mut words = log_options.to_vec();
        words.extend(debug.then_some("--debug"));
        words.extend(["run", "--bundle", dir, &bundle.id]);
        let output = bundle.call(&words);
        assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), ("CapAmb:\t0000000000000020\n", ""));
        let told = fs::read_to_string(&log).unwrap();
        let lines: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for warning in [
            "ignoring unknown or unavailable capabilities: [CAP_WHAT]",
            "can't raise ambient capability CAP_CHOWN: operation not permitted",
        ] {
            assert!(lines.iter().any(|line| line["level"] == "warning" && line["msg"] == warning), "{told}");
        }
        let mut levels: Vec<&str> = lines.iter().map(|line| line["level"].as_str().unwrap()).collect();
        levels.sort_unstable();
        levels.dedup();
        assert_eq!(levels, wanted);
        fs::remove_file(&log).unwrap();
    }
    // as podman asks
    bundle.config["process"]["capabilities"]["inheritable"] = json!([]);
    let output = bundle.run();
    assert_eq!(text(&output.stdout), "CapAmb:\t0000000000000000\n");
    assert!(!text(&output.stderr).contains("ambient"), "{}", text(&output.stderr));
    let nowhere = bundle.call(&["--log", "/no/such/dir/log", "list"]);
    assert!(text(&nowhere.stderr).contains("/no/such/dir/log: no such file or directory"), "{}", text(&nowhere.stderr));
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
                  grep -c ' /sys/fs/cgroup' /proc/self/mountinfo";
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
        ("/etc", "is a directory: permission denied"),
        ("/bin/plain", "permission denied"),
        (
            "/bin/loader",
            "exec /bin/loader: no such file or directory: the script's interpreter \"/no/such/interpreter\"",
        ),
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
