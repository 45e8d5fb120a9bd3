//! A bundle with a busybox root, and the command line that runs it.

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const APPLETS: [&str; 21] = [
    "sh", "cat", "id", "ls", "mknod", "mount", "umount", "true", "sleep", "grep", "stat", "pwd", "echo", "ps", "head",
    "env", "ln", "rm", "wc", "touch", "cut",
];

const CGROUP_PARENT: &str = "caisson-runtime-test";

pub struct Bundle {
    pub id: String,
    pub dir: PathBuf,
    pub config: Value,
}

/// False when this machine cannot run these tests; CAISSON_REQUIRE makes that a failure.
pub fn able() -> bool {
    let able = rustix::process::geteuid().is_root()
        && Path::new("/bin/busybox").exists()
        && Path::new("/sys/fs/cgroup/memory/tasks").exists();
    assert!(able || std::env::var_os("CAISSON_REQUIRE").is_none(), "needs root, /bin/busybox and cgroup v1");
    able
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Bundle {
    pub fn new(name: &str) -> Bundle {
        let id = format!("{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(format!("caisson-runtime-test-{id}"));
        let rootfs = dir.join("rootfs");
        for sub in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
            fs::create_dir_all(rootfs.join(sub)).unwrap();
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            fs::hard_link(rootfs.join("bin/busybox"), rootfs.join("bin").join(applet)).unwrap();
        }
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        let config = config(&id);
        Bundle { id, dir, config }
    }

    pub fn shell(name: &str, script: &str) -> Bundle {
        let mut bundle = Bundle::new(name);
        bundle.config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        bundle
    }

    pub fn rootfs(&self, path: &str) -> PathBuf {
        self.dir.join("rootfs").join(path)
    }

    pub fn add_mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    pub fn state_root(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn write(&self) {
        fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_caisson-runtime"));
        command.arg("--root").arg(self.state_root()).args(words).stdin(Stdio::null());
        command
    }

    pub fn call(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// As `call`, for commands whose container would hold the pipes open.
    pub fn call_quiet(&self, words: &[&str]) -> bool {
        let mut command = self.command(words);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    pub fn run(&self) -> Output {
        self.write();
        let bundle = self.dir.to_str().unwrap();
        self.call(&["run", "--bundle", bundle, &self.id])
    }

    /// Output of a run that must succeed.
    pub fn output(&self) -> String {
        let output = self.run();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// Message of a run that must be refused.
    pub fn refusal(&self) -> String {
        let output = self.run();
        assert!(!output.status.success(), "it ran: {}", text(&output.stdout));
        self.assert_nothing_left();
        text(&output.stderr)
    }

    pub fn status(&self) -> String {
        let state: Value = serde_json::from_slice(&self.call(&["state", &self.id]).stdout).unwrap_or_default();
        state["status"].as_str().unwrap_or_default().to_owned()
    }

    /// No state, no cgroup in any hierarchy, no mount on the host.
    pub fn assert_nothing_left(&self) {
        assert!(!self.state_root().join(&self.id).exists(), "state of {}", self.id);
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let group = hierarchy.path().join(CGROUP_PARENT).join(&self.id);
            assert!(!group.exists(), "{} is left", group.display());
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.id), "{mounts}");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.call_quiet(&["delete", "--force", &self.id]);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Docker's defaults.
fn config(id: &str) -> Value {
    let caps = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
    .map(|name| format!("CAP_{name}"));
    let namespaces = ["mount", "pid", "ipc", "uts", "network"].map(|kind| json!({"type": kind}));
    let device =
        |major: u32, minor: u32| json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm"});
    json!({
        "ociVersion": "1.2.0",
        "hostname": "inside",
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/", "noNewPrivileges": false,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps, "inheritable": [], "ambient": []}
        },
        "root": {"path": "rootfs", "readonly": false},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["ro", "nosuid", "noexec", "nodev"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]}
        ],
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": format!("/{CGROUP_PARENT}/{id}"),
            "maskedPaths": ["/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
                "/sys/firmware", "/sys/devices/virtual/powercap"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "resources": {"devices": [{"allow": false, "access": "rwm"}, device(1, 5), device(1, 3), device(1, 9),
                device(1, 8), device(5, 0), device(5, 1)]}
        }
    })
}

/// Every path below a directory with what it is: to see that nothing in it has changed.
pub fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        let content = if kind.is_file() { text(&fs::read(entry.path()).unwrap()) } else { format!("{kind:?}") };
        found.push(format!("{} {content}", entry.path().display()));
        if kind.is_dir() {
            found.extend(tree(&entry.path()));
        }
    }
    found.sort();
    found
}
