//! A bundle with a busybox root, and the command line that runs it.

use super::config::docker_defaults;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const APPLETS: [&str; 22] = [
    "sh", "cat", "id", "ls", "mknod", "mount", "umount", "true", "sleep", "grep", "stat", "pwd", "echo", "ps", "head",
    "env", "ln", "rm", "wc", "touch", "cut", "unshare",
];

const CGROUP_PARENT: &str = "caisson-runtime-test";

pub struct Bundle {
    pub id: String,
    pub dir: PathBuf,
    pub config: Value,
}

/// False when this machine cannot run these tests; CAISSON_REQUIRE makes that a failure.
pub fn able() -> bool {
    let able = rustix::process::geteuid().is_root() && Path::new("/bin/busybox").exists();
    assert!(able || std::env::var_os("CAISSON_REQUIRE").is_none(), "needs root and /bin/busybox");
    able
}

/// This machine has one hierarchy with all controllers.
pub fn cgroup2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// False when there is no Python for a program that looks around inside; CAISSON_REQUIRE makes that a failure.
pub fn python() -> bool {
    let python = Path::new("/usr/bin/python3").exists();
    assert!(python || std::env::var_os("CAISSON_REQUIRE").is_none(), "needs python3");
    python
}

/// How often an attack is tried: a part of what it takes to be sure, and all of it with CAISSON_LONG.
pub fn rounds(part: usize, all: usize) -> usize {
    if std::env::var_os("CAISSON_LONG").is_some() { all } else { part }
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
        let config = docker_defaults(&format!("/{CGROUP_PARENT}/{id}"));
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

    /// The host's Python, read-only.
    pub fn bind_python(&mut self) {
        for place in ["/usr", "/lib", "/lib64"].into_iter().filter(|place| Path::new(place).exists()) {
            self.add_mount(json!({"destination": place, "type": "bind", "source": place, "options": ["rbind", "ro"]}));
        }
    }

    pub fn state_root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The same bundle by Debian's runc 1.1.5, which has some of the old faults: a test that finds them there can find them.
    /// None when there is no runc; CAISSON_REQUIRE makes that a failure.
    pub fn run_by_runc(&self) -> Option<Output> {
        let runc = Path::new("/usr/sbin/runc");
        assert!(runc.exists() || std::env::var_os("CAISSON_REQUIRE").is_none(), "needs runc");
        if !runc.exists() {
            return None;
        }
        self.write();
        let mut command = Command::new(runc);
        command.arg("--root").arg(self.dir.join("runc")).arg("run").arg("--bundle").arg(&self.dir).arg(&self.id);
        Some(command.stdin(Stdio::null()).output().unwrap())
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

    pub fn assert_nothing_left(&self) {
        assert_eq!(self.what_is_left(), None);
    }

    /// State, a cgroup in any hierarchy, a mount on the host.
    pub fn what_is_left(&self) -> Option<String> {
        let state = self.state_root().join(&self.id);
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let groups = hierarchies.chain(["/sys/fs/cgroup".into()]);
        let places = groups.map(|hierarchy| hierarchy.join(CGROUP_PARENT).join(&self.id)).chain([state]);
        let left: Vec<_> = places.filter(|path| path.exists()).map(|path| path.display().to_string()).collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = mounts.lines().filter(|line| line.contains(&self.id)).map(str::to_owned);
        let left: Vec<String> = left.into_iter().chain(mounts).collect();
        (!left.is_empty()).then(|| format!("left: {}", left.join(", ")))
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.call_quiet(&["delete", "--force", &self.id]);
        let _ = fs::remove_dir_all(&self.dir);
    }
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

/// A directory and all that is below it.
pub fn tree_paths(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(tree_paths(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}
