//! The blob of a layer compressed anew, on all cores: blocks of the archive that know nothing of each other, one after the
//! other in one member of gzip. The same archive gives the same blob, however many threads there are.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, available_parallelism};

use flate2::{Compress, Compression, Crc, FlushCompress};

use super::digest::Hasher;
use super::error::Result;
use super::kept::{Encoding, KeptBlob, failed, made};

/// A push waits for it: speed counts for more than the last percents of size.
const LEVEL: u32 = 3;
/// Of the archive. What a block could have found in the one before is less than a percent.
const BLOCK: usize = 1 << 20;
/// Each has up to two blocks and what they became; faster than eight of them no disk gives the files.
const MAX_THREADS: usize = 8;
/// Neither name nor time, of no system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// An empty last block.
const END: [u8; 2] = [3, 0];

/// A file of what is written here, compressed.
pub(super) struct Compressor {
    path: PathBuf,
    out: Counted,
    block: Vec<u8>,
    crc: Crc,
    workers: Sender<(Vec<u8>, Sender<Compressed>)>,
    /// What the workers have, in the order of the archive.
    pending: VecDeque<Receiver<Compressed>>,
    limit: usize,
}

/// A block as raw deflate, whole bytes of it, with the check sum of what it was.
struct Compressed {
    bytes: Vec<u8>,
    crc: Crc,
}

/// A file that knows digest and length of what it was given.
struct Counted {
    file: File,
    hasher: Hasher,
    size_bytes: u64,
}

impl Counted {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }
}

impl Compressor {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let mut out = Counted { file: made(path)?, hasher: Hasher::new(), size_bytes: 0 };
        out.put(&HEAD).map_err(failed("write", path))?;
        let threads = available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let (workers, jobs) = channel::<(Vec<u8>, Sender<Compressed>)>();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..threads {
            let jobs = Arc::clone(&jobs);
            // They end with the compressor, whose sender is the only one.
            let work = move || {
                while let Ok((block, done)) = next(&jobs) {
                    // Nobody waits for it when the compressor has gone.
                    let _ = done.send(compressed(&block));
                }
            };
            thread::Builder::new()
                .name("layer-compress".into())
                .spawn(work)
                .map_err(failed("start a thread for", path))?;
        }
        Ok(Self {
            path: path.into(),
            out,
            block: Vec::with_capacity(BLOCK),
            crc: Crc::new(),
            workers,
            pending: VecDeque::new(),
            limit: 2 * threads,
        })
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (fits, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(fits);
            bytes = rest;
            if self.block.len() == BLOCK {
                self.hand_over()?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<KeptBlob> {
        self.hand_over()?;
        while !self.pending.is_empty() {
            self.take_next()?;
        }
        let Self { path, mut out, crc, .. } = self;
        let tail = [&END[..], &crc.sum().to_le_bytes(), &crc.amount().to_le_bytes()].concat();
        out.put(&tail).map_err(failed("write", &path))?;
        out.file.sync_all().map_err(failed("sync", &path))?;
        Ok(KeptBlob { digest: out.hasher.finish(), size_bytes: out.size_bytes, compression: Encoding::Gzip })
    }

    fn hand_over(&mut self) -> Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let (done, compressed) = channel();
        self.workers.send((block, done)).map_err(|_| failed("compress", &self.path)(gone()))?;
        self.pending.push_back(compressed);
        if self.pending.len() < self.limit { Ok(()) } else { self.take_next() }
    }

    fn take_next(&mut self) -> Result<()> {
        let Some(next) = self.pending.pop_front() else { return Ok(()) };
        let Compressed { bytes, crc } = next.recv().map_err(|_| failed("compress", &self.path)(gone()))?;
        self.crc.combine(&crc);
        self.out.put(&bytes).map_err(failed("write", &self.path))
    }
}

/// A worker that panicked.
fn gone() -> io::Error {
    io::Error::other("a thread has ended")
}

fn next<T>(jobs: &Mutex<Receiver<T>>) -> std::result::Result<T, std::sync::mpsc::RecvError> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv()
}

fn compressed(block: &[u8]) -> Compressed {
    let mut crc = Crc::new();
    crc.update(block);
    let bytes = if is_dense(block) { stored(block) } else { deflated(block) };
    Compressed { bytes, crc }
}

/// With a flush at its end, so that the next block begins at a byte.
fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut state = Compress::new(Compression::new(LEVEL), false);
    let mut out = Vec::with_capacity(bytes.len() / 2 + 1024);
    loop {
        let read = state.total_in() as usize;
        // Only a wrong use of it fails.
        let _ = state.compress_vec(&bytes[read..], &mut out, FlushCompress::Sync);
        if state.total_in() as usize == bytes.len() && out.len() < out.capacity() {
            return out;
        }
        out.reserve(bytes.len() / 4 + 1024);
    }
}

const SAMPLE: usize = 4096;
const SAMPLES: usize = 16;

/// Whether it is compressed already, as far as samples tell: to find that out of all of it takes longest where nothing is won.
fn is_dense(block: &[u8]) -> bool {
    if block.len() < 2 * SAMPLE * SAMPLES {
        return false;
    }
    let samples = block.chunks(block.len() / SAMPLES).map(|part| &part[..part.len().min(SAMPLE)]);
    let (before, after) =
        samples.fold((0, 0), |(before, after), sample| (before + sample.len(), after + deflated(sample).len()));
    after * 50 >= before * 49
}

fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 8192 + 8);
    for part in bytes.chunks(u16::MAX.into()) {
        let len = part.len() as u16;
        out.push(0);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::super::testing::{Scratch, digest, noise};
    use super::{BLOCK, Compressor};

    #[test]
    fn what_is_compressed_is_one_member_of_the_same_bytes() {
        let text = |len: usize| (0..len).map(|at| b"the quick brown fox "[at % 20]).collect::<Vec<u8>>();
        let cases: [(&str, Vec<u8>, f64); 7] = [
            ("nothing", Vec::new(), 0.0),
            ("a byte", vec![7], 0.0),
            ("a block of text", text(BLOCK), 0.02),
            ("text and a byte", text(BLOCK + 1), 0.02),
            ("dense blocks", noise(1, 5 * BLOCK + 77), 1.001),
            ("dense, then text", [noise(2, 3 * BLOCK), text(9 * BLOCK)].concat(), 0.28),
            ("half dense blocks", (0..8).flat_map(|n| [noise(n, BLOCK / 2), text(BLOCK / 2)].concat()).collect(), 0.52),
        ];
        for (what, bytes, ratio) in cases {
            let scratch = Scratch::new("compressor");
            let blobs = [1_000_000, 4096].map(|step| {
                let path = scratch.path(&step.to_string());
                let mut compressor = Compressor::create(&path).unwrap();
                bytes.chunks(step).for_each(|chunk| compressor.write(chunk).unwrap());
                (compressor.finish().unwrap(), std::fs::read(path).unwrap())
            });
            let [(kept, blob), (other, _)] = blobs;
            assert_eq!(kept, other, "{what}");
            assert_eq!((kept.digest, kept.size_bytes), (digest(&blob), blob.len() as u64), "{what}");
            assert!(
                blob.len() as f64 <= bytes.len() as f64 * ratio + 64.0,
                "{what}: {} of {}",
                blob.len(),
                bytes.len()
            );
            let mut decoder = GzDecoder::new(&blob[..]);
            let mut again = Vec::new();
            decoder.read_to_end(&mut again).unwrap();
            assert!(again == bytes && decoder.into_inner().is_empty(), "{what}");
        }
    }
}
