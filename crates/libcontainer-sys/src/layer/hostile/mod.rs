//! Archives that have broken other engines. Whatever they do, a directory beside the layer stays as it is; those that
//! an honest image may contain also work, inside the root.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::lgetxattr;

use super::error::LayerError;
use super::remove::remove_tree;
use super::testing::{Raw, Scratch, apply, archive, tree};

mod headers;

enum Expect {
    /// The layer is refused as corrupt, and nothing of it is left.
    Refused,
    /// It is applied, and this holds for the layer's directory.
    Works(fn(&Path) -> bool),
    /// Either is sound.
    Clean,
}
use Expect::{Clean, Refused, Works};

/// `sentinel` is the absolute path of the directory that must not change.
fn check(group: &str, entries: &dyn Fn(&str) -> Vec<Raw>, expect: &Expect) {
    check_bytes(group, &|sentinel| archive(&entries(sentinel)), expect);
}

fn check_bytes(group: &str, bytes: &dyn Fn(&str) -> Vec<u8>, expect: &Expect) {
    let scratch = Scratch::new("hostile");
    let sentinel = scratch.path("sentinel");
    fs::create_dir(&sentinel).unwrap();
    fs::write(sentinel.join("file"), "untouched").unwrap();
    std::os::unix::fs::symlink("file", sentinel.join("link")).unwrap();
    let before = tree(&sentinel);
    let attributes = fs::metadata(&sentinel).map(|data| (data.mode(), data.mtime(), data.mtime_nsec())).unwrap();
    let target = scratch.path("layer");
    let result = apply(&bytes(sentinel.to_str().unwrap()), &target);
    assert_eq!(tree(&sentinel), before, "{group}: the sentinel changed");
    let now = fs::metadata(&sentinel).map(|data| (data.mode(), data.mtime(), data.mtime_nsec())).unwrap();
    assert_eq!(now, attributes, "{group}: the sentinel's own attributes changed");
    let mut beside: Vec<_> = fs::read_dir(scratch.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    beside.retain(|name| name != "layer" && name != "sentinel");
    assert!(beside.is_empty(), "{group}: {beside:?} appeared beside the layer");
    match (expect, &result) {
        (Refused, Err(LayerError::Corrupt { .. })) | (Clean, _) => {}
        (Works(holds), Ok(_)) => assert!(holds(&target), "{group}: {:#?}", tree(&target)),
        _ => panic!("{group}: {result:?}"),
    }
    assert_eq!(result.is_ok(), target.exists(), "{group}: {result:?}");
    if result.is_ok() {
        remove_tree(&target).unwrap();
        assert!(!target.exists(), "{group}: it cannot be removed");
    }
}

fn opaque(dir: PathBuf) -> bool {
    lgetxattr(dir, "trusted.overlay.opaque", &mut [0u8; 8][..]).is_ok()
}

fn whiteout(path: PathBuf) -> bool {
    path.symlink_metadata().is_ok_and(|data| data.file_type().is_char_device() && data.rdev() == 0)
}

fn reads(path: PathBuf, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|content| content == text)
}

#[test]
fn names() {
    check("../x", &|_| vec![Raw::file("../x", "x")], &Refused);
    check("../sentinel/file", &|_| vec![Raw::file("../sentinel/file", "x")], &Refused);
    check("a/../../x", &|_| vec![Raw::dir("a"), Raw::file("a/../../x", "x")], &Refused);
    check("absolute", &|_| vec![Raw::file("/abs/x", "x")], &Works(|root| reads(root.join("abs/x"), "x")));
    check("dots", &|_| vec![Raw::file("./a/./b", "x")], &Works(|root| reads(root.join("a/b"), "x")));
    check("..", &|_| vec![Raw::file("..", "x")], &Refused);
    check(".. as a directory", &|_| vec![Raw { mode: 0o777, ..Raw::dir("..") }], &Refused);
    check("empty", &|_| vec![Raw::file("", "x")], &Refused);
    check(". as a file", &|_| vec![Raw::file(".", "x")], &Refused);
    check(
        ". as a directory",
        &|_| vec![Raw { mode: 0o750, ..Raw::dir("./") }],
        &Works(|root| fs::metadata(root).unwrap().mode() & 0o7777 == 0o750),
    );
    check("a file with a slash", &|_| vec![Raw::file("x/", "x")], &Refused);
    check("NUL in a PAX name", &|_| vec![Raw::pax(&[("path", b"a\0b")]), Raw::file("x", "x")], &Refused);
    let long = |len| move |_: &str| vec![Raw::pax(&[("path", &vec![b'n'; len])]), Raw::file("x", "x")];
    check("300 bytes", &long(300), &Clean);
    check("PATH_MAX + 1", &long(4097), &Refused);
    let deep = |levels| move |_: &str| vec![Raw::pax(&[("path", "d/".repeat(levels).as_bytes())]), Raw::dir("x")];
    check("1,024 levels", &deep(1024), &Works(|root| root.join("d/".repeat(1000)).is_dir()));
    check("1,025 levels", &deep(1025), &Refused);
    check("32,768 levels", &deep(32_768), &Refused);
}

