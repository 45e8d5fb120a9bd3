//! Directories that tests work in, and archives made byte by byte.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;

use rustix::fs::{CWD, Mode, OFlags, lgetxattr, llistxattr, mkdirat, openat};

use super::digest::Hasher;
use super::error::Result;
use super::pipeline::{AppliedLayer, Layer, LayerOptions};
use super::remove::remove_tree;
use super::tar::BLOCK;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory of one test, removed when dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("caisson-layer-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_tree(&self.0);
    }
}

/// One line for each thing in a tree: path, kind and mode, owner, size or target or device, links, mtime, attributes,
/// content. Two trees that give the same lines are the same to a container.
pub(super) fn tree(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    describe(root, "", &mut lines);
    lines.sort();
    lines
}

fn describe(root: &Path, below: &str, lines: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let name = entry.unwrap().file_name();
        let path = format!("{below}{}", name.to_str().unwrap());
        let full = root.join(&path);
        let data = full.symlink_metadata().unwrap();
        let what = if data.is_symlink() {
            fs::read_link(&full).unwrap().display().to_string()
        } else if data.is_file() {
            let mut hasher = Hasher::new();
            hasher.update(&fs::read(&full).unwrap());
            format!("{} {} links {}", data.len(), hasher.finish(), data.nlink())
        } else {
            format!("device {}", data.rdev())
        };
        let mut names = vec![0; 65_536];
        let count = llistxattr(&full, &mut names[..]).unwrap();
        let mut xattrs = Vec::new();
        for name in names[..count].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0; 65_536];
            let count = lgetxattr(&full, name, &mut value[..]).unwrap();
            xattrs.push(format!("{}={:?}", String::from_utf8_lossy(name), &value[..count]));
        }
        xattrs.sort();
        let (mode, owner) = (data.mode(), (data.uid(), data.gid()));
        let time = (data.mtime(), data.mtime_nsec());
        lines.push(format!("{path} {mode:o} {owner:?} {what} {time:?} {xattrs:?}"));
        if data.is_dir() {
            describe(root, &format!("{path}/"), lines);
        }
    }
}

/// One header and its data, as wrong as a test wants it.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) name: Vec<u8>,
    pub(super) typeflag: u8,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: Vec<u8>,
    pub(super) mtime: Vec<u8>,
    /// What the header says; the length of the data when absent.
    pub(super) size: Option<Vec<u8>>,
    pub(super) device: (u32, u32),
    pub(super) gnu: bool,
    pub(super) data: Vec<u8>,
}

impl Raw {
    pub(super) fn new(typeflag: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            typeflag,
            link: Vec::new(),
            mode: 0o644,
            uid: b"0".to_vec(),
            mtime: b"14524770400".to_vec(),
            size: None,
            device: (0, 0),
            gnu: false,
            data: Vec::new(),
        }
    }

    pub(super) fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        Self { data: data.as_ref().to_vec(), ..Self::new(b'0', name) }
    }

    pub(super) fn dir(name: impl AsRef<[u8]>) -> Self {
        Self { mode: 0o755, ..Self::new(b'5', name) }
    }

    pub(super) fn link(typeflag: u8, name: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Self {
        Self { link: link.as_ref().to_vec(), ..Self::new(typeflag, name) }
    }

    pub(super) fn pax(records: &[(&str, &[u8])]) -> Self {
        Self { data: records.iter().flat_map(|(key, value)| record(key, value)).collect(), ..Self::new(b'x', "pax") }
    }

    pub(super) fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |offset: usize, bytes: &[u8]| block[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, &self.uid);
        put(116, b"0000000");
        put(124, &self.size.clone().unwrap_or_else(|| format!("{:011o}", self.data.len()).into_bytes()));
        put(136, &self.mtime);
        put(156, &[self.typeflag]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, if self.gnu { b"ustar  \0" } else { b"ustar\x0000" });
        put(329, format!("{:07o}", self.device.0).as_bytes());
        put(337, format!("{:07o}", self.device.1).as_bytes());
        seal(&mut block);
        block
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.block());
        out.extend_from_slice(&self.data);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
}

/// Writes the checksum.
pub(super) fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// `length key=value\n`, where the length counts itself.
pub(super) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

pub(super) fn archive(entries: &[Raw]) -> Vec<u8> {
    let mut out = Vec::new();
    entries.iter().for_each(|entry| entry.write(&mut out));
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

/// Applies bytes to `target`, as a client of the module does.
pub(super) fn apply(bytes: &[u8], target: &Path) -> Result<AppliedLayer> {
    apply_with(bytes, LayerOptions { target_dir: target.into(), ..LayerOptions::default() })
}

pub(super) fn apply_with(bytes: &[u8], options: LayerOptions) -> Result<AppliedLayer> {
    let layer = Layer::open(options);
    for chunk in bytes.chunks(64 * 1024) {
        let (room, wait) = channel();
        layer.write(chunk.to_vec(), Box::new(move |result| room.send(result).unwrap()));
        if wait.recv().unwrap().is_err() {
            break;
        }
    }
    finish(&layer)
}

pub(super) fn finish(layer: &Layer) -> Result<AppliedLayer> {
    let (done, wait) = channel();
    layer.end(Box::new(move |result| done.send(result).unwrap()));
    wait.recv().unwrap()
}

pub(super) fn digest(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finish()
}

/// Bytes that do not compress, the same for the same seed (xorshift64).
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(&mut next).take(len).collect()
}

/// Directories in each other, far deeper than one path can name. Returns the last one.
pub(super) fn nest(root: &Path, levels: usize) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    (0..levels).fold(openat(CWD, root, flags, Mode::empty()).unwrap(), |dir, _| {
        mkdirat(&dir, "d", Mode::RWXU).unwrap();
        openat(&dir, "d", flags, Mode::empty()).unwrap()
    })
}
