//! Archives of users, compressed in any way that Docker takes: told by their first bytes, and read in this process, never by
//! a program of a container or of the host.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

use super::super::tar;
use crate::failure::{Context, Result};

const BUFFER: usize = 256 * 1024;
/// What an archive may ask for; `xz -9` needs half of it.
const XZ_MEMORY_KIB: u32 = 128 * 1024;

pub(super) fn inflated(input: OwnedFd) -> Result<Box<dyn BufRead>> {
    reader(File::from(input)).context("read", "archive").map(|(reader, _)| reader)
}

/// Whether a file is a tar archive, compressed or not: its first header says so, as a file's name does not.
pub fn is_archive(path: &str) -> Result<bool> {
    let file = File::open(path).context("open", path)?;
    let (mut reader, compressed) = reader(file).context("read", path)?;
    let mut block = [0; tar::BLOCK];
    match reader.read_exact(&mut block) {
        Ok(()) => Ok(tar::is_header(&block)),
        // too short for an archive, or compressed by its first bytes alone
        Err(error) if compressed || error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error).context("read", path),
    }
}

/// True when it is compressed.
fn reader(file: File) -> std::io::Result<(Box<dyn BufRead>, bool)> {
    fn buffered(inner: impl Read + 'static) -> (Box<dyn BufRead>, bool) {
        (Box::new(BufReader::with_capacity(BUFFER, inner)), true)
    }
    let mut input = BufReader::with_capacity(BUFFER, file);
    Ok(match *input.fill_buf()? {
        [0x1f, 0x8b, ..] => buffered(MultiGzDecoder::new(input)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => buffered(zstd::stream::read::Decoder::with_buffer(input)?),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => buffered(XzReader::new_mem_limit(input, true, XZ_MEMORY_KIB)),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => buffered(MultiBzDecoder::new(input)),
        _ => (Box::new(input), false),
    })
}
