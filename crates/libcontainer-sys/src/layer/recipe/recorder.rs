//! Writes the recipe while an archive is read.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Crc;
use rustix::io::Errno;
use zstd::stream::write::Encoder;

use super::{BYTES, END, FILE, MAX_BYTES};
use crate::layer::error::{Result, system};

/// Headers shrink to a twentieth at any level; the layer waits for it.
const LEVEL: i32 = 1;

/// The archive on its way to the reader; what the reader consumes is written down.
pub(in super::super) struct Recorder<R> {
    input: R,
    recipe: Option<Recipe>,
}

struct Recipe {
    path: PathBuf,
    out: Encoder<'static, File>,
    bytes: Vec<u8>,
    content: Option<Content>,
    /// `BufRead::consume` cannot fail: the first failure waits for `finish`.
    failure: Option<io::Error>,
}

struct Content {
    path: Vec<u8>,
    size: u64,
    crc: Crc,
}

impl<R: BufRead> Recorder<R> {
    /// Without a path nothing is written.
    pub(in super::super) fn create(input: R, path: Option<&Path>) -> Result<Self> {
        Ok(Self { input, recipe: path.map(Recipe::create).transpose()? })
    }

    /// What is consumed from here to `file_ends` is what the file of that path will hold.
    pub(in super::super) fn file_begins(&mut self, path: impl FnOnce() -> Vec<u8>) {
        if let Some(recipe) = &mut self.recipe {
            recipe.flush();
            recipe.content = Some(Content { path: path(), size: 0, crc: Crc::new() });
        }
    }

    pub(in super::super) fn file_ends(&mut self) {
        if let Some(recipe) = &mut self.recipe {
            recipe.file_ends();
        }
    }

    /// The directory will not hold all of this archive.
    pub(in super::super) fn give_up(&mut self) {
        if let Some(Recipe { path, .. }) = self.recipe.take() {
            // What is left of it goes with the directory that it stands in.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Whether there is a recipe.
    pub(in super::super) fn finish(self) -> Result<bool> {
        self.recipe.map_or(Ok(false), |recipe| recipe.finish().map(|()| true))
    }
}

impl<R: BufRead> BufRead for Recorder<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // The buffer that the caller has just seen: this reads nothing new.
        if let Some(recipe) = &mut self.recipe
            && amount > 0
            && let Ok(buffer) = self.input.fill_buf()
        {
            recipe.take(&buffer[..amount]);
        }
        self.input.consume(amount);
    }
}

impl<R: BufRead> Read for Recorder<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(out.len());
        out[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl Recipe {
    fn create(path: &Path) -> Result<Self> {
        let made = File::options().write(true).create_new(true).mode(0o600).open(path);
        let out = made.and_then(|file| Encoder::new(file, LEVEL)).map_err(failed("create", path))?;
        Ok(Self { path: path.into(), out, bytes: Vec::with_capacity(MAX_BYTES), content: None, failure: None })
    }

    fn take(&mut self, mut bytes: &[u8]) {
        if let Some(Content { size, crc, .. }) = &mut self.content {
            *size += bytes.len() as u64;
            crc.update(bytes);
            return;
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(MAX_BYTES - self.bytes.len()));
            self.bytes.extend_from_slice(now);
            bytes = later;
            if self.bytes.len() == MAX_BYTES {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.bytes);
        // At most MAX_BYTES.
        let len = u32::try_from(bytes.len()).unwrap_or_default().to_le_bytes();
        self.write(&[&[BYTES], &len, &bytes]);
        self.bytes = bytes;
        self.bytes.clear();
    }

    fn file_ends(&mut self) {
        let Some(Content { path, size, crc }) = self.content.take() else { return };
        // At most PATH_MAX: the file has just been made under it.
        let len = u16::try_from(path.len()).unwrap_or_default().to_le_bytes();
        self.write(&[&[FILE], &len, &path, &size.to_le_bytes(), &crc.sum().to_le_bytes()]);
    }

    fn write(&mut self, parts: &[&[u8]]) {
        for part in parts {
            if self.failure.is_none() {
                self.failure = self.out.write_all(part).err();
            }
        }
    }

    fn finish(mut self) -> Result<()> {
        self.flush();
        self.write(&[&[END]]);
        let Self { path, out, failure, .. } = self;
        // The layer's own sync takes it along.
        failure.map_or_else(|| out.finish().map(drop), Err).map_err(failed("write", &path))
    }
}

fn failed(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> crate::layer::LayerError {
    move |error| system(op, path.as_os_str().as_bytes())(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
