//! Rotated files made small: a child of low priority turns each `path.N` into `path.N.gz`, so that the container does not
//! wait for it. It ends before names move again; what it has not done by then is done after the next rotation.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use miniz_oxide::DataFormat;
use miniz_oxide::deflate::CompressionLevel;
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output};
use rustix::io::retry_on_intr;
use rustix::process::{
    Signal, WaitId, WaitIdOptions, nice, pidfd_send_signal, set_parent_process_death_signal, waitid,
};

use super::file::{numbered, suffixed};
use super::identity::Identity;
use crate::sys::clone::{Cloned, clone3, exit_now};
use crate::sys::exec::close_from;

const BLOCK: usize = 64 * 1024;
const NICENESS: i32 = 10;

#[derive(Default)]
pub struct Compressor {
    /// With the file that it may have begun.
    child: Option<(OwnedFd, PathBuf)>,
}

impl Compressor {
    /// Begins with what is there; a host that has no process left keeps its files as they are.
    pub fn start(&mut self, path: &Path, max_files: u32) {
        match clone3(0, None) {
            Ok(Cloned::Parent { pidfd, .. }) => self.child = Some((pidfd, temporary(path))),
            Ok(Cloned::Child) => {
                // What the shim holds would stay open with us: a client would not see the end of its stream.
                if set_parent_process_death_signal(Some(Signal::KILL)).is_ok() && close_from(3).is_ok() {
                    let _ = nice(NICENESS);
                    compress_all(path, max_files);
                }
                exit_now(0);
            }
            Err(_) => {}
        }
    }

    /// After this nobody but the caller touches the files.
    pub fn stop(&mut self) {
        let Some((child, temporary)) = self.child.take() else { return };
        let _ = pidfd_send_signal(&child, Signal::KILL);
        // Fails where the shim has reaped it already.
        let _ = retry_on_intr(|| waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED));
        let _ = fs::remove_file(temporary);
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One for all of them: they are made one after the other.
fn temporary(path: &Path) -> PathBuf {
    suffixed(path, ".gz.tmp")
}

pub fn compress_all(path: &Path, max_files: u32) {
    let temporary = temporary(path);
    for number in 1..max_files {
        let plain = numbered(path, number);
        if compress_file(&plain, &temporary).is_ok() && fs::rename(&temporary, suffixed(&plain, ".gz")).is_ok() {
            let _ = fs::remove_file(&plain);
        } else {
            let _ = fs::remove_file(&temporary);
        }
    }
}

fn compress_file(plain: &Path, compressed: &Path) -> io::Result<()> {
    let mut source = File::open(plain)?;
    let mut target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(compressed)?;
    target.write_all(&header(&source))?;
    let mut deflate = CompressorOxide::with_format_and_level(DataFormat::Raw, CompressionLevel::DefaultLevel);
    let (mut checksum, mut length) = (!0, 0_u32);
    let mut block = vec![0; BLOCK];
    loop {
        let count = source.read(&mut block)?;
        checksum = crc32(checksum, &block[..count]);
        length = length.wrapping_add(count as u32);
        let flush = if count == 0 { TDEFLFlush::Finish } else { TDEFLFlush::None };
        let mut written = Ok(());
        let (status, _) = compress_to_output(&mut deflate, &block[..count], flush, |bytes| {
            written = target.write_all(bytes);
            written.is_ok()
        });
        written?;
        match status {
            TDEFLStatus::Okay => {}
            TDEFLStatus::Done => break,
            TDEFLStatus::BadParam | TDEFLStatus::PutBufFailed => return Err(io::ErrorKind::Other.into()),
        }
    }
    target.write_all(&(!checksum).to_le_bytes())?;
    target.write_all(&length.to_le_bytes())
}

/// With a field of our own that names the file it was made from, so that a reader who holds that one knows where it is.
fn header(source: &File) -> Vec<u8> {
    let mut header = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 3, 20, 0, b'c', b'n', 16, 0];
    header.extend_from_slice(&Identity::of(source).map_or([0; 16], Identity::to_bytes));
    header
}

fn crc32(mut checksum: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut value = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    for byte in bytes {
        checksum = TABLE[(checksum as u8 ^ byte) as usize] ^ (checksum >> 8);
    }
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_stopped_leaves_the_file_and_nothing_half_made() {
        let dir = std::env::temp_dir().join(format!("caisson-compress-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let path = dir.join("log");
        File::create(numbered(&path, 1)).unwrap().set_len(1 << 32).unwrap();
        let mut compressor = Compressor::default();
        compressor.start(&path, 2);
        while !temporary(&path).exists() {
            std::thread::yield_now();
        }
        drop(compressor);
        let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["log.1"]);
        fs::remove_dir_all(dir).unwrap();
    }
}
