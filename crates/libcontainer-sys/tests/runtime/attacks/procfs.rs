//! What stands in the place of /proc, and takes writes or masks that are meant for the kernel's.

use crate::bundle::{Bundle, able, text, tree};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

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