#[test]
fn symlinks() {
    check(
        "absolute, then a file through it",
        &|_| vec![Raw::link(b'2', "var/run", "/run"), Raw::dir("run"), Raw::file("var/run/x", "x")],
        &Works(|root| reads(root.join("run/x"), "x") && root.join("var/run").is_symlink()),
    );
    check(
        "to the sentinel, then a file through it",
        &|sentinel| vec![Raw::link(b'2', "link", sentinel), Raw::file("link/file", "x")],
        &Works(|root| root.join("link").is_symlink()),
    );
    check(
        "relative and out, then a file through it",
        &|_| vec![Raw::link(b'2', "a/link", "../../sentinel"), Raw::file("a/link/file", "x")],
        &Works(|root| reads(root.join("sentinel/file"), "x")),
    );
    check("loop", &|_| vec![Raw::link(b'2', "a", "b"), Raw::link(b'2', "b", "a"), Raw::file("a/x", "x")], &Refused);
    check("loop with growth", &|_| vec![Raw::link(b'2', "a", "a/a/a"), Raw::file("a/x", "x")], &Refused);
    check(
        "a long way",
        &|_| {
            let target = "d/../".repeat(800) + "d";
            let chain = (0..9).flat_map(|index| {
                let path = format!("{target}/../l{}", index + 1);
                [Raw::pax(&[("linkpath", path.as_bytes())]), Raw::link(b'2', format!("l{index}"), "x")]
            });
            [vec![Raw::dir("d"), Raw::dir("l9")], chain.collect(), vec![Raw::file("l0/x", "x")]].concat()
        },
        &Refused,
    );
    check(
        "dangling parent",
        &|_| vec![Raw::link(b'2', "etc/here", "/not/there"), Raw::file("etc/here/x", "x")],
        &Works(|root| reads(root.join("not/there/x"), "x")),
    );
    check(
        "replaced by a directory of that name, then chmod",
        &|sentinel| vec![Raw::link(b'2', "link", sentinel), Raw { mode: 0o777, ..Raw::dir("link") }],
        &Works(|root| root.join("link").symlink_metadata().unwrap().is_dir()),
    );
    check(
        "a file over a symlink",
        &|sentinel| vec![Raw::link(b'2', "link", format!("{sentinel}/file")), Raw::file("link", "x")],
        &Works(|root| !root.join("link").is_symlink() && reads(root.join("link"), "x")),
    );
    check(
        "a directory replaced by a symlink, then a file in it",
        &|sentinel| {
            vec![Raw::dir("d"), Raw::file("d/old", "x"), Raw::link(b'2', "d", sentinel), Raw::file("d/file", "x")]
        },
        &Works(|root| root.join("d").is_symlink()),
    );
    check(
        "to /proc/self/root",
        &|sentinel| {
            let out = format!("/proc/self/root{sentinel}");
            vec![Raw::link(b'2', "link", out), Raw::file("link/file", "x")]
        },
        &Works(|root| root.join("proc/self/root").is_dir()),
    );
    check(
        "of a lower layer only",
        &|_| vec![Raw::file("var/run/x", "x")],
        &Works(|root| reads(root.join("var/run/x"), "x")),
    );
    check("without a target", &|_| vec![Raw::link(b'2', "link", "")], &Refused);
}

