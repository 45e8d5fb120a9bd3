//! Makes the archive again, and a compressed blob of it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flate2::Crc;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use zstd::stream::read::Decoder;

use super::{BYTES, END, FILE, MAX_BYTES};
use crate::layer::chunks::BUFFER;
use crate::layer::digest::Hasher;
use crate::layer::dirs::open_beneath;
use crate::layer::error::{LayerError, Result, corrupt, system};
use crate::layer::kept::{Keeper, KeptBlob};

#[derive(Debug, Clone, Default)]
pub struct RecreateOptions {
    /// The unpacked layer, and its recipe.
    pub directory: PathBuf,
    pub recipe: PathBuf,
    /// Must not exist. Receives the layer compressed anew: the same bytes each time, but not those that once came.
    pub blob_path: PathBuf,
    pub expected_diff_id: String,
}

/// Nothing is left of the blob when this fails; kind Corrupt when the directory is not what the archive held.
pub fn recreate(options: &RecreateOptions) -> Result<KeptBlob> {
    let RecreateOptions { directory, recipe, blob_path, expected_diff_id } = options;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root =
        openat(CWD, directory, flags, Mode::empty()).map_err(system("open", directory.as_os_str().as_bytes()))?;
    let records = File::open(recipe).and_then(Decoder::new).map_err(failed("open", recipe))?;
    let out = Archive { keeper: Keeper::compressing(blob_path)?, hasher: Hasher::new(), size: 0 };
    let mut recreating = Recreating { recipe, records, root, out, buffer: vec![0; BUFFER] };
    let made = recreating.run().and_then(|()| {
        let Archive { keeper, hasher, size } = recreating.out;
        let diff_id = hasher.finish();
        if diff_id != *expected_diff_id {
            let reason = format!("its files give {diff_id}, and the layer is {expected_diff_id}");
            return Err(corrupt("recreate", directory.as_os_str().as_bytes(), reason));
        }
        keeper.finish(&diff_id, size)
    });
    made.inspect_err(|_| {
        let _ = std::fs::remove_file(blob_path);
    })
}

struct Archive {
    keeper: Keeper,
    hasher: Hasher,
    size: u64,
}

impl Archive {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.keeper.write(bytes)
    }
}

struct Recreating<'a> {
    recipe: &'a Path,
    records: Decoder<'static, BufReader<File>>,
    root: OwnedFd,
    out: Archive,
    buffer: Vec<u8>,
}

impl Recreating<'_> {
    fn run(&mut self) -> Result<()> {
        loop {
            let [tag] = self.number()?;
            match tag {
                BYTES => {
                    let len = u32::from_le_bytes(self.number()?) as usize;
                    let bytes = self.bytes(len, MAX_BYTES)?;
                    self.out.write(&bytes)?;
                }
                FILE => {
                    let len = u16::from_le_bytes(self.number()?).into();
                    let path = self.bytes(len, usize::MAX)?;
                    let size = u64::from_le_bytes(self.number()?);
                    let crc = u32::from_le_bytes(self.number()?);
                    self.file(&path, size, crc)?;
                }
                END => return Ok(()),
                other => return Err(self.damaged(format!("a record of the unknown kind {other}"))),
            }
        }
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self, len: usize, at_most: usize) -> Result<Vec<u8>> {
        if len > at_most {
            return Err(self.damaged(format!("a record of {len} bytes")));
        }
        let mut bytes = vec![0; len];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn read(&mut self, into: &mut [u8]) -> Result<()> {
        self.records.read_exact(into).map_err(|error| self.damaged(error.to_string()))
    }

    fn damaged(&self, reason: String) -> LayerError {
        corrupt("read the recipe", self.recipe.as_os_str().as_bytes(), reason)
    }

    fn file(&mut self, path: &[u8], size: u64, crc: u32) -> Result<()> {
        let other = |reason: String| corrupt("recreate", path, reason);
        let fd = open_beneath(&self.root, path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(|errno| match errno {
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
            let count = match file.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => {
                    other.map_err(|error| system("read", path)(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?
                }
            };
            if count == 0 {
                return Err(other(format!("it lacks {left} bytes")));
            }
            sum.update(&self.buffer[..count]);
            self.out.write(&self.buffer[..count])?;
            left -= count as u64;
        }
        if sum.sum() == crc { Ok(()) } else { Err(other("its content is not what the layer came with".into())) }
    }
}

fn failed(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LayerError {
    move |error| system(op, path.as_os_str().as_bytes())(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
