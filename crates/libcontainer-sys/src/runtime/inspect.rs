//! `state`, `list`, `ps`, `spec`, `features`.

use super::args::Args;
use super::state::{Listed, State};
use crate::failure::{Context, Failure, Kind, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn print(value: &Value) {
    println!("{value:#}");
}

pub fn state(root: &Path, words: Vec<String>) -> Result<i32> {
    let args = Args::parse(words, &[])?;
    let listed = State::load(root, args.id(false)?)?.listed(root);
    println!("{}", serde_json::to_string_pretty(&listed).unwrap_or_default());
    Ok(0)
}

pub fn list(root: &Path, root_was_given: bool, words: Vec<String>) -> Result<i32> {
    let args = Args::parse(words, &[("quiet", "q", false), ("format", "f", true)])?;
    let mut states: Vec<Listed> = Vec::new();
    match fs::read_dir(root) {
        Ok(entries) => {
            for entry in entries.flatten() {
                // one that is being created or deleted has no state
                if let Ok(state) = State::load(root, &entry.file_name().to_string_lossy()) {
                    states.push(state.listed(root));
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !root_was_given => {}
        Err(error) => return Err(Failure::io("read", root.display(), error)),
    }
    states.sort_by(|a, b| a.id.cmp(&b.id));
    match args.value("format").unwrap_or("table") {
        _ if args.has("quiet") => states.iter().for_each(|state| println!("{}", state.id)),
        "json" => println!("{}", serde_json::to_string(&states).unwrap_or_default()),
        "table" => {
            let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
            let rows = states.iter().map(|state| {
                let Listed { id, pid, status, bundle, created, owner, .. } = state;
                [id.clone(), pid.to_string(), (*status).into(), bundle.clone(), created.clone(), owner.clone()]
            });
            print_table(&std::iter::once(header).chain(rows).collect::<Vec<_>>());
        }
        other => return Err(Failure::invalid("list", format!("--format {other:?} is neither table nor json"))),
    }
    Ok(0)
}

/// Columns of at least 12 characters, as runc's.
fn print_table<const N: usize>(rows: &[[String; N]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count() + 1).max().unwrap_or(0).max(12);
    for row in rows {
        let cells: String =
            row.iter().enumerate().map(|(at, cell)| format!("{cell:<width$}", width = width(at))).collect();
        println!("{}", cells.trim_end());
    }
}

pub fn ps(root: &Path, words: Vec<String>) -> Result<i32> {
    let args = Args::parse_front(words, &[("format", "f", true)])?;
    let state = State::load(root, args.id(true)?)?;
    let pids = state.group()?.pids()?;
    match args.value("format").unwrap_or("table") {
        "json" => println!("{}", json!(pids)),
        "table" => print_processes(&args.rest[1..], &pids)?,
        other => return Err(Failure::invalid("ps", format!("--format {other:?} is neither table nor json"))),
    }
    Ok(0)
}

/// Those lines of ps whose PID is one of the container's.
fn print_processes(options: &[String], pids: &[i32]) -> Result<()> {
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default } else { options };
    let output = std::process::Command::new("ps").args(options).output().context("execute", "ps")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        return Err(Failure::invalid("ps", format!("ps {}: {said}", options.join(" "))));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|word| word == "PID");
    let column = column.ok_or_else(|| Failure::invalid("ps", "the output of ps has no column PID"))?;
    println!("{header}");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            println!("{line}");
        }
    }
    Ok(())
}

/// A config.json to start from: a shell with few rights.
pub fn spec(words: Vec<String>) -> Result<i32> {
    let args = Args::parse(words, &[("bundle", "b", true), ("rootless", "", false)])?;
    let path = Path::new(args.value("bundle").unwrap_or(".")).join("config.json");
    if path.exists() {
        return Err(Failure::new(Kind::Conflict, "spec", format!("{} exists already", path.display())));
    }
    let mut config = template();
    if args.has("rootless") {
        make_rootless(&mut config);
    }
    fs::write(&path, format!("{config:#}\n")).context("write", path.display())?;
    Ok(0)
}

/// For a user who is root in a user namespace of his own: his id alone is mapped, and there are no limits.
fn make_rootless(config: &mut Value) {
    let own = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    let linux = &mut config["linux"];
    linux["uidMappings"] = own(rustix::process::geteuid().as_raw());
    linux["gidMappings"] = own(rustix::process::getegid().as_raw());
    linux["resources"] = json!({});
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "user"}));
    }
    if let Some(mounts) = config["mounts"].as_array_mut() {
        for mount in mounts {
            if mount["destination"] == "/sys" {
                *mount = json!({"destination": "/sys", "type": "none", "source": "/sys",
                    "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
            }
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
    }
}

fn template() -> Value {
    // on v1 a cgroup namespace is the exception, as with runc
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
        .map(Some)
        .map(|kind| kind.filter(|kind| unified || *kind != "cgroup"));
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    json!({
        "ociVersion": crate::spec::VERSION,
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
            "namespaces": namespaces.into_iter().flatten().map(|kind| json!({"type": kind})).collect::<Vec<_>>(),
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
                "/sys/devices/virtual/powercap", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// The specification's features document: what this program can do, whatever the host has.
pub fn features() -> Result<i32> {
    print(&json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": crate::spec::VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": crate::rootfs::options::NAMES.as_slice(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": crate::init::capability_names(),
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"],
                "operators": ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"],
                "archs": match std::env::consts::ARCH {
                    "aarch64" => ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
                    _ => ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                },
                "knownFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
                    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
                "supportedFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                    "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": true},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
    }));
    Ok(0)
}
