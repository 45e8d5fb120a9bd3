//! Mounts: options that change what is seen or how far they reach.

use super::bundle::{Bundle, able, text};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

#[test]
fn a_tmpfs_may_begin_with_what_lies_below() {
    if !able() {
        return;
    }
    let script = "cd /var/data; stat -c '%n %a %u' . file dir dir/deep fifo; stat -c %N link; cat dir/deep; \
                  touch new; stat -f -c %T .; touch -c /ro/file || ls /ro; stat -c %a /made";
    let mut bundle = Bundle::shell("copy-up", script);
    let below = bundle.rootfs("var/data");
    fs::create_dir_all(below.join("dir")).unwrap();
    fs::write(below.join("file"), "").unwrap();
    fs::write(below.join("dir/deep"), "deep\n").unwrap();
    fs::set_permissions(below.join("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(below.join("dir"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(&below, fs::Permissions::from_mode(0o750)).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, below.join("fifo"), rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    chown(below.join("dir/deep"), Some(7), Some(7)).unwrap();
    symlink("/etc/passwd", below.join("link")).unwrap();
    fs::create_dir_all(bundle.rootfs("ro")).unwrap();
    fs::write(bundle.rootfs("ro/file"), "").unwrap();
    for (place, more) in [("/var/data", "rw"), ("/ro", "ro"), ("/made", "rw")] {
        bundle.add_mount(
            json!({"destination": place, "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", more]}),
        );
    }
    let output = bundle.output();
    assert_eq!(
        output,
        ". 750 0\nfile 4751 0\ndir 1777 0\ndir/deep 644 7\nfifo 644 0\n'link' -> '/etc/passwd'\ndeep\ntmpfs\nfile\n1777\n"
    );
    assert!(!bundle.rootfs("var/data/new").exists());
}

#[test]
fn recursive_attributes_reach_all_mounts_below() {
    if !able() {
        return;
    }
    // /proc has mounts of its own below neither; a bind of the container's own mounts shows both
    let script = "for m in /all /all/below /one /one/below; do touch $m/x 2> /dev/null && echo $m; done";
    let mut bundle = Bundle::shell("recursive", script);
    let source = bundle.dir.join("source");
    fs::create_dir_all(source.join("below")).unwrap();
    bundle.config["hooks"] = json!({});
    let path = |path: &std::path::Path| path.display().to_string();
    let line = format!(
        "mount -t tmpfs inner {} && exec {} --root {} run --bundle {} {}",
        path(&source.join("below")),
        env!("CARGO_BIN_EXE_caisson-runtime"),
        path(&bundle.state_root()),
        path(&bundle.dir),
        bundle.id
    );
    for (place, option) in [("/all", "rro"), ("/one", "ro")] {
        bundle.add_mount(json!({"destination": place, "type": "bind", "source": source, "options": ["rbind", option]}));
    }
    bundle.write();
    let output = std::process::Command::new("unshare").args(["-m", "sh", "-c", &line]).output().unwrap();
    assert_eq!(text(&output.stdout), "/one/below\n", "{}", text(&output.stderr));
}

#[test]
fn a_root_can_be_entered_without_pivot_root() {
    if !able() {
        return;
    }
    let bundle = Bundle::shell("no-pivot", "ls /; pwd; cat /proc/self/mountinfo | wc -l");
    bundle.write();
    let output = bundle.call(&["run", "--no-pivot", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
    let said = text(&output.stdout);
    assert!(output.status.success() && said.starts_with("bin\ndev\netc\n"), "{said}{}", text(&output.stderr));
    bundle.assert_nothing_left();

    // with an unmasked /proc of the host anywhere below, the kernel would let it mount another
    let script = "unshare -mrpf mount -t proc none /proc && echo bare";
    let mut bundle = Bundle::shell("no-pivot-proc", script);
    bundle.write();
    let output = bundle.call(&["run", "--no-pivot", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
    assert_eq!(text(&output.stdout), "");
    assert!(text(&output.stderr).contains("mount: permission denied"), "{}", text(&output.stderr));
    // what is not masked may be mounted again
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    assert_eq!(bundle.output(), "bare\n");
}

#[test]
fn a_bind_has_exactly_the_attributes_that_were_asked_for() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::shell("bind-attributes", "grep ' /b ' /proc/self/mountinfo | cut -d' ' -f6");
    let source = bundle.dir.join("source");
    fs::create_dir_all(&source).unwrap();
    let outside = format!(
        "mount -t tmpfs x {source} && mount -o remount,bind,nosuid,nodev,noatime {source} && exec \"$@\"",
        source = source.display()
    );
    for (options, expected) in [
        // nothing asked: the source's
        (json!(["bind"]), "rw,nosuid,nodev,noatime"),
        (json!(["bind", "ro"]), "ro,noatime"),
        (json!(["bind", "ro", "remount"]), "ro,nosuid,nodev,noatime"),
        (json!(["bind", "noexec", "nosymfollow"]), "rw,noexec,noatime,nosymfollow"),
        (json!(["bind", "suid"]), "rw,noatime"),
        (json!(["bind", "atime"]), "rw,noatime"),
        (json!(["bind", "relatime"]), "rw,relatime"),
        (json!(["bind", "nodiratime"]), "rw,nodiratime,relatime"),
        (json!(["bind", "strictatime"]), "rw"),
    ] {
        bundle.add_mount(json!({"destination": "/b", "type": "bind", "source": source, "options": options}));
        bundle.write();
        let run = bundle.command(&["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
        let mut command = std::process::Command::new("unshare");
        command.args(["-m", "sh", "-c", &outside, "sh"]).arg(run.get_program()).args(run.get_args());
        let output = command.output().unwrap();
        assert_eq!(text(&output.stdout).trim(), expected, "{options} {}", text(&output.stderr));
        bundle.config["mounts"].as_array_mut().unwrap().pop();
    }
}

#[test]
fn without_a_mount_namespace_of_its_own_a_container_is_in_its_root_all_the_same() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("host-mounts");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "mount");
    bundle.write();
    assert!(bundle.call_quiet(&["run", "--detach", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]));
    let exec = bundle.call(&["exec", &bundle.id, "sh", "-c", "ls -d /bin /home /proc/1; stat -c %N /proc/self/ns/mnt"]);
    let host = fs::read_link("/proc/self/ns/mnt").unwrap();
    let expected = format!("/bin\n/proc/1\n'/proc/self/ns/mnt' -> '{}'\n", host.display());
    assert_eq!(text(&exec.stdout), expected, "{}", text(&exec.stderr));
    assert!(bundle.call(&["delete", "--force", &bundle.id]).status.success());
    bundle.assert_nothing_left();
}

/// As runc has it: the list is carried out in its order, and what comes later covers what came before.
#[test]
fn of_two_mounts_at_one_place_the_later_is_seen() {
    if !able() {
        return;
    }
    let bind = |source: &str| json!({"destination": "/m", "type": "bind", "source": source, "options": ["bind"]});
    let tmpfs = |place: &str| json!({"destination": place, "type": "tmpfs", "source": "tmpfs"});
    let mut bundle = Bundle::new("twice");
    let sources = ["one", "two"].map(|name| bundle.dir.join(name));
    for source in &sources {
        fs::create_dir_all(source).unwrap();
        fs::write(source.join(source.file_name().unwrap()), "").unwrap();
    }
    let [one, two] = sources.each_ref().map(|source| source.to_str().unwrap());
    let mounts = bundle.config["mounts"].clone();
    for (first, second, seen) in [
        (bind(one), bind(two), "two\n"),
        (bind(one), tmpfs("/m"), ""),
        (tmpfs("/m/"), bind(two), "two\n"),
        (tmpfs("/m"), tmpfs("/m"), ""),
        (bind(one), bind(one), "one\n"),
    ] {
        bundle.config["process"]["args"] = json!(["sh", "-c", "ls /m; grep -c ' /m ' /proc/self/mountinfo"]);
        bundle.config["mounts"] = mounts.clone();
        bundle.add_mount(first);
        bundle.add_mount(second);
        assert_eq!(bundle.output(), format!("{seen}2\n"));
    }
}

/// There is one sysfs for a network namespace and one mqueue for an IPC namespace: elsewhere it may be seen again.
#[test]
fn one_filesystem_is_not_mounted_twice_at_one_place() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::shell("again", "grep -c ' /again ' /proc/self/mountinfo");
    let mounts = bundle.config["mounts"].clone();
    for kind in ["sysfs", "mqueue"] {
        let mount = |place: &str| json!({"destination": place, "type": kind, "source": kind});
        for (second, refused) in [("/once", true), ("/again", false)] {
            bundle.config["mounts"] = mounts.clone();
            bundle.add_mount(mount("/once"));
            bundle.add_mount(mount(second));
            if refused {
                let message = bundle.refusal();
                let told = format!("\"/once\": this {kind} is mounted there already: device or resource busy");
                assert!(message.contains(&told), "{message}");
            } else {
                assert_eq!(bundle.output(), "1\n", "{kind}");
            }
        }
    }
}
