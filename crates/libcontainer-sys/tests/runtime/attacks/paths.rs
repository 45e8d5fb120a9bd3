//! Paths of the container that leave its root, or are not what they should be.

use crate::bundle::{Bundle, able, rounds, tree};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// CVE-2025-52565: a terminal whose name the container can replace.
#[test]
fn a_terminal_needs_a_devpts() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("pts");
    let evil = bundle.dir.join("evil");
    fs::create_dir(&evil).unwrap();
    for number in 0..10 {
        symlink("/proc/uptime", evil.join(number.to_string())).unwrap();
    }
    symlink("/proc/uptime", evil.join("ptmx")).unwrap();
    bundle.config["process"]["terminal"] = json!(true);
    bundle.add_mount(json!({"destination": "/dev/pts", "type": "bind", "source": evil, "options": ["rbind", "rw"]}));
    let message = bundle.refusal();
    assert!(message.contains("/dev/pts/ptmx"), "{message}");
}

#[test]
fn a_terminal_is_the_containers_own() {
    if !able() {
        return;
    }
    let mut bundle =
        Bundle::shell("tty", "stat -c '%t' /dev/console; stat -c %i /dev/console; stat -c %i /dev/pts/0; test -t 0");
    bundle.config["process"]["terminal"] = json!(true);
    let output = bundle.output().replace('\r', "");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "88", "136 in hex: {output}");
    assert_eq!(lines[1], lines[2], "{output}");
}

/// CVE-2026-41579: devices made through a /dev that points to the host.
#[test]
fn a_dev_that_is_a_link_reaches_nothing_of_the_host() {
    if !able() {
        return;
    }
    for with_tmpfs in [true, false] {
        let mut bundle = Bundle::new("dev-link");
        let sent = bundle.dir.join("sent");
        fs::create_dir(&sent).unwrap();
        fs::write(sent.join("ptmx"), "mine").unwrap();
        let before = tree(&sent);
        fs::remove_dir(bundle.rootfs("dev")).unwrap();
        symlink(&sent, bundle.rootfs("dev")).unwrap();
        if !with_tmpfs {
            let mounts = bundle.config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        }
        bundle.run();
        assert_eq!(tree(&sent), before);
        bundle.assert_nothing_left();
        if bundle.run_by_runc().is_some() {
            assert_ne!(tree(&sent), before, "runc 1.1.5 writes there");
        }
    }
}

/// CVE-2021-30465, CVE-2024-45310: mount points behind links that leave the root.
#[test]
fn mount_points_are_made_inside_the_root() {
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("mount-link");
    let sent = bundle.dir.join("sent");
    fs::create_dir(&sent).unwrap();
    symlink(&sent, bundle.rootfs("out")).unwrap();
    symlink("../../../../../../../..", bundle.rootfs("up")).unwrap();
    let volume = bundle.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    for place in ["/out/a/b".to_owned(), format!("/up{}/c", sent.display())] {
        bundle.add_mount(json!({"destination": place, "type": "bind", "source": volume, "options": ["rbind"]}));
    }
    bundle.run();
    assert!(tree(&sent).is_empty(), "{:?}", tree(&sent));
    bundle.assert_nothing_left();
}

/// CVE-2021-30465, CVE-2024-45310 as a race: another container exchanges a directory of a shared volume with a link to the
/// host while mount points below it are made.
#[test]
fn mount_points_are_made_inside_the_root_while_links_change() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::sync::atomic::{AtomicBool, Ordering};
    if !able() {
        return;
    }
    let mut bundle = Bundle::new("mount-race");
    let (sent, volume) = (bundle.dir.join("sent"), bundle.dir.join("volume"));
    fs::create_dir(&sent).unwrap();
    fs::create_dir_all(volume.join("a")).unwrap();
    symlink(&sent, volume.join("b")).unwrap();
    fs::write(bundle.dir.join("file"), "").unwrap();
    let bind = |place: &str, source: &Path| json!({"destination": place, "type": "bind", "source": source, "options": ["rbind"]});
    bundle.add_mount(bind("/shared", &volume));
    for number in 0..20 {
        bundle.add_mount(bind(&format!("/shared/a/{number}/dir"), &volume));
        bundle.add_mount(bind(&format!("/shared/a/{number}/file"), &bundle.dir.join("file")));
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, volume.join("a"), CWD, volume.join("b"), RenameFlags::EXCHANGE).unwrap();
            }
        });
        // each run makes 40 mount points or is refused: both are well
        for _ in 0..rounds(30, 2000) {
            bundle.run();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(tree(&sent).is_empty(), "{:?}", tree(&sent));
    bundle.assert_nothing_left();
}

/// CVE-2026-47262: files that are read as root and are not what they should be.
#[test]
fn a_hostile_passwd_is_refused_at_once() {
    if !able() {
        return;
    }
    let prepare: [fn(&Path); 3] = [
        |path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
        },
        |path| symlink("/dev/zero", path).unwrap(),
        |path| fs::File::create(path).unwrap().set_len((10 << 20) + 1).unwrap(),
    ];
    for make in prepare {
        let bundle = Bundle::new("passwd");
        let path = bundle.rootfs("etc/passwd");
        fs::remove_file(&path).unwrap();
        make(&path);
        let message = bundle.refusal();
        assert!(message.contains("/etc/passwd"), "{message}");
    }
    // a link to the host's file stays inside
    let bundle = Bundle::shell("passwd-host", "echo $HOME");
    fs::remove_file(bundle.rootfs("etc/passwd")).unwrap();
    symlink("../../../../../../etc/passwd", bundle.rootfs("etc/passwd")).unwrap();
    assert!(bundle.run().status.code().is_some());
}
