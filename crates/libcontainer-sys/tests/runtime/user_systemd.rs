//! The systemd driver of an ordinary user, whose own systemd makes the scopes: `npm run test:guest -- --systemd`.

use super::bundle::{Bundle, able, cgroup2, text, tree_paths};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

// systemd wants one with a name
const NAME: &str = "daemon";
const USER: u32 = 1;
const SERVICE: &str = "caisson-test-user.service";
const RUNTIME_DIR: &str = "/run/caisson-test-user";

fn succeed(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}{}", text(&output.stdout), text(&output.stderr));
}

/// A systemd as user@.service starts it, without a login. What it needs and has started itself ends with it.
struct OwnSystemd {
    bus_is_ours: bool,
}

impl OwnSystemd {
    fn start() -> OwnSystemd {
        // a user's systemd asks the host's over the bus; the guest has booted nothing, not even that
        let bus_is_ours =
            !Command::new("systemctl").args(["-q", "is-active", "dbus.service"]).status().unwrap().success();
        if bus_is_ours {
            for unit in ["dbus.socket", "dbus.service"] {
                let dir = format!("/run/systemd/system/{unit}.d");
                fs::create_dir_all(&dir).unwrap();
                fs::write(format!("{dir}/alone.conf"), "[Unit]\nDefaultDependencies=no\n").unwrap();
            }
            succeed(&["systemctl", "daemon-reload"]);
            succeed(&["systemctl", "start", "dbus.service"]);
        }
        let systemd = OwnSystemd { bus_is_ours };
        fs::create_dir_all(RUNTIME_DIR).unwrap();
        chown(RUNTIME_DIR, Some(USER), Some(USER)).unwrap();
        let (unit, uid) = (format!("--unit={SERVICE}"), format!("--uid={NAME}"));
        let (dir, home) = (format!("XDG_RUNTIME_DIR={RUNTIME_DIR}"), format!("HOME={RUNTIME_DIR}"));
        let settings = ["-p", "Type=notify", "-p", "Delegate=yes", "-p", "DefaultDependencies=no"];
        let program = ["-E", &dir, "-E", &home, "/lib/systemd/systemd", "--user", "--unit=basic.target"];
        succeed(&[&["systemd-run", &unit, &uid][..], &settings, &program].concat());
        systemd
    }

    fn group() -> String {
        format!("/sys/fs/cgroup/system.slice/{SERVICE}")
    }
}

impl Drop for OwnSystemd {
    fn drop(&mut self) {
        let bus: &[&str] = if self.bus_is_ours { &["dbus.service", "dbus.socket"] } else { &[] };
        let _ = Command::new("systemctl").args(["stop", SERVICE]).args(bus).status();
        let _ = fs::remove_dir_all(RUNTIME_DIR);
    }
}

fn rootless(name: &str) -> Bundle {
    let own = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    let mut bundle = Bundle::new(name);
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    let linux = &mut bundle.config["linux"];
    linux["namespaces"].as_array_mut().unwrap().extend([json!({"type": "user"}), json!({"type": "cgroup"})]);
    linux["uidMappings"] = own.clone();
    linux["gidMappings"] = own;
    linux["cgroupsPath"] = json!(format!("app.slice:caisson:{}", bundle.id));
    linux["resources"]["memory"] = json!({"limit": 64 << 20});
    linux["resources"]["pids"] = json!({"limit": 50});
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        // the group of terminals has no number here
        mount["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
    }
    bundle.write();
    tree_paths(&bundle.dir).iter().for_each(|path| chown(path, Some(USER), Some(USER)).unwrap());
    bundle
}

/// As the user, from the cgroup `from`.
fn call(bundle: &Bundle, from: &str, words: &[&str]) -> Output {
    let mut command = bundle.command(&[&["--systemd-cgroup"], words].concat());
    command.uid(USER).gid(USER).env("XDG_RUNTIME_DIR", RUNTIME_DIR);
    let said = bundle.dir.join("said");
    // a file: a container would hold a pipe open
    let file = fs::File::create(&said).unwrap();
    command.stdout(file.try_clone().unwrap()).stderr(file);
    let here = fs::read_to_string("/proc/self/cgroup").unwrap();
    let here = here.trim().strip_prefix("0::").unwrap().to_owned();
    fs::write(format!("{from}/cgroup.procs"), std::process::id().to_string()).unwrap();
    let status = command.status();
    fs::write(format!("/sys/fs/cgroup{here}/cgroup.procs"), std::process::id().to_string()).unwrap();
    Output { status: status.unwrap(), stdout: fs::read(&said).unwrap(), stderr: Vec::new() }
}

fn said(bundle: &Bundle, from: &str, words: &[&str]) -> String {
    let output = call(bundle, from, words);
    assert!(output.status.success(), "{words:?}: {}", text(&output.stdout));
    text(&output.stdout)
}

fn limits_a_container(name: &str, from: &str) {
    let bundle = rootless(name);
    let scope = format!("{}/app.slice/caisson-{}.scope", OwnSystemd::group(), bundle.id);
    let file = |name: &str| fs::read_to_string(format!("{scope}/{name}")).unwrap().trim().to_owned();
    said(&bundle, from, &["run", "--detach", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
    assert_eq!([file("memory.max"), file("pids.max")], ["67108864", "50"]);
    let state: Value = serde_json::from_str(&said(&bundle, from, &["state", &bundle.id])).unwrap();
    assert_eq!(file("cgroup.procs"), state["pid"].to_string(), "init, and nobody else");
    assert_eq!(said(&bundle, from, &["exec", &bundle.id, "cat", "/proc/self/cgroup"]), "0::/\n");
    said(&bundle, from, &["update", "--memory", "32m", "--pids-limit", "40", &bundle.id]);
    assert_eq!([file("memory.max"), file("pids.max")], ["33554432", "40"]);
    said(&bundle, from, &["pause", &bundle.id]);
    assert_eq!(file("cgroup.freeze"), "1");
    said(&bundle, from, &["resume", &bundle.id]);
    said(&bundle, from, &["delete", "--force", &bundle.id]);
    assert!(!Path::new(&scope).exists());
    bundle.assert_nothing_left();
}

#[test]
fn systemd_of_an_ordinary_user_limits_his_containers() {
    if !able() || !Path::new("/run/systemd/system").is_dir() || !cgroup2() {
        return;
    }
    let systemd = OwnSystemd::start();
    // from where all is his, as podman calls; and from a login, which the host's systemd has put elsewhere
    limits_a_container("user-scope", &format!("{}/init.scope", OwnSystemd::group()));
    let login = "/sys/fs/cgroup/caisson-test-login";
    fs::create_dir_all(login).unwrap();
    limits_a_container("user-login", login);
    fs::remove_dir(login).unwrap();
    let bundle = rootless("user-none");
    drop(systemd);
    let refused =
        call(&bundle, "/sys/fs/cgroup/init.scope", &["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
    assert!(text(&refused.stdout).contains("loginctl enable-linger"), "{}", text(&refused.stdout));
    bundle.assert_nothing_left();
}
