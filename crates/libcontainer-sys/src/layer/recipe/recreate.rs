//! Makes the archive again: as a compressed blob in a file, or as it is to a descriptor.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flate2::Crc;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use zstd::stream::read::Decoder;

use super::{BYTES, END, FILE, MAX_BYTES};
use crate::layer::chunks::BUFFER;
use crate::layer::compressor::Compressor;
use crate::layer::digest::Hasher;
use crate::layer::dirs::open_beneath;
use crate::layer::error::{LayerError, Result, corrupt, system};
use crate::layer::kept::KeptBlob;

/// An unpacked layer with its recipe.
#[derive(Debug, Clone, Default)]
pub struct RecreateOptions {
    pub directory: PathBuf,
    pub recipe: PathBuf,
    pub expected_diff_id: String,
}

/// Compresses the archive to `blob_path`, which must not exist: the same bytes each time, but not those that once came.
/// Nothing is left of it when this fails; kind Corrupt when the directory is not what the archive held.
pub fn recreate(options: &RecreateOptions, blob_path: &Path) -> Result<KeptBlob> {
    let mut blob = Compressor::create(blob_path)?;
    archive(options, |bytes| blob.write(bytes)).and_then(|()| blob.finish()).inspect_err(|_| {
        let _ = std::fs::remove_file(blob_path);
    })
}

/// Writes the archive to `output`. Whoever reads it and leaves is an end like any other; kind Corrupt, then behind the
/// bytes, when the directory is not what the archive held.
pub fn send_archive(options: &RecreateOptions, output: OwnedFd) -> Result<()> {
    let mut output = BufWriter::with_capacity(BUFFER, File::from(output));
    let mut is_gone = false;
    let mut put = |done: io::Result<()>| {
        is_gone = matches!(&done, Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
        done.map_err(failed("send", &options.directory))
    };
    let sent = archive(options, |bytes| put(output.write_all(bytes))).and_then(|()| put(output.flush()));
    // What is left in the buffer is for nobody.
    drop(output.into_parts());
    if is_gone { Ok(()) } else { sent }
}

/// Bytes of the archive, of which only the recipe is read.
pub fn archive_size(recipe: &Path) -> Result<u64> {
    let mut records = Records::open(recipe)?;
    let mut total = 0;
    while let Some(record) = records.next()? {
        total += match record {
            Record::Bytes(bytes) => bytes.len() as u64,
            Record::File { size, .. } => size,
        };
    }
    Ok(total)
}

/// Gives the archive piece by piece to `out`, and compares it with its digest in the end.
fn archive(options: &RecreateOptions, mut out: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let RecreateOptions { directory, recipe, expected_diff_id } = options;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = directory.as_os_str().as_bytes();
    let root = openat(CWD, directory, flags, Mode::empty()).map_err(system("open", path))?;
    let mut records = Records::open(recipe)?;
    let mut buffer = vec![0; BUFFER];
    let mut hasher = Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(bytes);
        out(bytes)
    };
    while let Some(record) = records.next()? {
        match record {
            Record::Bytes(bytes) => put(&bytes)?,
            Record::File { path, size, crc } => file(&root, &path, (size, crc), &mut buffer, &mut put)?,
        }
    }
    let diff_id = hasher.finish();
    if diff_id == *expected_diff_id {
        return Ok(());
    }
    Err(corrupt("recreate", path, format!("its files give {diff_id}, and the layer is {expected_diff_id}")))
}

enum Record {
    Bytes(Vec<u8>),
    File { path: Vec<u8>, size: u64, crc: u32 },
}

struct Records<'a> {
    recipe: &'a Path,
    input: Decoder<'static, BufReader<File>>,
}

impl<'a> Records<'a> {
    fn open(recipe: &'a Path) -> Result<Self> {
        let input = File::open(recipe).and_then(Decoder::new).map_err(failed("open", recipe))?;
        Ok(Self { recipe, input })
    }

    fn next(&mut self) -> Result<Option<Record>> {
        let [tag] = self.number()?;
        match tag {
            BYTES => {
                let len = u32::from_le_bytes(self.number()?) as usize;
                if len > MAX_BYTES {
                    return Err(self.damaged(format!("a record of {len} bytes")));
                }
                Ok(Some(Record::Bytes(self.bytes(len)?)))
            }
            FILE => {
                let len = u16::from_le_bytes(self.number()?).into();
                let path = self.bytes(len)?;
                let size = u64::from_le_bytes(self.number()?);
                let crc = u32::from_le_bytes(self.number()?);
                Ok(Some(Record::File { path, size, crc }))
            }
            END => Ok(None),
            other => Err(self.damaged(format!("a record of the unknown kind {other}"))),
        }
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn read(&mut self, into: &mut [u8]) -> Result<()> {
        self.input.read_exact(into).map_err(|error| self.damaged(error.to_string()))
    }

    fn damaged(&self, reason: String) -> LayerError {
        corrupt("read the recipe", self.recipe.as_os_str().as_bytes(), reason)
    }
}

/// The content of one file, which must be what the layer came with.
fn file(
    root: &OwnedFd,
    path: &[u8],
    (size, crc): (u64, u32),
    buffer: &mut [u8],
    mut out: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let other = |reason: String| corrupt("recreate", path, reason);
    let fd = open_beneath(root, path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => other("the file of the layer is not there any more".into()),
        errno => system("open", path)(errno),
    })?;
    let stat = fstat(&fd).map_err(system("stat", path))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size.cast_unsigned() != size {
        return Err(other(format!("it has {} bytes, not the {size} that the layer came with", stat.st_size)));
    }
    let mut file = File::from(fd).take(size);
    let mut sum = Crc::new();
    let mut left = size;
    while left > 0 {
        let count = match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(|error| system("read", path)(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?,
        };
        if count == 0 {
            return Err(other(format!("it lacks {left} bytes")));
        }
        sum.update(&buffer[..count]);
        out(&buffer[..count])?;
        left -= count as u64;
    }
    if sum.sum() == crc { Ok(()) } else { Err(other("its content is not what the layer came with".into())) }
}

fn failed(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LayerError {
    move |error| system(op, path.as_os_str().as_bytes())(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
