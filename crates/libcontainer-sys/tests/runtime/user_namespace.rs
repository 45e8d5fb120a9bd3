//! User namespaces: new, joined by path, by exec; and mounts with ids of their own.

use super::bundle::{Bundle, able, text};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

const FIRST: u32 = 100_000;

/// Of the host, without any rights.
const USER: u32 = 1234;

fn mappings() -> Value {
    json!([{"containerID": 0, "hostID": FIRST, "size": 65536}])
}

/// A container whose root is uid 100000 of the host, owner of its files.
fn mapped(name: &str, script: &str) -> Bundle {
    let mut bundle = Bundle::shell(name, script);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.extend([json!({"type": "user"}), json!({"type": "cgroup"})]);
    bundle.config["linux"]["uidMappings"] = mappings();
    bundle.config["linux"]["gidMappings"] = mappings();
    for path in super::bundle::tree_paths(&bundle.rootfs("")) {
        chown(&path, Some(FIRST), Some(FIRST)).unwrap();
    }
    bundle
}

#[test]
fn root_inside_is_nobody_outside() {
    if !able() {
        return;
    }
    let script = "cat /proc/self/uid_map; id -u; touch /made; for d in null zero full random urandom tty; do \
                  stat -c '%n %t:%T' /dev/$d; done; echo x > /dev/null; cat /proc/keys | wc -c; mknod /tmp/x c 1 3 2>&1; \
                  grep -c cgroup /proc/self/mountinfo; ulimit -n; cat /proc/self/oom_score_adj";
    let mut bundle = mapped("userns", script);
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 2048, "hard": 4096}]);
    bundle.config["process"]["oomScoreAdj"] = json!(100);
    let output = bundle.output();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(&words[..4], ["0", "100000", "65536", "0"], "{output}");
    assert!(output.contains("/dev/null 1:3\n") && output.contains("/dev/tty 5:0\n"), "{output}");
    assert!(output.contains("Operation not permitted") && output.ends_with("\n2048\n100\n"), "{output}");
    let made = fs::metadata(bundle.rootfs("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (FIRST, FIRST));
    bundle.assert_nothing_left();
}

#[test]
fn an_exec_joins_it_and_a_second_container_too() {
    if !able() {
        return;
    }
    let mut bundle = mapped("userns-join", "");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write();
    assert!(bundle.call_quiet(&["run", "--detach", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
    let exec =
        bundle.call(&["exec", &bundle.id, "sh", "-c", "stat -c %N /proc/self/ns/user; cut -b-22 /proc/self/uid_map"]);
    let state: Value = serde_json::from_slice(&bundle.call(&["state", &bundle.id]).stdout).unwrap();
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", state["pid"]);
    let link = fs::read_link(path("user")).unwrap();
    assert!(text(&exec.stdout).contains(link.to_str().unwrap()), "{}{}", text(&exec.stdout), text(&exec.stderr));

    let script =
        "stat -c 'mapped %u' /mapped; stat -c %N /proc/self/ns/user; stat -c %N /proc/self/ns/pid; id -u; echo $$";
    let mut second = Bundle::shell("userns-second", script);
    for file in super::bundle::tree_paths(&second.rootfs("")) {
        chown(&file, Some(FIRST), Some(FIRST)).unwrap();
    }
    second.config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"},
        {"type": "user", "path": path("user")}, {"type": "pid", "path": path("pid")}]);
    let source = second.dir.join("source");
    fs::create_dir(&source).unwrap();
    second.add_mount(json!({"destination": "/mapped", "type": "bind", "source": source, "options": ["bind", "idmap"]}));
    let output = second.output();
    assert!(output.starts_with("mapped 0\n"), "the map of the namespace that was joined: {output}");
    assert!(output.contains(link.to_str().unwrap()), "{output}");
    assert!(output.contains(fs::read_link(path("pid")).unwrap().to_str().unwrap()), "{output}");
    assert!(!output.ends_with("\n1\n"), "a process among others: {output}");
}

#[test]
fn a_bind_has_the_ids_of_its_own_map() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::shell("idmap", "stat -c %u /own/file /container/file; touch /own/new");
    let source = bundle.dir.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    chown(&source, Some(1000), Some(1000)).unwrap();
    chown(source.join("file"), Some(1000), Some(1000)).unwrap();
    let maps = json!([{"containerID": 1000, "hostID": 0, "size": 1}]);
    bundle.add_mount(json!({"destination": "/own", "type": "bind", "source": source, "options": ["rbind", "idmap"],
        "uidMappings": maps, "gidMappings": maps}));
    bundle.add_mount(json!({"destination": "/container", "type": "bind", "source": source, "options": ["rbind"]}));
    assert_eq!(bundle.output(), "0\n1000\n");
    assert_eq!(fs::metadata(source.join("new")).unwrap().uid(), 1000);

    // with the container's own map what belongs to root on the host belongs to root inside
    let mut bundle = mapped("idmap-container", "stat -c %u /mapped/file /plain/file");
    let source = bundle.dir.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    bundle
        .add_mount(json!({"destination": "/mapped", "type": "bind", "source": source, "options": ["bind", "ridmap"]}));
    bundle.add_mount(json!({"destination": "/plain", "type": "bind", "source": source, "options": ["bind"]}));
    assert_eq!(bundle.output(), "0\n65534\n");
}

/// As rootless podman calls: an ordinary user of the host is root of a user namespace that is there already.
#[test]
fn root_of_a_users_namespace_runs_containers() {
    if !able() {
        return;
    }
    let script = "id -u; cut -b-22 /proc/self/uid_map; echo x > /dev/null; stat -c '%n %t:%T' /dev/null; cat /proc/keys | wc -c; \
                  touch /made; touch /bound/made 2>&1; true";
    let mut bundle = Bundle::shell("inner-root", script);
    let source = bundle.dir.join("source");
    fs::create_dir(&source).unwrap();
    bundle.add_mount(json!({"destination": "/bound", "type": "bind", "source": source, "options": ["rbind", "ro"]}));
    bundle.config["linux"]["cgroupsPath"] = json!("");
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        // the group of terminals has no number here
        mount["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
    }
    bundle.write();
    super::bundle::tree_paths(&bundle.dir).iter().for_each(|path| chown(path, Some(USER), Some(USER)).unwrap());
    let words = ["--root", bundle.dir.to_str().unwrap(), "run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id];
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]).arg(env!("CARGO_BIN_EXE_caisson-runtime")).args(words);
    let output = command.uid(USER).gid(USER).stdin(Stdio::null()).output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    let map = format!("{:>10} {USER:>10} ", 0);
    assert!(said.starts_with(&format!("0\n{map}\n/dev/null 1:3\n0\n")), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert_eq!(fs::metadata(bundle.rootfs("made")).unwrap().uid(), USER);
    bundle.assert_nothing_left();
}

/// Without any right on the host: his own id alone is mapped, and where he may make no cgroup there are no limits.
#[test]
fn an_ordinary_user_runs_containers() {
    if !able() {
        return;
    }
    let own = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    let mut bundle = Bundle::new("rootless");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    let linux = &mut bundle.config["linux"];
    linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    linux["uidMappings"] = own.clone();
    linux["gidMappings"] = own;
    linux["cgroupsPath"] = json!("");
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        // the group of terminals has no number here
        mount["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
    }
    bundle.write();
    super::bundle::tree_paths(&bundle.dir).iter().for_each(|path| chown(path, Some(USER), Some(USER)).unwrap());
    let call = |bundle: &Bundle, words: &[&str]| -> Output {
        let mut command = bundle.command(words);
        command.uid(USER).gid(USER).env("XDG_RUNTIME_DIR", &bundle.dir);
        // not a pipe, which the container would hold open
        let said = bundle.dir.join("said");
        let file = fs::File::create(&said).unwrap();
        let status = command.stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
        Output { status, stdout: fs::read(&said).unwrap(), stderr: Vec::new() }
    };
    let dir = bundle.dir.to_str().unwrap().to_owned();
    let run = call(&bundle, &["run", "--detach", "--bundle", &dir, &bundle.id]);
    assert!(run.status.success(), "{}", text(&run.stdout));
    let look = "id -u; touch /made; grep -c . /proc/self/uid_map; cat /proc/self/setgroups";
    assert_eq!(text(&call(&bundle, &["exec", &bundle.id, "sh", "-c", look]).stdout), "0\n1\ndeny\n");
    assert_eq!(fs::metadata(bundle.rootfs("made")).unwrap().uid(), USER);
    let pause = text(&call(&bundle, &["pause", &bundle.id]).stdout);
    assert!(pause.contains("pause: this container has no cgroup of its own"), "{pause}");
    let delete = call(&bundle, &["delete", "--force", &bundle.id]);
    assert!(delete.status.success(), "{}", text(&delete.stdout));
    bundle.assert_nothing_left();

    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 10});
    bundle.write();
    let limited = text(&call(&bundle, &["run", "--bundle", &dir, &bundle.id]).stdout);
    assert!(limited.contains("rootless needs no limits"), "{limited}");
    bundle.assert_nothing_left();
}
