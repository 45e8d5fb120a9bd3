//! Containers on the real kernel, as root. One process, one test function: the creator must be single-threaded, so that each
//! case runs in a copy of this program of its own (`CASE`), started by the harness below.

mod config;

use libcontainer_sys::cgroup;
use libcontainer_sys::container::{CreateOptions, ExecOptions, Manner, Notes, Stdio, create, exec};
use libcontainer_sys::spec::{Identity, Overlay, Process, Rootfs, Spec, UserSpec};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

fn spec(args: &[&str], id: &str) -> Value {
    let mut spec = config::docker_defaults(&format!("/caisson-crate-test/{id}"));
    spec["process"]["args"] = json!(args);
    spec["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0"});
    spec["linux"]["resources"]["memory"] = json!({"limit": 67108864, "swap": 67108864});
    spec["linux"]["resources"]["pids"] = json!({"limit": 64});
    spec
}

struct Ended {
    output: String,
    code: i32,
    seen_on_host: String,
}

fn image(dir: &Path) -> PathBuf {
    let lower = dir.join("lower");
    for sub in ["bin", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(lower.join(sub)).unwrap();
    }
    fs::copy("/bin/busybox", lower.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "cat", "id", "ls", "mknod", "mount", "true", "hostname", "sleep", "grep", "head", "stat", "pwd", "echo",
        "ps", "dd",
    ] {
        fs::hard_link(lower.join("bin/busybox"), lower.join("bin").join(applet)).unwrap();
    }
    fs::write(lower.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n").unwrap();
    fs::write(lower.join("etc/group"), "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n").unwrap();
    lower
}

/// Runs a container to its end with stdout and stderr in a pipe.
fn run(
    name: &str,
    config: &Value,
    user: Option<&str>,
    reaper: bool,
    prepare: impl FnOnce(&Path),
) -> Result<Ended, String> {
    let dir = std::env::temp_dir().join(format!("caisson-crate-{}-{name}", std::process::id()));
    let lower = image(&dir);
    prepare(&lower);
    for sub in ["upper", "work"] {
        fs::create_dir_all(dir.join(sub)).unwrap();
    }
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let rootfs = Rootfs::Overlay(Overlay {
        lower: vec![text(lower)],
        upper: text(dir.join("upper")),
        work: text(dir.join("work")),
        volatile: false,
    });
    let spec: Spec = serde_json::from_value(config.clone()).unwrap();
    let cgroup = cgroup::open(&spec.linux.cgroups_path).unwrap();
    cgroup.create().unwrap();
    cgroup.set(&spec.linux.resources).map_err(|failure| failure.message)?;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let null = fs::File::open("/dev/null").unwrap();
    let user = user.map(|user| UserSpec { user: user.into(), additional_groups: vec![] });
    let result = create(&CreateOptions {
        spec: &spec,
        rootfs: &rootfs,
        netns: None,
        user: user.as_ref(),
        stdio: Stdio::Descriptors([null.as_fd(), writer.as_fd(), writer.as_fd()]),
        reaper,
        cgroup: cgroup.as_ref(),
        attach: None,
        identity: &Identity::default(),
        how: Manner::default(),
        notes: Notes::UNHEARD,
    })
    .and_then(|pending| pending.start());
    drop(writer);
    let result = result.map(|started| {
        let mut output = String::new();
        let seen_on_host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        reader.read_to_string(&mut output).unwrap();
        let status = rustix::process::waitid(
            rustix::process::WaitId::PidFd(started.pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        );
        let status = status.unwrap().unwrap();
        let code = status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0));
        Ended { output, code, seen_on_host }
    });
    cgroup.remove().unwrap();
    assert!(cgroup.pids().unwrap().is_empty());
    fs::remove_dir_all(&dir).unwrap();
    result.map_err(|failure| failure.message)
}

fn shell(name: &str, script: &str) -> Ended {
    run(name, &spec(&["/bin/sh", "-c", script], name), None, false, |_| {}).unwrap()
}

