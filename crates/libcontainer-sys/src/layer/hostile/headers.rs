//! Headers that contradict each other or themselves, sparse files and extended attributes among them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::lgetxattr;

use super::super::testing::{Raw, archive, record, seal};
use super::Expect::{Refused, Works};
use super::{check, check_bytes, reads};

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
