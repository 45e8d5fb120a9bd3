//! Attacks that other runtimes have fallen to, each with what must happen in place. The numbers are CVEs.

use super::bundle::{Bundle, able, python, rounds, text, tree};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// CVE-2019-5736: the runtime as the container's own program, and written to.
#[test]
fn the_runtime_itself_cannot_be_overwritten() {
    if !able() {
        return;
    }
    let own = env!("CARGO_BIN_EXE_caisson-runtime");
    let before = fs::read(own).unwrap();
    let script = "#!/proc/self/exe\n";
    let mut bundle = Bundle::new("own-exe");
    fs::write(bundle.rootfs("bin/evil"), script).unwrap();
    fs::set_permissions(bundle.rootfs("bin/evil"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for args in [json!(["/proc/self/exe"]), json!(["/bin/evil"])] {
        bundle.config["process"]["args"] = args;
        bundle.run();
    }
    // seen from inside, a joining process has no file of the host as its program
    bundle.config["process"]["args"] = json!([
        "sh",
        "-c",
        "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || (echo x > $p/exe) 2>/dev/null && echo written; done; done"
    ]);
    bundle.config["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE"));
    for set in ["effective", "permitted"] {
        bundle.config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE"));
    }
    bundle.write();
    assert!(bundle.call_quiet(&["run", "--detach", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
    for _ in 0..rounds(100, 1000) {
        assert!(bundle.call(&["exec", &bundle.id, "true"]).status.success());
    }
    assert!(fs::read(own).unwrap() == before, "{own} has changed");
}

/// CVE-2024-21626: a leaked descriptor of the host as working directory.
#[test]
fn a_descriptor_is_no_working_directory() {
    if !able() {
        return;
    }
    for number in 3..=20 {
        let mut bundle = Bundle::shell("fd-cwd", "pwd");
        symlink(format!("/proc/self/fd/{number}"), bundle.rootfs("link")).unwrap();
        for cwd in [format!("/proc/self/fd/{number}"), "/link".into(), format!("/proc/self/fd/{number}/../..")] {
            bundle.config["process"]["cwd"] = json!(cwd);
            bundle.write();
            let line = format!(
                "exec {number}</; exec {} --root {} run --bundle {} {}",
                env!("CARGO_BIN_EXE_caisson-runtime"),
                bundle.state_root().display(),
                bundle.dir.display(),
                bundle.id
            );
            let output = std::process::Command::new("/bin/bash").args(["-c", &line]).output().unwrap();
            assert!(!output.status.success(), "{cwd}: {}", text(&output.stdout));
            bundle.assert_nothing_left();
        }
    }
}

/// CVE-2024-21626 by an exec: the joiner has descriptors of the host when it goes to its directory.
#[test]
fn a_descriptor_is_no_working_directory_of_an_exec() {
    if !able() {
        return;
    }
    let bundle = Bundle::shell("fd-exec", "sleep 1000");
    bundle.write();
    assert!(bundle.call_quiet(&["run", "--detach", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
    for number in 3..=20 {
        for cwd in
            [format!("/proc/self/fd/{number}"), format!("/proc/1/fd/{number}"), format!("/proc/self/fd/{number}/..")]
        {
            let line = format!(
                "exec {number}</; exec {} --root {} exec --cwd {cwd} {} pwd",
                env!("CARGO_BIN_EXE_caisson-runtime"),
                bundle.state_root().display(),
                bundle.id
            );
            let output = std::process::Command::new("/bin/bash").args(["-c", &line]).output().unwrap();
            assert!(!output.status.success(), "{cwd}: {}", text(&output.stdout));
        }
    }
}

/// CVE-2019-19921, CVE-2023-27561: procfs or sysfs where nobody looks for it.
#[test]
fn proc_and_sys_go_to_ordinary_directories_only() {
    if !able() {
        return;
    }
    for (name, kind) in [("proc", "proc"), ("sys", "sysfs")] {
        let bundle = Bundle::new("proc-link");
        fs::remove_dir(bundle.rootfs(name)).unwrap();
        symlink("/tmp", bundle.rootfs(name)).unwrap();
        let message = bundle.refusal();
        assert!(message.contains(&format!("filesystem {kind:?} must be mounted on ordinary directory")), "{message}");
        assert!(tree(&bundle.rootfs("tmp")).is_empty());
    }
}

/// CVE-2019-16884, CVE-2025-52881: what stands over a part of /proc hides that masks are not in place, and takes the writes
/// that are meant for the kernel.
#[test]
fn nothing_is_mounted_over_proc() {
    if !able() {
        return;
    }
    for place in ["/proc", "/proc/", "/proc/self", "/proc/sys/kernel", "/link"] {
        for kind in ["bind", "tmpfs", "cgroup", "proc"] {
            let root_of_procfs = place.trim_end_matches('/') == "/proc";
            if kind == "proc" && root_of_procfs {
                continue;
            }
            let mut bundle = Bundle::new("proc-over");
            symlink("/proc/self", bundle.rootfs("link")).unwrap();
            let volume = bundle.dir.join("volume");
            fs::create_dir_all(volume.join("sys/kernel")).unwrap();
            let (source, options) = match kind {
                "bind" => (volume.to_str().unwrap(), json!(["rbind", "rw"])),
                kind => (kind, json!([])),
            };
            bundle.add_mount(json!({"destination": place, "type": kind, "source": source, "options": options}));
            let message = bundle.refusal();
            let why = if root_of_procfs { "it is not of type proc" } else { "it is inside /proc" };
            // procfs and sysfs go where no link leads
            let why = match (kind, place) {
                ("proc", "/link" | "/proc/self") => "must be mounted on ordinary directory",
                _ => why,
            };
            assert!(message.contains(why), "{kind} at {place}: {message}");
        }
    }
}

/// CVE-2025-52881 without a mount: a root whose own files look like procfs takes no sysctl.
#[test]
fn a_false_proc_takes_no_writes() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("proc-false");
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    let file = bundle.rootfs("proc/sys/net/ipv4/ip_forward");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "mine").unwrap();
    let message = bundle.refusal();
    assert!(message.contains("/proc of the container is not procfs"), "{message}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

/// CVE-2025-31133: the null device that covers masked files is the host's, not what the container has under that name.
#[test]
fn a_false_null_device_masks_nothing() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::shell("null", "grep -E ' /proc/(keys|timer_list|kcore) ' /proc/self/mountinfo");
    let evil = bundle.dir.join("evil");
    for sub in ["pts", "shm", "mqueue"] {
        fs::create_dir_all(evil.join(sub)).unwrap();
    }
    symlink("/proc/uptime", evil.join("null")).unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    bundle.add_mount(json!({"destination": "/dev", "type": "bind", "source": evil, "options": ["rbind", "rw"]}));
    let false_masks =
        |output: &str| output.lines().filter(|line| !line.split(' ').nth(3).unwrap().ends_with("/null")).count();
    let output = bundle.output();
    assert!(output.lines().count() >= 2, "{output}");
    assert_eq!(false_masks(&output), 0, "{output}");
    for name in ["zero", "full", "random", "urandom", "tty"] {
        fs::write(bundle.dir.join("evil").join(name), "").unwrap();
    }
    if let Some(runc) = bundle.run_by_runc() {
        let output = text(&runc.stdout);
        assert!(output.contains("/uptime /proc/keys") && false_masks(&output) >= 2, "{output}{}", text(&runc.stderr));
    }
}

/// CVE-2025-52565: a terminal whose name the container can replace.
#[test]
fn a_terminal_needs_a_devpts() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("pts");
    let evil = bundle.dir.join("evil");
    fs::create_dir(&evil).unwrap();
    for number in 0..10 {
        symlink("/proc/uptime", evil.join(number.to_string())).unwrap();
    }
    symlink("/proc/uptime", evil.join("ptmx")).unwrap();
    bundle.config["process"]["terminal"] = json!(true);
    bundle.add_mount(json!({"destination": "/dev/pts", "type": "bind", "source": evil, "options": ["rbind", "rw"]}));
    let message = bundle.refusal();
    assert!(message.contains("/dev/pts/ptmx"), "{message}");
}

#[test]
fn a_terminal_is_the_containers_own() {
    if !able() {
        return;
    }
    let mut bundle =
        Bundle::shell("tty", "stat -c '%t' /dev/console; stat -c %i /dev/console; stat -c %i /dev/pts/0; test -t 0");
    bundle.config["process"]["terminal"] = json!(true);
    let output = bundle.output().replace('\r', "");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "88", "136 in hex: {output}");
    assert_eq!(lines[1], lines[2], "{output}");
}

/// CVE-2026-41579: devices made through a /dev that points to the host.
#[test]
fn a_dev_that_is_a_link_reaches_nothing_of_the_host() {
    if !able() {
        return;
    }
    for with_tmpfs in [true, false] {
        let mut bundle = Bundle::new("dev-link");
        let sent = bundle.dir.join("sent");
        fs::create_dir(&sent).unwrap();
        fs::write(sent.join("ptmx"), "mine").unwrap();
        let before = tree(&sent);
        fs::remove_dir(bundle.rootfs("dev")).unwrap();
        symlink(&sent, bundle.rootfs("dev")).unwrap();
        if !with_tmpfs {
            let mounts = bundle.config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        }
        bundle.run();
        assert_eq!(tree(&sent), before);
        bundle.assert_nothing_left();
        if bundle.run_by_runc().is_some() {
            assert_ne!(tree(&sent), before, "runc 1.1.5 writes there");
        }
    }
}

/// CVE-2021-30465, CVE-2024-45310: mount points behind links that leave the root.
#[test]
fn mount_points_are_made_inside_the_root() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("mount-link");
    let sent = bundle.dir.join("sent");
    fs::create_dir(&sent).unwrap();
    symlink(&sent, bundle.rootfs("out")).unwrap();
    symlink("../../../../../../../..", bundle.rootfs("up")).unwrap();
    let volume = bundle.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    for place in ["/out/a/b".to_owned(), format!("/up{}/c", sent.display())] {
        bundle.add_mount(json!({"destination": place, "type": "bind", "source": volume, "options": ["rbind"]}));
    }
    bundle.run();
    assert!(tree(&sent).is_empty(), "{:?}", tree(&sent));
    bundle.assert_nothing_left();
}

/// CVE-2021-30465, CVE-2024-45310 as a race: another container exchanges a directory of a shared volume with a link to the
/// host while mount points below it are made.
#[test]
fn mount_points_are_made_inside_the_root_while_links_change() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::sync::atomic::{AtomicBool, Ordering};
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("mount-race");
    let (sent, volume) = (bundle.dir.join("sent"), bundle.dir.join("volume"));
    fs::create_dir(&sent).unwrap();
    fs::create_dir_all(volume.join("a")).unwrap();
    symlink(&sent, volume.join("b")).unwrap();
    fs::write(bundle.dir.join("file"), "").unwrap();
    let bind = |place: &str, source: &Path| json!({"destination": place, "type": "bind", "source": source, "options": ["rbind"]});
    bundle.add_mount(bind("/shared", &volume));
    for number in 0..20 {
        bundle.add_mount(bind(&format!("/shared/a/{number}/dir"), &volume));
        bundle.add_mount(bind(&format!("/shared/a/{number}/file"), &bundle.dir.join("file")));
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, volume.join("a"), CWD, volume.join("b"), RenameFlags::EXCHANGE).unwrap();
            }
        });
        // each run makes 40 mount points or is refused: both are well
        for _ in 0..rounds(30, 2000) {
            bundle.run();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(tree(&sent).is_empty(), "{:?}", tree(&sent));
    bundle.assert_nothing_left();
}

