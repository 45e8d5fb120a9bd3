//! Mounts: options that change what is seen or how far they reach.

use super::bundle::{Bundle, able};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

#[test]
fn a_tmpfs_may_begin_with_what_lies_below() {
    if !able() {
        return;
    }
    let script = "cd /var/data; stat -c '%n %a %u' . file dir dir/deep fifo; stat -c %N link; cat dir/deep; \
                  touch new; stat -f -c %T .; touch -c /ro/file || ls /ro";
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
    for (place, more) in [("/var/data", "rw"), ("/ro", "ro")] {
        bundle.add_mount(
            json!({"destination": place, "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", more]}),
        );
    }
    let output = bundle.output();
    assert_eq!(
        output,
        ". 750 0\nfile 4751 0\ndir 1777 0\ndir/deep 644 7\nfifo 644 0\n'link' -> '/etc/passwd'\ndeep\ntmpfs\nfile\n"
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
    assert_eq!(super::bundle::text(&output.stdout), "/one/below\n", "{}", super::bundle::text(&output.stderr));
}

#[test]
fn a_root_can_be_entered_without_pivot_root() {
    if !able() {
        return;
    }
    let bundle = Bundle::shell("no-pivot", "ls /; pwd; cat /proc/self/mountinfo | wc -l");
    bundle.write();
    let output = bundle.call(&["run", "--no-pivot", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
    let said = super::bundle::text(&output.stdout);
    assert!(
        output.status.success() && said.starts_with("bin\ndev\netc\n"),
        "{said}{}",
        super::bundle::text(&output.stderr)
    );
    bundle.assert_nothing_left();
}