fn case(name: &str) {
    match name {
        "defaults" => {
            let ended = shell(name, "hostname; id; pwd; cat /proc/self/status; ls /proc/self/fd; exit 7");
            assert_eq!(ended.code, 7, "{}", ended.output);
            assert!(ended.output.starts_with("inside\nuid=0(root) gid=0(root)\n/\n"), "{}", ended.output);
            for line in [
                "CapInh:\t0000000000000000",
                "CapPrm:\t00000000a80425fb",
                "CapEff:\t00000000a80425fb",
                "CapBnd:\t00000000a80425fb",
                "CapAmb:\t0000000000000000",
                "SigIgn:\t0000000000000000",
                "SigBlk:\t0000000000000000",
            ] {
                assert!(ended.output.contains(line), "{line} in\n{}", ended.output);
            }
            assert!(!ended.seen_on_host.contains("caisson-crate-"), "a mount on the host");
        }
        "masks" => {
            let ended = shell(
                name,
                "cat /proc/keys; echo x > /proc/sys/kernel/hostname || echo ro; mknod /tmp/k c 1 2 && dd if=/tmp/k count=1 2>&1; ls /sys/firmware; ls /dev",
            );
            assert!(ended.output.contains("ro\n"), "{}", ended.output);
            assert!(ended.output.contains("Operation not permitted"), "{}", ended.output);
            assert!(
                ended.output.replace("core\n", "").ends_with(
                    "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"
                ),
                "{}",
                ended.output
            );
        }
        "user" => {
            let config = spec(&["sh", "-c", "id; echo $HOME; cat /proc/self/status"], name);
            let ended = run(name, &config, Some("user"), false, |_| {}).unwrap();
            assert!(
                ended.output.contains("uid=1000(user) gid=1000(user) groups=1000(user),2000(extra)\n/home\n"),
                "{}",
                ended.output
            );
            assert!(
                ended.output.contains("CapEff:\t0000000000000000")
                    && ended.output.contains("CapPrm:\t0000000000000000"),
                "{}",
                ended.output
            );
        }
        "reaper" => {
            let mut config = spec(&["sh", "-c", "echo $$; sleep 0 & cat /proc/1/cmdline; exit 3"], name);
            // as Docker's filter has it
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]});
            let ended = run(name, &config, None, true, |_| {}).unwrap();
            let command = "sh\0-c\0echo $$; sleep 0 & cat /proc/1/cmdline; exit 3\0";
            assert_eq!((ended.output, ended.code), (format!("2\n/sbin/docker-init\0--\0{command}"), 3));
        }
        "missing-program" => {
            let error = run(name, &spec(&["nothing-there"], name), None, false, |_| {}).err().unwrap();
            assert_eq!(error, "exec: \"nothing-there\": executable file not found in $PATH");
            let error = run(name, &spec(&["/etc"], name), None, false, |_| {}).err().unwrap();
            assert_eq!(error, "exec: \"/etc\": is a directory: permission denied");
            let error = run(name, &spec(&["/etc/passwd"], name), None, false, |_| {}).err().unwrap();
            assert_eq!(error, "exec: \"/etc/passwd\": permission denied");
        }
        "proc-symlink" => {
            let error = run(name, &spec(&["true"], name), None, false, |lower| {
                fs::remove_dir(lower.join("proc")).unwrap();
                std::os::unix::fs::symlink("/tmp", lower.join("proc")).unwrap();
            });
            assert!(error.err().unwrap().contains("must be mounted on ordinary directory"));
        }
        "dev-symlink" => {
            let sentinel = std::env::temp_dir().join(format!("caisson-sentinel-{}", std::process::id()));
            fs::create_dir_all(&sentinel).unwrap();
            fs::write(sentinel.join("ptmx"), "mine").unwrap();
            let _ = run(name, &spec(&["true"], name), None, false, |lower| {
                std::os::unix::fs::symlink(&sentinel, lower.join("dev")).unwrap();
            });
            let left: Vec<_> = fs::read_dir(&sentinel).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(
                (left, fs::read_to_string(sentinel.join("ptmx")).unwrap()),
                (vec!["ptmx".into()], "mine".to_owned())
            );
            fs::remove_dir_all(&sentinel).unwrap();
        }
        "descriptor-as-cwd" => {
            for number in 3..24 {
                let mut config = spec(&["true"], name);
                config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
                assert!(run(name, &config, None, false, |_| {}).is_err(), "fd {number}");
            }
        }
        "exec" => exec_case(name),
        other => panic!("no case {other}"),
    }
}

