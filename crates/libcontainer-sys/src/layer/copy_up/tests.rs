use super::*;
use crate::layer::testing::{Scratch, tree};
use rustix::fs::{XattrFlags, lsetxattr, makedev};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

/// A lower layer with everything that can be in one, and an upper one that replaces a part.
fn image(scratch: &Scratch) -> CopyUpOptions {
    let (upper, lower, target) = (scratch.path("upper"), scratch.path("lower"), scratch.path("volume"));
    fs::create_dir_all(lower.join("real/data/sub")).unwrap();
    symlink("/real", lower.join("linked")).unwrap();
    let data = lower.join("real/data");
    fs::write(data.join("file"), vec![7; 300_000]).unwrap();
    fs::hard_link(data.join("file"), data.join("sub/again")).unwrap();
    symlink("/etc/passwd", data.join("sub/link")).unwrap();
    fs::write(data.join("replaced"), "old").unwrap();
    fs::write(data.join("removed"), "old").unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    chown(data.join("replaced"), Some(12), Some(34)).unwrap();
    lsetxattr(data.join("file"), "security.capability", &capability, XattrFlags::empty()).unwrap();
    lsetxattr(data.join("sub"), "user.note", b"kept", XattrFlags::empty()).unwrap();
    mknodat(CWD, data.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    mknodat(CWD, data.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
    fs::set_permissions(data.join("sub"), fs::Permissions::from_mode(0o2751)).unwrap();
    fs::create_dir_all(upper.join("real/data")).unwrap();
    fs::write(upper.join("real/data/replaced"), "new").unwrap();
    mknodat(CWD, upper.join("real/data/removed"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    fs::create_dir(&target).unwrap();
    CopyUpOptions {
        lower: vec![lower],
        upper: Some(upper),
        source: "/linked/data".into(),
        target,
        subpath: String::new(),
    }
}

#[test]
fn a_volume_gets_what_the_container_would_see() {
    let scratch = Scratch::new("copy");
    let options = image(&scratch);
    copy_up(&options).unwrap();
    let view = view::open(&[options.upper.clone().unwrap(), options.lower[0].clone()]).unwrap();
    let seen = openat(&view, "real/data", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    use std::os::fd::AsRawFd;
    let seen = PathBuf::from(format!("/proc/self/fd/{}/", seen.as_raw_fd()));
    let copied = tree(&options.target);
    assert_eq!(copied, tree(&seen));
    assert!(!copied.iter().any(|line| line.starts_with("removed ")), "{copied:#?}");
    assert_eq!(fs::read(options.target.join("replaced")).unwrap(), b"new");
}

#[test]
fn a_filled_volume_and_a_missing_source_are_left_alone() {
    let scratch = Scratch::new("copy");
    let mut options = image(&scratch);
    options.source = "/nowhere".into();
    copy_up(&options).unwrap();
    assert_eq!(fs::read_dir(&options.target).unwrap().count(), 0);
    options.source = "/real/data".into();
    fs::write(options.target.join("mine"), "").unwrap();
    copy_up(&options).unwrap();
    assert_eq!(fs::read_dir(&options.target).unwrap().count(), 1);
}

#[test]
fn what_a_kill_left_is_begun_anew_or_brought_to_its_end() {
    // How far the copy came that was cut off, as its directories tell; and whether a container has written since.
    for (staged, written) in [(".copying", false), (".copied", false), (".copied", true)] {
        let scratch = Scratch::new("copy");
        let mut options = image(&scratch);
        copy_up(&options).unwrap();
        let whole = tree(&options.target);
        // The same once more, cut off: half of the entries are still, or only, in the directory beside the volume.
        let beside = scratch.path(staged);
        if staged == ".copied" {
            fs::create_dir(&beside).unwrap();
            for name in ["file", "sub", "pipe"] {
                fs::rename(options.target.join(name), beside.join(name)).unwrap();
            }
        } else {
            fs::rename(&options.target, &beside).unwrap();
            fs::create_dir(&options.target).unwrap();
            fs::remove_file(beside.join("replaced")).unwrap();
        }
        if written {
            fs::write(options.target.join("pipe"), "a container's").unwrap();
            options.lower.clear();
        }
        copy_up(&options).unwrap();
        assert!(!beside.exists());
        if written {
            assert_eq!(fs::read(options.target.join("pipe")).unwrap(), b"a container's");
        } else {
            assert_eq!(tree(&options.target), whole);
        }
    }
}

#[test]
fn a_source_that_climbs_stays_in_the_image() {
    let scratch = Scratch::new("copy");
    let mut options = image(&scratch);
    symlink("../../../../../../../../../real/data", options.lower[0].join("climber")).unwrap();
    options.source = "/climber".into();
    copy_up(&options).unwrap();
    assert_eq!(fs::read(options.target.join("replaced")).unwrap(), b"new");
}

#[test]
fn a_directory_of_a_volume_is_filled_but_nothing_outside_it() {
    let scratch = Scratch::new("copy");
    let outside = scratch.path("outside");
    fs::create_dir(&outside).unwrap();
    for (subpath, filled) in
        [("sub/dir", "sub/dir"), ("within", "sub/other"), ("out", ""), ("missing", ""), ("file", "")]
    {
        let of_image = Scratch::new("copy-image");
        let mut options = image(&of_image);
        options.target = scratch.path("volume-of").join(subpath);
        fs::create_dir_all(options.target.join("sub/dir")).unwrap();
        fs::create_dir(options.target.join("sub/other")).unwrap();
        symlink("sub/other", options.target.join("within")).unwrap();
        symlink(&outside, options.target.join("out")).unwrap();
        fs::write(options.target.join("file"), "").unwrap();
        options.subpath = subpath.into();
        copy_up(&options).unwrap();
        for dir in ["sub/dir", "sub/other"] {
            assert_eq!(options.target.join(dir).join("replaced").exists(), dir == filled, "{subpath}: {dir}");
        }
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}
