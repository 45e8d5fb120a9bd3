//! The systemd driver, where systemd runs: `npm run test:guest -- --systemd`.

use super::bundle::{Bundle, able, text};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn booted() -> bool {
    able() && Path::new("/run/systemd/system").is_dir()
}

/// A container that sleeps, in a scope of its own below a slice of ours.
fn bundle(name: &str) -> (Bundle, String) {
    let mut bundle = Bundle::new(name);
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.config["linux"]["cgroupsPath"] = json!(format!("caisson-test.slice:caisson:{}", bundle.id));
    let unit = format!("caisson-{}.scope", bundle.id);
    (bundle, unit)
}

fn call(bundle: &Bundle, words: &[&str]) {
    let words = [&["--systemd-cgroup"], words].concat();
    let log = bundle.dir.join("log");
    // a file: a container would hold a pipe open
    let output = fs::File::create(&log).unwrap();
    let status = bundle.command(&words).stdout(output.try_clone().unwrap()).stderr(output).status().unwrap();
    assert!(status.success(), "{words:?}: {}", fs::read_to_string(&log).unwrap());
}

fn create(bundle: &Bundle) {
    bundle.write();
    call(bundle, &["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
}

fn shown(unit: &str, property: &str) -> String {
    let output = Command::new("systemctl").args(["show", "--value", "--property", property, unit]).output().unwrap();
    text(&output.stdout).trim().to_owned()
}

fn file(unit: &str, controller: &str, name: &str) -> String {
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let hierarchy: PathBuf = ["/sys/fs/cgroup", if v2 { "" } else { controller }].iter().collect();
    let path = hierarchy.join("caisson.slice/caisson-test.slice").join(unit).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn assert_gone(bundle: &Bundle, unit: &str) {
    assert_eq!(shown(unit, "LoadState"), "not-found");
    let found = Command::new("find").args(["/sys/fs/cgroup", "-name", unit]).output().unwrap();
    assert_eq!(text(&found.stdout), "");
    bundle.assert_nothing_left();
}

#[test]
fn a_container_is_a_scope_with_its_limits() {
    if !booted() {
        return;
    }
    let (mut bundle, unit) = bundle("scope");
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 50});
    bundle.config["linux"]["resources"]["cpu"] = json!({"quota": 5000, "period": 10000, "cpus": "0"});
    bundle.config["annotations"] = json!({"org.systemd.property.TimeoutStopSec": "uint64 7"});
    create(&bundle);
    let init = || bundle.call(&["ps", "--format", "json", &bundle.id]).stdout;
    // what held the scope is not in it any more
    assert_eq!(text(&init()).matches(',').count(), 0, "{}", text(&init()));
    call(&bundle, &["start", &bundle.id]);
    for (property, value) in [
        ("ActiveState", "active"),
        ("Slice", "caisson-test.slice"),
        ("Delegate", "yes"),
        ("TasksMax", "50"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("AllowedCPUs", "0"),
        ("DevicePolicy", "strict"),
        ("TimeoutStopUSec", "7s"),
    ] {
        assert_eq!(shown(&unit, property), value, "{property}");
    }
    let v2 = super::bundle::cgroup2();
    let (memory, limit) = if v2 { ("MemoryMax", "memory.max") } else { ("MemoryLimit", "memory.limit_in_bytes") };
    assert_eq!(shown(&unit, memory), (64 << 20).to_string());
    call(&bundle, &["update", "--memory", "32m", "--pids-limit", "40", &bundle.id]);
    let low = bundle.dir.join("low.json");
    fs::write(&low, r#"{"memory": {"limit": 4096, "checkBeforeUpdate": true}}"#).unwrap();
    let refused = bundle.call(&["update", "--resources", low.to_str().unwrap(), &bundle.id]);
    assert!(text(&refused.stderr).contains("rejecting memory limit"), "{}", text(&refused.stderr));
    assert_eq!(bundle.status(), "running");
    // systemd writes what it knows again
    assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
    assert_eq!(shown(&unit, memory), (32 << 20).to_string());
    assert_eq!(file(&unit, "memory", limit), (32 << 20).to_string());
    assert_eq!(file(&unit, "pids", "pids.max"), "40");
    let inside = bundle.call(&["exec", &bundle.id, "sh", "-c", "mknod /k c 1 11 && echo made; cat /k"]);
    assert_eq!(text(&inside.stdout), "made\n");
    assert!(text(&inside.stderr).contains("Operation not permitted"), "{}", text(&inside.stderr));
    call(&bundle, &["pause", &bundle.id]);
    assert_eq!(bundle.status(), "paused");
    call(&bundle, &["delete", "--force", &bundle.id]);
    assert_gone(&bundle, &unit);
}

#[test]
fn a_foreground_run_leaves_no_scope() {
    if !booted() {
        return;
    }
    let (mut bundle, unit) = bundle("run");
    let run = |bundle: &Bundle| {
        bundle.write();
        bundle.call(&["--systemd-cgroup", "run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id])
    };
    bundle.config["process"]["args"] = json!(["sh", "-c", "cat /proc/self/cgroup; exit 3"]);
    let output = run(&bundle);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(&unit), "{}", text(&output.stdout));
    assert_gone(&bundle, &unit);
    bundle.config["process"]["args"] = json!(["/nowhere"]);
    assert!(text(&run(&bundle).stderr).contains("no such file"));
    assert_gone(&bundle, &unit);
}

#[test]
fn a_scope_that_is_taken_is_left_alone() {
    if !booted() {
        return;
    }
    let (first, unit) = bundle("taken");
    create(&first);
    let mut second = Bundle::new("taker");
    second.config["linux"]["cgroupsPath"] = first.config["linux"]["cgroupsPath"].clone();
    second.write();
    let refused = second.call(&["--systemd-cgroup", "create", "--bundle", second.dir.to_str().unwrap(), &second.id]);
    assert!(text(&refused.stderr).contains("cgroup is not empty"), "{}", text(&refused.stderr));
    second.assert_nothing_left();
    assert_eq!((first.status().as_str(), shown(&unit, "ActiveState").as_str()), ("created", "active"));
    call(&first, &["delete", "--force", &first.id]);
    assert_gone(&first, &unit);
}
