use std::fs;
use std::io::{Read, Write};

use super::{RecreateOptions, archive_size, recreate, send_archive};
use crate::layer::testing::{Raw, Scratch, apply_with, archive, digest, noise};
use crate::layer::{AppliedLayer, LayerError, LayerOptions};

struct Applied {
    scratch: Scratch,
    layer: AppliedLayer,
}

impl Applied {
    fn new(bytes: &[u8]) -> Self {
        let scratch = Scratch::new("recipe");
        let options = LayerOptions {
            target_dir: scratch.path("layer"),
            recipe_path: Some(scratch.path("recipe")),
            ..LayerOptions::default()
        };
        let layer = apply_with(bytes, options).unwrap();
        Self { scratch, layer }
    }

    fn options(&self) -> RecreateOptions {
        RecreateOptions {
            directory: self.scratch.path("layer"),
            recipe: self.scratch.path("recipe"),
            expected_diff_id: self.layer.diff_id.clone(),
        }
    }

    /// What comes out of a pipe.
    fn send(&self) -> (Vec<u8>, Result<(), LayerError>) {
        let (mut from, to) = std::io::pipe().unwrap();
        let options = self.options();
        let sending = std::thread::spawn(move || send_archive(&options, to.into()));
        let mut tar = Vec::new();
        from.read_to_end(&mut tar).unwrap();
        (tar, sending.join().unwrap())
    }

    fn recreate(&self) -> Result<Vec<u8>, LayerError> {
        let blob_path = self.scratch.path("blob");
        let blob = recreate(&self.options(), &blob_path);
        assert_eq!(blob.is_ok(), blob_path.exists());
        let compressed = fs::read(&blob_path).unwrap_or_default();
        let blob = blob?;
        assert_eq!((blob.digest, blob.size_bytes), (digest(&compressed), compressed.len() as u64));
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut tar).unwrap();
        Ok(tar)
    }
}

/// With everything that an archive may have, and bytes that no writer would choose again.
fn odd() -> Vec<u8> {
    let mut odd_mode = Raw::file("d/odd", "odd");
    odd_mode.uid = b"0000123 ".to_vec();
    let mut tar = archive(&[
        Raw::dir("./d/"),
        Raw::file("d/noise", noise(7, 300_000)),
        odd_mode,
        Raw::file("d/empty", ""),
        Raw::link(b'1', "hard", "d/noise"),
        Raw::link(b'2', "way", "d"),
        Raw::file("way/through", "through a link"),
        Raw::pax(&[("mtime", b"1700000000.123456789"), ("comment", b"kept")]),
        Raw::file("/pax", "x".repeat(512)),
        Raw::file("d/.wh.gone", ""),
        Raw::file("e/.wh..wh..opq", ""),
    ]);
    tar.extend_from_slice(&[0; 8192]);
    tar.extend_from_slice(b"behind the end");
    tar
}

#[test]
fn an_archive_comes_back_to_the_byte() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&odd()).unwrap();
    for bytes in [odd(), gzip.finish().unwrap(), zstd::encode_all(&odd()[..], 1).unwrap()] {
        let applied = Applied::new(&bytes);
        assert!(applied.layer.recipe);
        assert!(applied.recreate().unwrap() == odd());
        assert!(applied.send() == (odd(), Ok(())));
        assert_eq!(archive_size(&applied.scratch.path("recipe")), Ok(odd().len() as u64));
        assert!(fs::metadata(applied.scratch.path("recipe")).unwrap().len() < 1500);
    }
}

#[test]
fn a_changed_directory_is_named() {
    type Change = fn(&std::path::Path);
    let changes: [(Change, &str); 5] = [
        (|dir| fs::write(dir.join("d/odd"), "odD").unwrap(), "'d/odd': its content is not"),
        (|dir| fs::write(dir.join("d/odd"), "longer").unwrap(), "'d/odd': it has 6 bytes, not the 3"),
        (|dir| fs::remove_file(dir.join("pax")).unwrap(), "'pax': the file of the layer is not there"),
        (
            |dir| {
                fs::remove_file(dir.join("d/odd")).unwrap();
                std::os::unix::fs::symlink("/etc/passwd", dir.join("d/odd")).unwrap();
            },
            "'d/odd': the file of the layer is not there",
        ),
        (
            |dir| {
                let recipe = dir.join("../recipe");
                let bytes = fs::read(&recipe).unwrap();
                fs::write(&recipe, &bytes[..bytes.len() / 2]).unwrap();
            },
            "read the recipe",
        ),
    ];
    for (change, message) in changes {
        let applied = Applied::new(&odd());
        change(&applied.scratch.path("layer"));
        let error = applied.recreate().unwrap_err();
        assert!(matches!(error, LayerError::Corrupt { .. }) && error.to_string().contains(message), "{error}");
        assert_eq!(applied.send().1, Err(error));
    }
}

#[test]
fn a_reader_that_leaves_ends_the_sending() {
    let applied = Applied::new(&odd());
    let (from, to) = std::io::pipe().unwrap();
    drop(from);
    assert_eq!(send_archive(&applied.options(), to.into()), Ok(()));
}

#[test]
fn what_the_directory_does_not_hold_has_no_recipe() {
    let twice = archive(&[Raw::file("one", "first"), Raw::file("one", "second")]);
    let replaced = archive(&[Raw::dir("d"), Raw::file("d/one", "first"), Raw::file("d", "a file now")]);
    let sparse = archive(&[
        Raw::pax(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"9"), ("GNU.sparse.name", b"holes")]),
        Raw::file("holes", "x"),
    ]);
    for bytes in [twice, replaced, sparse] {
        let applied = Applied::new(&bytes);
        assert!(!applied.layer.recipe && !applied.scratch.path("recipe").exists());
    }
}

#[test]
fn a_refused_archive_leaves_no_recipe() {
    let scratch = Scratch::new("recipe");
    let recipe = scratch.path("recipe");
    let bytes = archive(&[Raw::file("one", "first"), Raw::file("../up", "")]);
    let options = LayerOptions {
        target_dir: scratch.path("layer"),
        recipe_path: Some(recipe.clone()),
        ..LayerOptions::default()
    };
    assert!(apply_with(&bytes, options).is_err());
    assert!(!recipe.exists());
}