#[test]
fn hardlinks() {
    check("to ../x", &|_| vec![Raw::link(b'1', "link", "../sentinel/file")], &Refused);
    check("to the sentinel", &|sentinel| vec![Raw::link(b'1', "link", format!("{sentinel}/file"))], &Refused);
    check(
        "to an absolute path",
        &|_| vec![Raw::file("kaniko/x", "x"), Raw::link(b'1', "link", "/kaniko/x")],
        &Works(|root| {
            fs::metadata(root.join("link")).unwrap().ino() == fs::metadata(root.join("kaniko/x")).unwrap().ino()
        }),
    );
    check(
        "to a symlink",
        &|sentinel| vec![Raw::link(b'2', "s", format!("{sentinel}/file")), Raw::link(b'1', "link", "s")],
        &Works(|root| root.join("link").is_symlink()),
    );
    check(
        "to a symlink, then a file over it",
        &|sentinel| {
            let target = format!("{sentinel}/file");
            vec![Raw::link(b'2', "s", target), Raw::link(b'1', "link", "s"), Raw::file("link", "x")]
        },
        &Works(|root| reads(root.join("link"), "x") && root.join("s").is_symlink()),
    );
    check("to nothing", &|_| vec![Raw::link(b'1', "link", "missing")], &Refused);
    check("to itself", &|_| vec![Raw::file("link", "x"), Raw::link(b'1', "link", "link")], &Refused);
    check("to a directory", &|_| vec![Raw::dir("d"), Raw::link(b'1', "link", "d")], &Refused);
    check("to the root", &|_| vec![Raw::link(b'1', "link", "/")], &Refused);
    check(
        "through a symlink",
        &|sentinel| {
            let chain = vec![Raw::link(b'2', "a", sentinel), Raw::link(b'2', "b", "a")];
            [chain, vec![Raw::link(b'1', "link", "b/file"), Raw::file("link", "x")]].concat()
        },
        &Refused,
    );
    check(
        "through a symlink inside",
        &|_| {
            let real = vec![Raw::file("real/file", "x"), Raw::link(b'2', "a", "/real")];
            [real, vec![Raw::link(b'1', "link", "a/file")]].concat()
        },
        &Works(|root| reads(root.join("link"), "x")),
    );
    check(
        "to what it replaces",
        &|_| vec![Raw::dir("d"), Raw::file("d/x", "x"), Raw::link(b'1', "d", "d/x")],
        &Refused,
    );
    let sized = Raw { size: Some(b"00000001000".to_vec()), ..Raw::link(b'1', "link", "x") };
    check("with a size", &move |_| vec![Raw::file("x", "x"), sized.clone()], &Refused);
}