fn exec_case(name: &str) {
    let dir = std::env::temp_dir().join(format!("caisson-crate-{}-{name}", std::process::id()));
    let lower = image(&dir);
    let spec: Spec = serde_json::from_value(spec(&["sleep", "1000"], name)).unwrap();
    let cgroup = cgroup::open(&spec.linux.cgroups_path).unwrap();
    cgroup.create().unwrap();
    cgroup.set(&spec.linux.resources).unwrap();
    let null = fs::File::open("/dev/null").unwrap();
    let stdio = || Stdio::Descriptors([null.as_fd(), null.as_fd(), null.as_fd()]);
    let init = create(&CreateOptions {
        spec: &spec,
        rootfs: &Rootfs::Path(lower.to_str().unwrap().to_owned()),
        netns: None,
        user: None,
        stdio: stdio(),
        reaper: false,
        cgroup: cgroup.as_ref(),
        attach: None,
        identity: &Identity::default(),
        how: Manner::default(),
        notes: Notes::UNHEARD,
    })
    .and_then(|pending| pending.start())
    .unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut process: Process = spec.process.clone();
    process.args = ["sh", "-c", "hostname; ps | grep -c sleep; cat /proc/self/cgroup; ls /proc/self/fd"]
        .map(str::to_owned)
        .to_vec();
    let joined = exec(&ExecOptions {
        process: &process,
        pidfd: init.pidfd.as_fd(),
        spec: &spec,
        user: None,
        stdio: Stdio::Descriptors([null.as_fd(), writer.as_fd(), writer.as_fd()]),
        privileged: false,
        cgroup: cgroup.as_ref(),
        attach: None,
        beside_init: true,
        identity: &Identity::default(),
        preserved_fds: 0,
        notes: Notes::UNHEARD,
    })
    .and_then(|pending| pending.start())
    .unwrap();
    drop(writer);
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    assert!(output.starts_with("inside\n"), "{output}");
    assert!(output.contains(&format!(":/caisson-crate-test/{name}")), "{output}");
    let descriptors = output.lines().rev().take_while(|line| line.parse::<u32>().is_ok()).count();
    assert_eq!(descriptors, 4, "0, 1, 2 and ls's own: {output}");
    for (pid, pidfd) in [(joined.pid, &joined.pidfd), (init.pid, &init.pidfd)] {
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL);
        rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), rustix::process::WaitIdOptions::EXITED)
            .unwrap();
    }
    cgroup.remove().unwrap();
    fs::remove_dir_all(&dir).unwrap();
}

const CASES: [&str; 9] = [
    "defaults",
    "masks",
    "user",
    "reaper",
    "missing-program",
    "proc-symlink",
    "dev-symlink",
    "descriptor-as-cwd",
    "exec",
];

/// A harness of its own: libtest runs tests on threads, and a creator must have none.
fn main() {
    if let Ok(name) = std::env::var("CASE") {
        return case(&name);
    }
    if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
        assert!(std::env::var_os("CAISSON_REQUIRE").is_none(), "needs root and /bin/busybox");
        println!("skipped: needs root and /bin/busybox");
        return;
    }
    let mut failed = 0;
    for name in CASES {
        let output = std::process::Command::new("/proc/self/exe").env("CASE", name).output().unwrap();
        println!("test {name} ... {}", if output.status.success() { "ok" } else { "FAILED" });
        if !output.status.success() {
            failed += 1;
            println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        }
    }
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = fs::remove_dir(hierarchy.path().join("caisson-crate-test"));
    }
    println!("{} passed, {failed} failed", CASES.len() - failed);
    assert_eq!(failed, 0);
}
