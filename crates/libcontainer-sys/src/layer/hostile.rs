//! Archives that have broken other engines. Whatever they do, a directory beside the layer stays as it is; those that
//! an honest image may contain also work, inside the root.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::lgetxattr;

use super::error::LayerError;
use super::remove::remove_tree;
use super::testing::{Raw, Scratch, apply, archive, record, seal, tree};

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

#[test]
fn headers() {
    let nines = b"99999".to_vec();
    check(
        "a PAX size that hides an entry",
        &|_| {
            let hidden = archive(&[Raw::file("hidden", "x")]);
            let carrier = Raw { size: Some(b"00000000000".to_vec()), ..Raw::file("carrier", &hidden) };
            vec![Raw::pax(&[("size", hidden.len().to_string().as_bytes())]), carrier]
        },
        &Works(|root| !root.join("hidden").exists() && fs::metadata(root.join("carrier")).unwrap().len() == 2048),
    );
    check("a PAX size on a directory", &|_| vec![Raw::pax(&[("size", b"512")]), Raw::dir("d")], &Refused);
    check(
        "two PAX headers",
        &|_| vec![Raw::pax(&[("path", b"a")]), Raw::pax(&[("path", b"b")]), Raw::file("x", "")],
        &Refused,
    );
    check(
        "a GNU name behind a PAX name",
        &|_| {
            let long = Raw { data: b"gnu\0".to_vec(), gnu: true, ..Raw::new(b'L', "././@LongLink") };
            vec![Raw::pax(&[("path", b"pax")]), long, Raw::file("x", "x")]
        },
        &Refused,
    );
    check("a PAX header and no entry", &|_| vec![Raw::pax(&[("path", b"a")])], &Refused);
    check(
        "a malformed record",
        &|_| vec![Raw { data: nines.clone(), ..Raw::new(b'x', "pax") }, Raw::file("x", "")],
        &Refused,
    );
    check(
        "a global name",
        &|_| vec![Raw { typeflag: b'g', ..Raw::pax(&[("path", b"a")]) }, Raw::file("x", "")],
        &Refused,
    );
    check(
        "a global size",
        &|_| vec![Raw { typeflag: b'g', ..Raw::pax(&[("size", b"9")]) }, Raw::file("x", "")],
        &Refused,
    );
    check(
        "git's global comment",
        &|_| vec![Raw { typeflag: b'g', ..Raw::pax(&[("comment", b"0123")]) }, Raw::file("x", "x")],
        &Works(|root| reads(root.join("x"), "x")),
    );
    check(
        "the last of several entries",
        &|_| vec![Raw::file("x", "first"), Raw::dir("x"), Raw::file("x/y", "y"), Raw::file("x", "last")],
        &Works(|root| reads(root.join("x"), "last")),
    );
    let base256 = |first: u8| [&[first][..], &[0xff; 11]].concat();
    check("a negative size", &|_| vec![Raw { size: Some(base256(0xff)), ..Raw::file("x", "") }], &Refused);
    check("an overflowing size", &|_| vec![Raw { size: Some(base256(0x80)), ..Raw::file("x", "") }], &Refused);
    check("a negative owner", &|_| vec![Raw { uid: vec![0xff; 8], ..Raw::file("x", "") }], &Refused);
    check(
        "an overflowing owner",
        &|_| vec![Raw { uid: [&[0x80][..], &[0xff; 7]].concat(), ..Raw::file("x", "") }],
        &Refused,
    );
    check("the owner -1", &|_| vec![Raw::pax(&[("uid", b"4294967295")]), Raw::file("x", "")], &Refused);
    check("an overflowing mtime", &|_| vec![Raw { mtime: base256(0x80), ..Raw::file("x", "") }], &Refused);
    let before = [&[0xff; 11][..], &[0xfe]].concat();
    check(
        "a negative mtime",
        &move |_| vec![Raw { mtime: before.clone(), ..Raw::file("x", "") }],
        &Works(|root| fs::metadata(root.join("x")).unwrap().mtime() == -2),
    );
    check(
        "an extended header of 1 GiB",
        &|_| vec![Raw { size: Some(b"10000000000".to_vec()), ..Raw::new(b'x', "pax") }],
        &Refused,
    );
    check_bytes(
        "a wrong checksum",
        &|_| {
            let mut bytes = archive(&[Raw::file("x", "x")]);
            bytes[0] = b'y';
            bytes
        },
        &Refused,
    );
    check_bytes("no archive", &|_| b"#!/bin/sh\necho this is no archive\n".repeat(100), &Refused);
    check_bytes("empty", &|_| Vec::new(), &Works(|root| root.is_dir()));
}

fn old_region(offset: u64, len: u64) -> Vec<u8> {
    format!("{offset:011o}\0{len:011o}\0").into_bytes()
}

