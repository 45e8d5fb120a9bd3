//! The blob of a layer in a file, as it came.

use std::fs::{File, remove_file};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::{LayerError, Result, system};

/// When a layer's blob is kept beside its directory. Without a recipe there is nothing else to give it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    #[default]
    Always,
    /// With a recipe only when it came compressed: the recipe gives the archive, not the bytes of a compressor.
    Compressed,
    WithoutRecipe,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptBlob {
    pub digest: String,
    pub size_bytes: u64,
    pub compression: Encoding,
}

/// How a layer's archive is written in a blob, told by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Gzip,
    Zstd,
    None,
}

impl Encoding {
    pub(super) const HEAD: usize = 4;

    /// `head`: the first four bytes, fewer when there are no more.
    pub(super) fn of(head: &[u8]) -> Self {
        match *head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Self::Zstd,
            _ => Self::None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::None => "none",
        }
    }
}

/// Takes down what comes: whether it is needed is known at the end, when no more of it can be had.
pub(super) struct Keeper {
    path: PathBuf,
    keep: Keep,
    file: File,
    head: Vec<u8>,
}

impl Keeper {
    pub(super) fn create(path: &Path, keep: Keep) -> Result<Self> {
        Ok(Self { path: path.into(), keep, file: made(path)?, head: Vec::new() })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let missing = Encoding::HEAD - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(missing)]);
        self.file.write_all(bytes).map_err(failed("write", &self.path))
    }

    /// `digest` and `size_bytes` are those of what was written here.
    pub(super) fn finish(self, digest: &str, size_bytes: u64, has_recipe: bool) -> Result<Option<KeptBlob>> {
        let compression = Encoding::of(&self.head);
        let is_kept = match self.keep {
            Keep::Always => true,
            Keep::Compressed => !has_recipe || compression != Encoding::None,
            Keep::WithoutRecipe => !has_recipe,
        };
        if !is_kept {
            // Before the layer is synced: what is still in memory never has to be written.
            remove_file(&self.path).map_err(failed("remove", &self.path))?;
            return Ok(None);
        }
        self.file.sync_all().map_err(failed("sync", &self.path))?;
        Ok(Some(KeptBlob { digest: digest.into(), size_bytes, compression }))
    }
}

pub(super) fn made(path: &Path) -> Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed("create", path))
}

pub(super) fn failed(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LayerError {
    move |error| system(op, path.as_os_str().as_bytes())(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::{Encoding, Keep};
    use crate::layer::testing::{Raw, Scratch, apply_with, archive, digest, noise};
    use crate::layer::{LayerError, LayerOptions};
    use std::io::Write;

    fn tar(name: &str) -> Vec<u8> {
        archive(&[Raw::dir("d"), Raw::file("d/text", "x".repeat(100_000)), Raw::file(name, noise(1, 50_000))])
    }

    #[test]
    fn a_blob_is_kept_as_it_came_or_stood_for_by_the_recipe() {
        let gzip = |tar: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            gzip.write_all(tar).unwrap();
            gzip.finish().unwrap()
        };
        let zstd = |tar: &[u8]| zstd::encode_all(tar, 1).unwrap();
        // One with a name that comes twice has no recipe.
        for (name, has_recipe) in [("d/noise", true), ("d/text", false)] {
            let tar = tar(name);
            let forms = [(Encoding::None, tar.clone()), (Encoding::Gzip, gzip(&tar)), (Encoding::Zstd, zstd(&tar))];
            for (compression, bytes) in forms {
                for keep in [Keep::Always, Keep::Compressed, Keep::WithoutRecipe] {
                    let scratch = Scratch::new("kept");
                    let path = scratch.path("blob");
                    let options = LayerOptions {
                        target_dir: scratch.path("layer"),
                        blob_path: Some(path.clone()),
                        keep,
                        recipe_path: Some(scratch.path("recipe")),
                        ..LayerOptions::default()
                    };
                    let applied = apply_with(&bytes, options).unwrap();
                    assert_eq!((applied.recipe, &applied.diff_id), (has_recipe, &digest(&tar)));
                    let is_kept = match keep {
                        Keep::Always => true,
                        Keep::Compressed => !has_recipe || compression != Encoding::None,
                        Keep::WithoutRecipe => !has_recipe,
                    };
                    assert_eq!((applied.blob.is_some(), path.exists()), (is_kept, is_kept), "{keep:?} {compression:?}");
                    if let Some(blob) = applied.blob {
                        assert_eq!((blob.digest, blob.size_bytes), (digest(&bytes), bytes.len() as u64));
                        assert_eq!(blob.compression, compression);
                        assert_eq!(std::fs::read(path).unwrap(), bytes);
                    }
                }
            }
        }
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