/// CVE-2026-47262: files that are read as root and are not what they should be.
#[test]
fn a_hostile_passwd_is_refused_at_once() {
    if !able() {
        return;
    }
    let prepare: [fn(&Path); 3] = [
        |path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
        },
        |path| symlink("/dev/zero", path).unwrap(),
        |path| fs::File::create(path).unwrap().set_len((10 << 20) + 1).unwrap(),
    ];
    for make in prepare {
        let bundle = Bundle::new("passwd");
        let path = bundle.rootfs("etc/passwd");
        fs::remove_file(&path).unwrap();
        make(&path);
        let message = bundle.refusal();
        assert!(message.contains("/etc/passwd"), "{message}");
    }
    // a link to the host's file stays inside
    let bundle = Bundle::shell("passwd-host", "echo $HOME");
    fs::remove_file(bundle.rootfs("etc/passwd")).unwrap();
    symlink("../../../../../../etc/passwd", bundle.rootfs("etc/passwd")).unwrap();
    assert!(bundle.run().status.code().is_some());
}

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
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), pattern);
    let mut bundle =
        Bundle::shell("sysctl-own", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax");
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0", "kernel.msgmax": "9000"});
    assert_eq!(bundle.output(), "0\n9000\n");
}

/// CVE-2021-43784: lengths that overflow on the way to init.
#[test]
fn a_large_configuration_arrives_whole() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::shell("large", "env | grep -c ^LONG_; env | wc -c; ls /many | wc -l");
    let value = "x".repeat(65_536);
    let env = bundle.config["process"]["env"].as_array_mut().unwrap();
    for number in 0..16 {
        env.push(json!(format!("LONG_{number}={value}")));
    }
    fs::write(bundle.dir.join("file"), "").unwrap();
    for number in 0..500 {
        let source = bundle.dir.join("file");
        bundle.add_mount(
            json!({"destination": format!("/many/{number}"), "type": "bind", "source": source, "options": ["bind"]}),
        );
    }
    let output = bundle.output();
    let lines: Vec<u64> = output.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!((lines[0], lines[2]), (16, 500));
    assert!(lines[1] > 16 * 65_536, "{output}");
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
        serde_json::from_str(include_str!("../../../../ts/engine/runtime/seccomp-default.json")).unwrap();
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
