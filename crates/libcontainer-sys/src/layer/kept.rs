//! The compressed blob that is kept beside an unpacked layer, so that a push or a save gives what came.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use rustix::io::Errno;

use super::digest::Hasher;
use super::error::{LayerError, Result, system};

/// An import or a commit waits for it: speed counts for more than the last percents of size.
const LEVEL: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptBlob {
    pub digest: String,
    pub size_bytes: u64,
    /// `gzip` or `zstd`.
    pub compression: &'static str,
}

pub(super) struct Keeper {
    path: PathBuf,
    /// The first bytes, until it is known what they are.
    head: Vec<u8>,
    form: Form,
}

enum Form {
    Unknown(File),
    AsItCame { file: File, compression: &'static str },
    Compressing(Box<GzEncoder<Counted>>),
}

/// A file that knows digest and length of what it was given.
struct Counted {
    file: File,
    hasher: Hasher,
    size_bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Keeper {
    pub(super) fn create(path: &Path) -> Result<Self> {
        Ok(Self { path: path.into(), head: Vec::new(), form: Form::Unknown(made(path)?) })
    }

    /// What will come is not compressed, whatever it looks like.
    pub(super) fn compressing(path: &Path) -> Result<Self> {
        Ok(Self { path: path.into(), head: Vec::new(), form: compressing(made(path)?) })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if matches!(self.form, Form::Unknown(_)) {
            self.head.extend_from_slice(bytes);
            return if self.head.len() < 4 { Ok(()) } else { self.decide() };
        }
        match &mut self.form {
            Form::Unknown(_) => Ok(()),
            Form::AsItCame { file, .. } => file.write_all(bytes),
            Form::Compressing(encoder) => encoder.write_all(bytes),
        }
        .map_err(failed("write", &self.path))
    }

    fn decide(&mut self) -> Result<()> {
        let head = std::mem::take(&mut self.head);
        let Form::Unknown(file) = &self.form else { return Ok(()) };
        let file = file.try_clone().map_err(failed("write", &self.path))?;
        self.form = match *head {
            [0x1f, 0x8b, ..] => Form::AsItCame { file, compression: "gzip" },
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Form::AsItCame { file, compression: "zstd" }
            }
            _ => compressing(file),
        };
        self.write(&head)
    }

    /// `digest` and `size_bytes` are those of what was written here.
    pub(super) fn finish(mut self, digest: &str, size_bytes: u64) -> Result<KeptBlob> {
        if matches!(self.form, Form::Unknown(_)) {
            self.decide()?;
        }
        let (file, blob) = match self.form {
            Form::Unknown(file) => (file, None),
            Form::AsItCame { file, compression } => {
                (file, Some(KeptBlob { digest: digest.into(), size_bytes, compression }))
            }
            Form::Compressing(encoder) => {
                let Counted { file, hasher, size_bytes } = encoder.finish().map_err(failed("write", &self.path))?;
                (file, Some(KeptBlob { digest: hasher.finish(), size_bytes, compression: "gzip" }))
            }
        };
        file.sync_all().map_err(failed("sync", &self.path))?;
        blob.ok_or_else(|| LayerError::Stopped { path: self.path.display().to_string() })
    }
}

fn made(path: &Path) -> Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed("create", path))
}

fn compressing(file: File) -> Form {
    let out = Counted { file, hasher: Hasher::new(), size_bytes: 0 };
    // Neither name nor time in the header: the same layer always gives the same blob.
    Form::Compressing(Box::new(GzBuilder::new().write(out, Compression::new(LEVEL))))
}

fn failed(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LayerError {
    move |error| system(op, path.as_os_str().as_bytes())(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use crate::layer::testing::{Raw, Scratch, apply, apply_with, archive, digest, noise, tree};
    use crate::layer::{LayerError, LayerOptions};
    use std::io::{Read, Write};

    fn tar() -> Vec<u8> {
        archive(&[Raw::dir("d"), Raw::file("d/text", "x".repeat(100_000)), Raw::file("d/noise", noise(1, 50_000))])
    }

    #[test]
    fn a_compressed_blob_is_kept_as_it_came() {
        let scratch = Scratch::new("kept");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&tar()).unwrap();
        let zstd = zstd::encode_all(&tar()[..], 1).unwrap();
        for (compression, bytes) in [("gzip", gzip.finish().unwrap()), ("zstd", zstd)] {
            let path = scratch.path(compression);
            let target_dir = scratch.path(&format!("{compression}-layer"));
            let options = LayerOptions { target_dir, blob_path: Some(path.clone()), ..LayerOptions::default() };
            let blob = apply_with(&bytes, options).unwrap().blob.unwrap();
            assert_eq!((blob.digest, blob.size_bytes), (digest(&bytes), bytes.len() as u64));
            assert_eq!(blob.compression, compression);
            assert_eq!(std::fs::read(path).unwrap(), bytes);
        }
    }

    #[test]
    fn an_uncompressed_layer_is_compressed_and_gives_itself_back() {
        let scratch = Scratch::new("kept");
        let mut blobs = Vec::new();
        for name in ["one", "two"] {
            let path = scratch.path(&format!("{name}.blob"));
            let target_dir = scratch.path(name);
            let options = LayerOptions { target_dir, blob_path: Some(path.clone()), ..LayerOptions::default() };
            let applied = apply_with(&tar(), options).unwrap();
            let bytes = std::fs::read(path).unwrap();
            let blob = applied.blob.unwrap();
            assert_eq!((blob.digest.as_str(), blob.size_bytes), (digest(&bytes).as_str(), bytes.len() as u64));
            assert!(bytes.len() < tar().len());
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut back).unwrap();
            assert_eq!((digest(&back), back.len()), (applied.diff_id, tar().len()));
            blobs.push(bytes);
        }
        assert_eq!(blobs[0], blobs[1], "the same layer gives the same blob");
        apply(&blobs[0], &scratch.path("again")).unwrap();
        assert_eq!(tree(&scratch.path("again")), tree(&scratch.path("one")));
    }

    #[test]
    fn bytes_that_are_no_layer_leave_no_blob() {
        let scratch = Scratch::new("kept");
        for bytes in [&b"abc"[..], &[1; 5000]] {
            let (target_dir, blob_path) = (scratch.path("bad"), scratch.path("bad.blob"));
            let options = LayerOptions {
                target_dir: target_dir.clone(),
                blob_path: Some(blob_path.clone()),
                ..LayerOptions::default()
            };
            assert!(matches!(apply_with(bytes, options), Err(LayerError::Corrupt { .. })));
            assert!(!target_dir.exists() && !blob_path.exists());
        }
    }
}
