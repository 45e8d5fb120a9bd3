//! Damaged, endless, interrupted: what must never leave a layer, a blob, a thread or a file descriptor behind.

use std::ffi::CString;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::channel;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::error::LayerError;
use super::input::{Input, Popped};
use super::pipeline::{Layer, LayerOptions};
use crate::sys::private_mounts;

use super::testing::{Raw, Scratch, apply, apply_with, archive, digest, finish, noise, tree};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Half a megabyte that does not compress, so that every cut is somewhere in the middle.
fn sample() -> Vec<u8> {
    let files: Vec<Raw> = (0..8).map(|index| Raw::file(format!("dir/file{index}"), noise(index, 60_000))).collect();
    archive(&files)
}

fn options(scratch: &Scratch) -> LayerOptions {
    LayerOptions { target_dir: scratch.path("layer"), blob_path: Some(scratch.path("blob")), ..LayerOptions::default() }
}

fn nothing_left(scratch: &Scratch, what: &str) {
    let left: Vec<_> = fs::read_dir(scratch.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{what}: {left:?} is left");
}

#[test]
fn all_compressions_give_the_same_layer() {
    let sample = sample();
    let (head, tail) = sample.split_at(100_001);
    let skippable = [&0x184d_2a57_u32.to_le_bytes()[..], &5u32.to_le_bytes(), b"hello"].concat();
    let forms: [(&str, Vec<u8>); 6] = [
        ("none", sample.clone()),
        ("gzip", gzip(&sample)),
        ("gzip of two members", [gzip(head), gzip(tail)].concat()),
        ("zstd", zstd(&sample)),
        ("zstd of two frames", [zstd(head), zstd(tail)].concat()),
        ("zstd with skippable frames", [&skippable, &zstd(head)[..], &skippable, &zstd(tail), &skippable].concat()),
    ];
    let scratch = Scratch::new("forms");
    for (index, (form, bytes)) in forms.iter().enumerate() {
        let target = scratch.path(&index.to_string());
        let applied = apply(bytes, &target).unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_eq!(applied.diff_id, digest(&sample), "{form}");
        assert_eq!(applied.digest, digest(bytes), "{form}");
        assert_eq!((applied.size_bytes, applied.entries), (bytes.len() as u64, 8), "{form}");
        assert_eq!(applied.unpacked_bytes, 480_000, "{form}");
        let times = |line: &String| !line.starts_with("dir ");
        let lines = |path: &Path| tree(path).into_iter().filter(times).collect::<Vec<_>>();
        assert_eq!(lines(&target), lines(&scratch.path("0")), "{form}");
    }
}

#[test]
fn other_compressions_are_named() {
    let scratch = Scratch::new("forms");
    for (bytes, name) in [(&b"\xfd7zXZ\0\0\0"[..], "xz"), (b"BZh91AY&SY", "bzip2")] {
        let error = apply(bytes, &scratch.path("layer")).unwrap_err();
        assert!(matches!(&error, LayerError::Unsupported { reason, .. } if reason.contains(name)), "{error:?}");
        nothing_left(&scratch, name);
    }
}

#[test]
fn a_truncated_layer_is_refused_wherever_it_ends() {
    let sample = sample();
    let scratch = Scratch::new("truncated");
    for (form, bytes) in [("gzip", gzip(&sample)), ("zstd", zstd(&sample)), ("none", sample.clone())] {
        for step in 1..=64 {
            // The trailer of zeros is not part of what counts in a plain archive.
            let whole = if form == "none" { bytes.len() - 1024 - 512 } else { bytes.len() };
            let cut = (whole * step / 65).max(1);
            // A plain archive that ends behind an entry is complete for Go and GNU tar too.
            let cut = if form == "none" && cut % 512 == 0 { cut + 1 } else { cut };
            let error = apply_with(&bytes[..cut], options(&scratch)).unwrap_err();
            assert!(matches!(error, LayerError::Corrupt { .. }), "{form} at {cut}: {error:?}");
            nothing_left(&scratch, form);
        }
    }
}

#[test]
fn damage_and_garbage_are_refused() {
    let sample = sample();
    let scratch = Scratch::new("damage");
    for (form, bytes) in [("gzip", gzip(&sample)), ("zstd", zstd(&sample))] {
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        let behind = [&bytes[..], b"garbage"].concat();
        let with_digest = LayerOptions { expected_digest: Some(digest(&bytes)), ..options(&scratch) };
        for (what, damaged) in [("flipped", flipped), ("garbage", behind)] {
            let error = apply_with(&damaged, with_digest.clone()).unwrap_err();
            assert!(matches!(error, LayerError::Corrupt { .. }), "{form} {what}: {error:?}");
            assert!(error.to_string().contains(&digest(&bytes)), "{form} {what}: {error}");
            nothing_left(&scratch, what);
        }
    }
    // zstd without a checksum cannot notice by itself: gzip can, whatever was expected.
    let mut flipped = gzip(&sample);
    let end = flipped.len() - 6;
    flipped[end] ^= 1;
    assert!(matches!(apply_with(&flipped, options(&scratch)), Err(LayerError::Corrupt { .. })));
    nothing_left(&scratch, "crc");
}

#[test]
fn what_was_expected_must_come() {
    let bytes = gzip(&sample());
    let scratch = Scratch::new("expected");
    let good = LayerOptions {
        expected_digest: Some(digest(&bytes)),
        expected_size: Some(bytes.len() as u64),
        expected_diff_id: Some(digest(&sample())),
        ..options(&scratch)
    };
    let wrong = [
        LayerOptions { expected_digest: Some(digest(b"")), ..good.clone() },
        LayerOptions { expected_size: Some(bytes.len() as u64 - 1), ..good.clone() },
        LayerOptions { expected_size: Some(bytes.len() as u64 + 1), ..good.clone() },
        LayerOptions { expected_diff_id: Some(digest(b"")), ..good.clone() },
    ];
    for options in wrong {
        let error = apply_with(&bytes, options).unwrap_err();
        assert!(matches!(error, LayerError::Corrupt { .. }), "{error:?}");
        nothing_left(&scratch, "expected");
    }
    apply_with(&bytes, good).unwrap();
    assert_eq!(fs::read(scratch.path("blob")).unwrap(), bytes);
}

#[test]
fn what_is_there_already_is_left_alone() {
    let bytes = gzip(&sample());
    let scratch = Scratch::new("there");
    fs::write(scratch.path("blob"), "mine").unwrap();
    assert!(apply_with(&bytes, options(&scratch)).is_err());
    assert_eq!(fs::read(scratch.path("blob")).unwrap(), b"mine");
    assert!(!scratch.path("layer").exists());
    fs::remove_file(scratch.path("blob")).unwrap();
    fs::create_dir(scratch.path("layer")).unwrap();
    fs::write(scratch.path("layer/mine"), "").unwrap();
    assert!(apply_with(&bytes, options(&scratch)).is_err());
    assert!(scratch.path("layer/mine").exists());
    assert!(!scratch.path("blob").exists());
}

#[test]
fn bombs_are_stopped() {
    let scratch = Scratch::new("bomb");
    // 1 GiB of zeros in one file: gzip makes 1 MiB of it, zstd 32 KiB.
    let header = Raw { size: Some(b"10000000000".to_vec()), ..Raw::file("zeros", "") }.block();
    let zeros = vec![0; 1 << 20];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    let mut zstd = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    gzip.write_all(&header).unwrap();
    zstd.write_all(&header).unwrap();
    for _ in 0..128 {
        gzip.write_all(&zeros).unwrap();
        zstd.write_all(&zeros).unwrap();
    }
    for (form, bytes) in [("gzip", gzip.finish().unwrap()), ("zstd", zstd.finish().unwrap())] {
        let error = apply_with(&bytes, options(&scratch)).unwrap_err();
        assert!(matches!(&error, LayerError::Corrupt { reason, .. } if reason.contains("bomb")), "{form}: {error:?}");
        nothing_left(&scratch, form);
    }
}

#[test]
fn too_many_entries_are_refused() {
    let scratch = Scratch::new("entries");
    // Entries that make no file, with enough noise between them not to be a bomb by their ratio alone.
    let empty = Raw::file(".wh..wh.x", "").block();
    let noisy = archive(&[Raw::file(".wh..wh.x", noise(1, 64 * 512))]);
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    for index in 0..=1_000_000 {
        let bytes = if index % 10_000 == 0 { &noisy[..noisy.len() - 1024] } else { &empty };
        encoder.write_all(bytes).unwrap();
    }
    let error = apply_with(&encoder.finish().unwrap(), options(&scratch)).unwrap_err();
    assert!(error.to_string().contains("more than 1000000 entries"), "{error}");
    nothing_left(&scratch, "entries");
}

/// Threads and descriptors of this process that belong to layers below `scratch`.
fn descriptors(scratch: &Scratch) -> usize {
    let below = scratch.path("");
    let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    links.filter(|link| link.starts_with(&below)).count()
}

#[test]
fn a_cancelled_layer_leaves_nothing() {
    let sample = sample();
    let scratch = Scratch::new("cancel");
    for (form, bytes) in [("gzip", gzip(&sample)), ("zstd", zstd(&sample)), ("none", sample.clone())] {
        for step in 0..16 {
            let layer = Layer::open(options(&scratch));
            let cut = bytes.len() * step / 16;
            layer.write(bytes[..cut].to_vec(), Box::new(|_| {}));
            let (done, wait) = channel();
            layer.abort(Box::new(move |result| done.send(result).unwrap()));
            assert!(matches!(wait.recv().unwrap(), Err(LayerError::Cancelled { .. })), "{form} at {cut}");
            nothing_left(&scratch, form);
            assert_eq!(descriptors(&scratch), 0, "{form} at {cut}");
            let (room, wait) = channel();
            layer.write(vec![0], Box::new(move |result| room.send(result).unwrap()));
            assert!(matches!(wait.recv().unwrap(), Err(LayerError::Cancelled { .. })));
            assert!(matches!(finish(&layer), Err(LayerError::Cancelled { .. })));
        }
    }
}

#[test]
fn a_writer_is_told_of_the_failure() {
    let scratch = Scratch::new("told");
    let layer = Layer::open(options(&scratch));
    // No archive: refused at the first block, while the writer goes on. Far more than the queues hold.
    let told = (0..1000).find_map(|_| {
        let (room, told) = channel();
        layer.write(vec![b'x'; 1 << 20], Box::new(move |result| room.send(result).unwrap()));
        told.recv().unwrap().err()
    });
    assert!(matches!(told, Some(LayerError::Corrupt { .. })), "{told:?}");
    assert!(matches!(finish(&layer), Err(LayerError::Corrupt { .. })));
    nothing_left(&scratch, "told");
}

#[test]
fn a_writer_waits_for_room() {
    let input = Input::default();
    let (room, told) = channel();
    let small = room.clone();
    input.push(vec![0; 1 << 20], Box::new(move |result| small.send(result).unwrap()));
    told.try_recv().unwrap().unwrap();
    input.push(vec![0; 1], Box::new(move |result| room.send(result).unwrap()));
    assert!(told.try_recv().is_err(), "there is no room and the writer was called");
    assert!(matches!(input.pop(), Popped::Chunk(_)));
    told.try_recv().unwrap().unwrap();
}

/// Every way to run out, each on a filesystem of its own that only this test's threads see.
#[test]
fn a_full_filesystem_fails_and_is_empty_again() {
    let sample = sample();
    let cases = [
        ("no space for files", "size=200k", false),
        ("for the blob", "size=300k", true),
        ("no inodes", "nr_inodes=4", false),
    ];
    for (what, limit, with_blob) in cases {
        let scratch = Scratch::new("full");
        let work = || {
            private_mounts::enter().unwrap();
            let limit = CString::new(limit).unwrap();
            mount("tmpfs", scratch.path(""), "tmpfs", MountFlags::empty(), limit.as_c_str()).unwrap();
            let blob_path = with_blob.then(|| scratch.path("blob"));
            let options = LayerOptions { target_dir: scratch.path("layer"), blob_path, ..LayerOptions::default() };
            let error = apply_with(&sample, options).unwrap_err();
            assert_eq!(error.errno(), Some(Errno::NOSPC.raw_os_error()), "{what}: {error:?}");
            nothing_left(&scratch, what);
        };
        std::thread::scope(|scope| scope.spawn(work).join().unwrap());
    }
}