#[test]
fn special_files() {
    let device = |typeflag, major, minor| Raw { device: (major, minor), ..Raw::new(typeflag, "dev") };
    for (typeflag, major, minor) in [(b'3', 1, 1), (b'4', 8, 0), (b'4', 1, 1), (b'3', 8, 0)] {
        check(
            "device",
            &|_| vec![device(typeflag, major, minor)],
            &Works(|root| {
                let kind = root.join("dev").symlink_metadata().unwrap().file_type();
                kind.is_char_device() || kind.is_block_device()
            }),
        );
    }
    check(
        "a file over a device",
        &|_| vec![device(b'4', 8, 0), Raw::file("dev", "x")],
        &Works(|root| reads(root.join("dev"), "x")),
    );
    check(
        "FIFO",
        &|_| vec![Raw::new(b'6', "pipe"), Raw::file("pipe", "x")],
        &Works(|root| reads(root.join("pipe"), "x")),
    );
    for typeflag in [b's', b'V', b'M', b'D', b'N', b'A', b'Z', b'8', 0xff] {
        check("unknown type", &|_| vec![Raw::new(typeflag, "x")], &Refused);
    }
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    check(
        "setuid and a capability",
        &|_| {
            let file = Raw { mode: 0o4755, uid: b"0001750".to_vec(), ..Raw::file("ping", "x") };
            vec![Raw::pax(&[("SCHILY.xattr.security.capability", &capability)]), file]
        },
        &Works(|root| {
            let data = fs::metadata(root.join("ping")).unwrap();
            let mut value = [0; 64];
            data.mode() & 0o7777 == 0o4755
                && data.uid() == 0o1750
                && lgetxattr(root.join("ping"), "security.capability", &mut value[..]) == Ok(20)
        }),
    );
    check(
        "overlay's own attributes",
        &|_| vec![Raw::pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/etc")]), Raw::dir("d")],
        &Works(|root| lgetxattr(root.join("d"), "trusted.overlay.redirect", &mut [0u8; 8][..]).is_err()),
    );
}

#[test]
fn whiteouts() {
    check("of a name", &|_| vec![Raw::file("d/.wh.x", "")], &Works(|root| whiteout(root.join("d/x"))));
    check("of nothing", &|_| vec![Raw::file(".wh.", "")], &Refused);
    check("of .", &|_| vec![Raw::file("d/.wh..", "")], &Refused);
    check("of ..", &|_| vec![Raw::file("d/.wh...", "")], &Refused);
    check(
        "opaque as a symlink",
        &|sentinel| vec![Raw::dir("d"), Raw::link(b'2', "d/.wh..wh..opq", sentinel)],
        &Works(|root| opaque(root.join("d")) && !root.join("d/.wh..wh..opq").is_symlink()),
    );
    check("as a directory", &|_| vec![Raw::dir("d/.wh.x/")], &Works(|root| whiteout(root.join("d/x"))));
    check("below a whiteout", &|_| vec![Raw::dir(".wh.x/"), Raw::file(".wh.x/file", "x")], &Refused);
    check(
        "through a symlinked parent",
        &|_| vec![Raw::dir("real"), Raw::link(b'2', "link", "/real"), Raw::file("link/.wh.x", "")],
        &Works(|root| whiteout(root.join("real/x"))),
    );
    check(
        "through a symlink out",
        &|sentinel| vec![Raw::link(b'2', "link", sentinel), Raw::file("link/.wh.file", "")],
        &Works(|root| root.join("link").is_symlink()),
    );
    check(
        "opaque in a missing directory",
        &|_| vec![Raw::file("a/b/.wh..wh..opq", "")],
        &Works(|root| opaque(root.join("a/b"))),
    );
    check(
        "aufs' files",
        &|_| vec![Raw::dir(".wh..wh.plnk"), Raw::file(".wh..wh.orph", "")],
        &Works(|root| fs::read_dir(root).unwrap().count() == 0),
    );
    check(
        "before the directory of that name",
        &|_| vec![Raw::file(".wh.d", ""), Raw::dir("d"), Raw::file("d/x", "x")],
        &Works(|root| opaque(root.join("d")) && reads(root.join("d/x"), "x")),
    );
    check(
        "before the implied directory of that name",
        &|_| vec![Raw::file(".wh.d", ""), Raw::file("d/x", "x")],
        &Works(|root| opaque(root.join("d")) && reads(root.join("d/x"), "x")),
    );
    check(
        "behind the directory of that name",
        &|_| vec![Raw::file("d/x", "x"), Raw::file(".wh.d", "")],
        &Works(|root| opaque(root.join("d")) && reads(root.join("d/x"), "x")),
    );
    check(
        "beside the file of that name",
        &|_| vec![Raw::file(".wh.x", ""), Raw::file("x", "x")],
        &Works(|root| reads(root.join("x"), "x")),
    );
}

/// CVE-2025-47290: a layer that makes a symlink where another one, unpacked at the same time, has a directory.
#[test]
fn layers_that_are_applied_at_once_do_not_meet() {
    let scratch = Scratch::new("race");
    let sentinel = scratch.path("sentinel");
    fs::create_dir(&sentinel).unwrap();
    fs::write(sentinel.join("file"), "untouched").unwrap();
    let before = tree(&sentinel);
    let out = sentinel.to_str().unwrap();
    let swapped = || vec![Raw::dir("d"), Raw::link(b'2', "d", out)];
    let attacker = archive(&(0..8).flat_map(|_| swapped()).collect::<Vec<_>>());
    let victim = archive(&(0..8).map(|index| Raw::file(format!("d/file{index}"), "evil")).collect::<Vec<_>>());
    for round in 0..500 {
        let (one, two) = (scratch.path("one"), scratch.path("two"));
        std::thread::scope(|scope| {
            scope.spawn(|| apply(&attacker, &one).unwrap());
            apply(&victim, &two).unwrap();
        });
        assert_eq!(tree(&sentinel), before, "round {round}");
        assert!(two.join("d").symlink_metadata().unwrap().is_dir(), "round {round}");
        remove_tree(&one).unwrap();
        remove_tree(&two).unwrap();
    }
}
