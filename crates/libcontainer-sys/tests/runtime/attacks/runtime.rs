//! The runtime itself: its program, its descriptors, its memory.

use crate::bundle::{Bundle, able, rounds, text};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

/// CVE-2019-5736: the runtime as the container's own program, and written to.
#[test]
fn the_runtime_itself_cannot_be_overwritten() {
    if !able() {
        return;
    }
    let own = env!("CARGO_BIN_EXE_caisson-runtime");
    let before = fs::read(own).unwrap();
    let script = "#!/proc/self/exe\n";
    let mut bundle = Bundle::new("own-exe");
    fs::write(bundle.rootfs("bin/evil"), script).unwrap();
    fs::set_permissions(bundle.rootfs("bin/evil"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for args in [json!(["/proc/self/exe"]), json!(["/bin/evil"])] {
        bundle.config["process"]["args"] = args;
        bundle.run();
    }
    // seen from inside, a joining process has no file of the host as its program
    bundle.config["process"]["args"] = json!([
        "sh",
        "-c",
        "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || (echo x > $p/exe) 2>/dev/null && echo written; done; done"
    ]);
    bundle.config["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE"));
    for set in ["effective", "permitted"] {
        bundle.config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE"));
    }
    bundle.write();
    assert!(bundle.call_quiet(&["run", "--detach", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
    for _ in 0..rounds(100, 1000) {
        assert!(bundle.call(&["exec", &bundle.id, "true"]).status.success());
    }
    assert!(fs::read(own).unwrap() == before, "{own} has changed");
}

/// CVE-2024-21626: a leaked descriptor of the host as working directory.
#[test]
fn a_descriptor_is_no_working_directory() {
    if !able() {
        return;
    }
    for number in 3..=20 {
        let mut bundle = Bundle::shell("fd-cwd", "pwd");
        symlink(format!("/proc/self/fd/{number}"), bundle.rootfs("link")).unwrap();
        for cwd in [format!("/proc/self/fd/{number}"), "/link".into(), format!("/proc/self/fd/{number}/../..")] {
            bundle.config["process"]["cwd"] = json!(cwd);
            bundle.write();
            let line = format!(
                "exec {number}</; exec {} --root {} run --bundle {} {}",
                env!("CARGO_BIN_EXE_caisson-runtime"),
                bundle.state_root().display(),
                bundle.dir.display(),
                bundle.id
            );
            let output = std::process::Command::new("/bin/bash").args(["-c", &line]).output().unwrap();
            assert!(!output.status.success(), "{cwd}: {}", text(&output.stdout));
            bundle.assert_nothing_left();
        }
    }
}

/// CVE-2024-21626 by an exec: the joiner has descriptors of the host when it goes to its directory.
#[test]
fn a_descriptor_is_no_working_directory_of_an_exec() {
    if !able() {
        return;
    }
    let bundle = Bundle::shell("fd-exec", "sleep 1000");
    bundle.write();
    assert!(bundle.call_quiet(&["run", "--detach", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
    for number in 3..=20 {
        for cwd in
            [format!("/proc/self/fd/{number}"), format!("/proc/1/fd/{number}"), format!("/proc/self/fd/{number}/..")]
        {
            let line = format!(
                "exec {number}</; exec {} --root {} exec --cwd {cwd} {} pwd",
                env!("CARGO_BIN_EXE_caisson-runtime"),
                bundle.state_root().display(),
                bundle.id
            );
            let output = std::process::Command::new("/bin/bash").args(["-c", &line]).output().unwrap();
            assert!(!output.status.success(), "{cwd}: {}", text(&output.stdout));
        }
    }
}
/// CVE-2021-43784: lengths that overflow on the way to init.
#[test]
fn a_large_configuration_arrives_whole() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::shell("large", "env | grep -c ^LONG_; env | wc -c; ls /many | wc -l");
    let value = "x".repeat(65_536);
    let env = bundle.config["process"]["env"].as_array_mut().unwrap();
    for number in 0..16 {
        env.push(json!(format!("LONG_{number}={value}")));
    }
    fs::write(bundle.dir.join("file"), "").unwrap();
    for number in 0..500 {
        let source = bundle.dir.join("file");
        bundle.add_mount(
            json!({"destination": format!("/many/{number}"), "type": "bind", "source": source, "options": ["bind"]}),
        );
    }
    let output = bundle.output();
    let lines: Vec<u64> = output.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!((lines[0], lines[2]), (16, 500));
    assert!(lines[1] > 16 * 65_536, "{output}");
}