/// An old GNU sparse header: the map's four slots, the mark for more, the real size.
fn old_sparse(regions: &[(u64, u64)], more: bool, real_size: u64, data: &[u8]) -> Vec<u8> {
    let mut block = Raw { gnu: true, ..Raw::file("sparse", data) }.block();
    block[156] = b'S';
    for (index, (offset, len)) in regions.iter().enumerate() {
        let at = 386 + index * 24;
        block[at..at + 24].copy_from_slice(&old_region(*offset, *len));
    }
    block[482] = u8::from(more);
    block[483..495].copy_from_slice(&[&[0x80, 0, 0, 0][..], &real_size.to_be_bytes()].concat());
    seal(&mut block);
    block.to_vec()
}

#[test]
fn sparse_files() {
    let with_data = |header: Vec<u8>, data: &[u8]| {
        let mut bytes = [&header, data].concat();
        bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
        bytes
    };
    let good = |root: &Path| fs::read(root.join("sparse")).unwrap() == [&[0; 1000][..], b"data", &[0; 96]].concat();
    check_bytes("old GNU", &|_| with_data(old_sparse(&[(1000, 4)], false, 1100, b"data"), b"data"), &Works(good));
    check_bytes("8 EiB", &|_| with_data(old_sparse(&[(1000, 4)], false, i64::MAX as u64, b"data"), b"data"), &Refused);
    check_bytes("behind the end", &|_| with_data(old_sparse(&[(1000, 4)], false, 1001, b"data"), b"data"), &Refused);
    check_bytes("overlap", &|_| with_data(old_sparse(&[(10, 2), (11, 2)], false, 1100, b"data"), b"data"), &Refused);
    check_bytes(
        "not the data's length",
        &|_| with_data(old_sparse(&[(10, 3)], false, 1100, b"data"), b"data"),
        &Refused,
    );
    check_bytes(
        "100,000 regions",
        &|_| {
            let mut bytes = old_sparse(&[(0, 0)], true, 1, b"");
            let mut more = [0u8; 512];
            for slot in more[..504].chunks_exact_mut(24) {
                slot.copy_from_slice(&old_region(0, 0));
            }
            more[504] = 1;
            bytes.extend(more.iter().cycle().take(512 * (100_000 / 21)));
            bytes
        },
        &Refused,
    );
    let pax =
        |records: &[(&str, &[u8])], data: &[u8]| vec![Raw::pax(records), Raw::file("GNUSparseFile.0/sparse", data)];
    let name: (&str, &[u8]) = ("GNU.sparse.name", b"sparse");
    check(
        "PAX 0.1",
        &|_| {
            pax(
                &[name, ("GNU.sparse.size", b"1100"), ("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"1000,4")],
                b"data",
            )
        },
        &Works(good),
    );
    check(
        "PAX 0.0",
        &|_| {
            let region: [(&str, &[u8]); 2] = [("GNU.sparse.offset", b"1000"), ("GNU.sparse.numbytes", b"4")];
            let all = [
                &[("path", &b"sparse"[..]), ("GNU.sparse.size", b"1100"), ("GNU.sparse.numblocks", b"1")][..],
                &region,
            ];
            pax(&all.concat(), b"data")
        },
        &Works(good),
    );
    let v1: [(&str, &[u8]); 3] = [name, ("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")];
    let in_data = |map: &str| {
        let mut data = map.as_bytes().to_vec();
        data.resize(512, 0);
        [data.as_slice(), b"data"].concat()
    };
    check(
        "PAX 1.0",
        &|_| pax(&[&v1[..], &[("GNU.sparse.realsize", b"1100")]].concat(), &in_data("1\n1000\n4\n")),
        &Works(good),
    );
    check(
        "PAX 1.0, 8 EiB",
        &|_| pax(&[&v1[..], &[("GNU.sparse.realsize", b"9223372036854775807")]].concat(), &in_data("1\n1000\n4\n")),
        &Refused,
    );
    check(
        "PAX 1.0, many regions",
        &|_| {
            let map = [&b"10000000\n"[..], &b"0\n".repeat(2_000_000)].concat();
            pax(&[&v1[..], &[("GNU.sparse.realsize", b"1100")]].concat(), &map)
        },
        &Refused,
    );
    check(
        "PAX 1.0, a map that does not end",
        &|_| pax(&[&v1[..], &[("GNU.sparse.realsize", b"1100")]].concat(), &[b'1'; 4096]),
        &Refused,
    );
    check("an odd map", &|_| pax(&[name, ("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"1")], b"data"), &Refused);
    check("contradiction", &|_| pax(&[&v1[..], &[("GNU.sparse.map", b"0,4")]].concat(), b"data"), &Refused);
}

#[test]
fn extended_attributes_of_libarchive() {
    let records = [("LIBARCHIVE.xattr.user.a%3Db", &b"aGVsbG8"[..])];
    check(
        "LIBARCHIVE.xattr",
        &|_| vec![Raw::pax(&records), Raw::file("x", "")],
        &Works(|root| {
            let mut value = [0; 16];
            lgetxattr(root.join("x"), "user.a=b", &mut value[..]) == Ok(5) && value.starts_with(b"hello")
        }),
    );
    assert_eq!(record("path", b"x"), b"9 path=x\n");
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
