//! `state`, `list`, `ps`, `spec`, `features`.

use super::args::Args;
use super::state::State;
use crate::failure::{Context, Failure, Kind, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn print(value: &Value) {
    println!("{value:#}");
}

pub fn state(root: &Path, words: Vec<String>) -> Result<i32> {
    let args = Args::parse(words, &[])?;
    print(&State::load(root, args.id(false)?)?.to_json(root));
    Ok(0)
}

pub fn list(root: &Path, words: Vec<String>) -> Result<i32> {
    let args = Args::parse(words, &[("quiet", "q", false), ("format", "f", true)])?;
    let mut states: Vec<Value> = Vec::new();
    match fs::read_dir(root) {
        Ok(entries) => {
            for entry in entries.flatten() {
                // one that is being created or deleted has no state
                if let Ok(state) = State::load(root, &entry.file_name().to_string_lossy()) {
                    states.push(state.to_json(root));
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::io("read", root.display(), error)),
    }
    states.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
    let text = |state: &Value, key: &str| state[key].as_str().unwrap_or_default().to_owned();
    match args.value("format").unwrap_or("table") {
        _ if args.has("quiet") => states.iter().for_each(|state| println!("{}", text(state, "id"))),
        "json" => println!("{}", Value::Array(states)),
        "table" => {
            println!("{:<24} {:<8} {:<9} {:<32} BUNDLE", "ID", "PID", "STATUS", "CREATED");
            for state in &states {
                let (id, status, created) = (text(state, "id"), text(state, "status"), text(state, "created"));
                println!("{id:<24} {:<8} {status:<9} {created:<32} {}", state["pid"], text(state, "bundle"));
            }
        }
        other => return Err(Failure::invalid("list", format!("--format {other:?} is neither table nor json"))),
    }
    Ok(0)
}

pub fn ps(root: &Path, words: Vec<String>) -> Result<i32> {
    let args = Args::parse(words, &[("format", "f", true)])?;
    let pids = State::load(root, args.id(true)?)?.group()?.pids()?;
    match args.value("format").unwrap_or("table") {
        "json" => println!("{}", json!(pids)),
        "table" => {
            println!("{:<8} {:<8} COMMAND", "UID", "PID");
            for pid in pids {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let field =
                    |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
                let uid = field("Uid:").split_whitespace().next().unwrap_or_default();
                println!("{uid:<8} {pid:<8} {}", field("Name:"));
            }
        }
        other => return Err(Failure::invalid("ps", format!("--format {other:?} is neither table nor json"))),
    }
    Ok(0)
}

/// A config.json to start from: a shell with few rights.
pub fn spec(words: Vec<String>) -> Result<i32> {
    let args = Args::parse(words, &[("bundle", "b", true), ("rootless", "", false)])?;
    if args.has("rootless") {
        return Err(Failure::new(Kind::Unsupported, "spec", "--rootless: user namespaces are not supported"));
    }
    let path = Path::new(args.value("bundle").unwrap_or(".")).join("config.json");
    if path.exists() {
        return Err(Failure::new(Kind::Conflict, "spec", format!("{} exists already", path.display())));
    }
    fs::write(&path, format!("{:#}\n", template())).context("write", path.display())?;
    Ok(0)
}

fn template() -> Value {
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "caisson",
        "mounts": [
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "cgroup"}],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
                "/sys/devices/virtual/powercap", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// The specification's features document (1.2).
pub fn features() -> Result<i32> {
    print(&json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": [],
        "mountOptions": ["async", "atime", "bind", "defaults", "dev", "diratime", "exec", "noatime", "nodev", "nodiratime",
            "noexec", "nostrictatime", "nosuid", "nosymfollow", "private", "rbind", "relatime", "rnodev", "rnoexec",
            "rnosuid", "ro", "rprivate", "rro", "rshared", "rslave", "runbindable", "rw", "shared", "slave",
            "strictatime", "suid", "symfollow", "unbindable"],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "uts"],
            "capabilities": crate::init::capability_names(),
            "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false},
            "seccomp": {
                "enabled": true,
                "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"],
                "operators": ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"],
            },
            "apparmor": {"enabled": false},
            "selinux": {"enabled": false},
        },
    }));
    Ok(0)
}
