//! Hooks: where and when each runs, what it is told, and what its failure does.

use super::bundle::{Bundle, able, text};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that writes one line: its kind, what it was told, and whether it stands in the container's root.
fn hook(bundle: &Bundle, kind: &str) -> Value {
    let log = log(bundle);
    // startContainer runs inside, where the host's path does not exist
    let to = if kind == "startContainer" { "/log".into() } else { log.display().to_string() };
    let script = format!("read -r state; echo \"{kind} $MARK $0 $state\" >> {to}");
    json!({"path": "/bin/sh", "args": ["sh", "-c", script, "zero"], "env": [format!("MARK=mark-{kind}")]})
}

fn log(bundle: &Bundle) -> PathBuf {
    bundle.dir.join("log")
}

fn lines(bundle: &Bundle) -> Vec<(String, Value)> {
    let both = [log(bundle), bundle.rootfs("log")].map(|path| fs::read_to_string(path).unwrap_or_default());
    let mut found: Vec<(String, Value)> = Vec::new();
    for line in both.iter().flat_map(|text| text.lines()) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        assert_eq!((words[1], words[2]), (format!("mark-{}", words[0]).as_str(), "zero"), "{line}");
        found.push((words[0].to_owned(), serde_json::from_str(words[3]).unwrap()));
    }
    found.sort_by_key(|(kind, _)| KINDS.iter().position(|known| known == kind));
    found
}

fn with_all(name: &str) -> Bundle {
    let mut bundle = Bundle::new(name);
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.config["annotations"] = json!({"org.example.key": "value"});
    bundle.config["hooks"] = json!({});
    for kind in KINDS {
        bundle.config["hooks"][kind] = json!([hook(&bundle, kind)]);
    }
    bundle.write();
    bundle
}

#[test]
fn each_kind_runs_at_its_time_with_the_state_on_its_stdin() {
    if !able() {
        return;
    }
    let bundle = with_all("hooks");
    let (id, dir) = (bundle.id.clone(), bundle.dir.to_str().unwrap().to_owned());
    let seen = || lines(&bundle).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
    assert!(bundle.call_quiet(&["create", "--bundle", &dir, &id]));
    assert_eq!(seen(), KINDS[..3]);
    assert!(bundle.call_quiet(&["start", &id]));
    assert_eq!(seen(), KINDS[..5]);
    let pid = serde_json::from_slice::<Value>(&bundle.call(&["state", &id]).stdout).unwrap()["pid"].clone();
    assert!(bundle.call_quiet(&["delete", "--force", &id]));
    let told = lines(&bundle);
    let statuses = ["creating", "creating", "creating", "created", "running", "stopped"];
    let pids = [pid.clone(), pid.clone(), json!(1), json!(1), pid, json!(0)];
    for (at, (kind, state)) in told.iter().enumerate() {
        assert_eq!(kind, KINDS[at]);
        assert_eq!((&state["status"], &state["pid"]), (&json!(statuses[at]), &pids[at]), "{kind}");
        assert_eq!((&state["id"], &state["bundle"]), (&json!(id), &json!(dir)), "{kind}");
        assert_eq!(state["annotations"], json!({"org.example.key": "value"}), "{kind}");
    }
    assert_eq!(told.len(), 6);
}

#[test]
fn create_container_hooks_see_the_mounts_and_the_host() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::shell("hook-mounts", "cat /seen");
    let script = format!(
        "ls {}/proc/self > /dev/null && echo mounted > {}",
        bundle.rootfs("").display(),
        bundle.rootfs("seen").display()
    );
    bundle.config["hooks"] = json!({"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    assert_eq!(bundle.output(), "mounted\n");
    assert!(fs::read_dir(bundle.rootfs("proc")).unwrap().next().is_none(), "the mount is the container's own");
}

#[test]
fn a_hook_that_fails_ends_the_container() {
    if !able() {
        return;
    }
    for kind in &KINDS[..5] {
        let mut bundle = with_all("hook-fails");
        let fails = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo out; echo err >&2; exit 3"]});
        let never = hook(&bundle, kind);
        bundle.config["hooks"][kind] = json!([{"path": "/bin/true"}, fails, never]);
        let message = bundle.refusal();
        assert!(
            message
                .contains(&format!("error running {kind} hook #1: /bin/sh: exit status 3, stdout: out, stderr: err")),
            "{message}"
        );
        let seen: Vec<String> = lines(&bundle).into_iter().map(|(kind, _)| kind).collect();
        assert!(!seen.iter().any(|seen| seen == kind), "no hook after the one that failed: {seen:?}");
        assert_eq!(seen.last().map(String::as_str), Some("poststop"), "{kind}");
    }
}

#[test]
fn a_container_whose_poststart_hook_fails_is_deleted() {
    if !able() {
        return;
    }
    let mut bundle = with_all("hook-poststart");
    bundle.config["hooks"]["poststart"] = json!([{"path": "/bin/false"}]);
    bundle.write();
    assert!(bundle.call_quiet(&["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
    let start = bundle.call(&["start", &bundle.id]);
    assert!(text(&start.stderr).contains("error running poststart hook #0"), "{}", text(&start.stderr));
    assert_eq!(lines(&bundle).last().map(|(kind, _)| kind.clone()).as_deref(), Some("poststop"));
    assert!(!bundle.call_quiet(&["state", &bundle.id]));
    bundle.assert_nothing_left();
}

#[test]
fn a_poststop_hook_that_fails_is_a_warning() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("hook-poststop");
    let last = hook(&bundle, "poststop");
    bundle.config["hooks"] = json!({"poststop": [{"path": "/bin/false"}, {"path": "/no/such/hook"}, last]});
    let output = bundle.run();
    assert!(output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains("warning: error running poststop hook #0: /bin/false: exit status 1"), "{said}");
    assert!(said.contains("poststop hook #1: /no/such/hook: no such file or directory"), "{said}");
    assert_eq!(lines(&bundle).len(), 1);
    bundle.assert_nothing_left();
}

#[test]
fn a_hook_has_its_time() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("hook-timeout");
    bundle.config["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]});
    let message = bundle.refusal();
    assert!(message.contains("hook ran past specified timeout of 1.0s"), "{message}");
}

#[test]
fn a_hook_may_say_much_and_read_nothing() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("hook-much");
    bundle.config["annotations"] = json!({"long": "x".repeat(1 << 20)});
    let script = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2";
    bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    assert_eq!(bundle.output(), "");
}

/// CVE-2025-23266: a loader's variables of the image in a hook that runs on the host. One without an environment has the
/// caller's.
#[test]
fn a_hook_on_the_host_has_nothing_of_the_containers_environment() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("hook-env");
    bundle.config["process"]["args"] = json!(["true"]);
    bundle.config["process"]["env"] = json!(["PATH=/bin", "LD_PRELOAD=/evil.so", "OF_IMAGE=1"]);
    bundle.config["hooks"] = json!({});
    let kinds = KINDS.iter().filter(|kind| **kind != "startContainer");
    for kind in kinds.clone() {
        let script =
            format!("echo {kind} ${{OF_CALLER-}} ${{OF_IMAGE-}}${{LD_PRELOAD-}} >> {}", log(&bundle).display());
        bundle.config["hooks"][kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    }
    bundle.write();
    let mut command = bundle.command(&["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
    let output = command.env("OF_CALLER", "caller").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told = fs::read_to_string(log(&bundle)).unwrap();
    let wanted: String = kinds.map(|kind| format!("{kind} caller\n")).collect();
    assert_eq!(told, wanted);
}
