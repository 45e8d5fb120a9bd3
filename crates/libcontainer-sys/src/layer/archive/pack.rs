//! Out of a container: a file or a tree as an archive.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, major, minor, openat, readlinkat, statat};
use rustix::io::Errno;

use super::super::dirs::MAX_DEPTH;
use super::super::tar::{Entry, Kind as Type, Time, Writer};
use super::super::xattr;
use super::path::{Found, find, is_kernels};
use super::stat::stat_of;
use super::view::{self, ViewOptions};
use crate::failure::{Context, Failure, Result};

const BUFFER: usize = 256 * 1024;

struct Packer {
    archive: Writer<BufWriter<File>>,
    /// Files with several names by device and inode: the name that stands in the archive.
    linked: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

/// A directory on the way down, with the names in it that are still to come.
struct Level {
    dir: OwnedFd,
    device: u64,
    /// Of its entries in the archive, with the slash.
    prefix: Vec<u8>,
    below: Vec<Vec<u8>>,
}

/// Writes the archive of `path` to `output`. Call it on a thread that ends with it (see `view::open`).
pub fn read(options: &ViewOptions, path: &str, output: OwnedFd) -> Result<()> {
    let root = view::open(options)?;
    let found = find(root.as_fd(), path)?;
    let stat = stat_of(&found, path)?;
    let output = BufWriter::with_capacity(BUFFER, File::from(output));
    let mut packer = Packer { archive: Writer::new(output), linked: HashMap::new(), buffer: vec![0; BUFFER] };
    let name = name_in_archive(path);
    match found {
        Found::Directory(dir) => packer.tree(dir, &stat, name)?,
        Found::Name { parent, name: own } if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            let dir = open_name(&parent, &own, OFlags::DIRECTORY).context("open", path)?;
            packer.tree(dir, &stat, name)?;
        }
        Found::Name { parent, name: own } => packer.file(&parent, &own, &stat, name)?,
    }
    packer.archive.finish().and_then(|mut output| output.flush()).context("write archive of", path)
}

/// The last name of the path as the user gave it, as Docker calls the archive's first entry.
fn name_in_archive(path: &str) -> Vec<u8> {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or("");
    if name == ".." { Vec::new() } else { name.into() }
}

/// Whatever it is, without opening it for reading.
fn open_name(parent: &OwnedFd, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    openat(parent, name, flags | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// The same object for reading: by its descriptor, so that it cannot be another.
fn reopen(fd: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    openat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

impl Packer {
    fn tree(&mut self, dir: OwnedFd, stat: &Stat, name: Vec<u8>) -> Result<()> {
        let mut way = vec![self.enter(dir, stat.st_dev, true, name)?];
        while let Some(level) = way.last_mut() {
            let Some(name) = level.below.pop() else {
                way.pop();
                continue;
            };
            let path = [level.prefix.as_slice(), &name].concat();
            let stat = match statat(&level.dir, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                // removed meanwhile by the container
                Err(Errno::NOENT) => continue,
                other => other.context("stat", shown(&path))?,
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                self.file(&level.dir, &name, &stat, path)?;
                continue;
            }
            let dir = match open_name(&level.dir, &name, OFlags::DIRECTORY) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                other => other.context("open", shown(&path))?,
            };
            if way.len() == MAX_DEPTH {
                return Err(Failure::invalid(
                    "archive",
                    format!("{}: deeper than {MAX_DEPTH} directories", shown(&path)),
                ));
            }
            let mounted = way.last().is_some_and(|level| level.device != stat.st_dev);
            way.push(self.enter(dir, stat.st_dev, mounted, path)?);
        }
        Ok(())
    }

    /// Writes a directory's own entry and lists what is in it; `mounted`: it may be of another filesystem than the one above.
    fn enter(&mut self, dir: OwnedFd, device: u64, mounted: bool, path: Vec<u8>) -> Result<Level> {
        let dir = reopen(&dir, OFlags::DIRECTORY).context("open", shown(&path))?;
        let stat = fstat(&dir).context("stat", shown(&path))?;
        let prefix = [path.as_slice(), b"/"].concat();
        let xattrs = xattr::of_fd(&dir, &prefix)?;
        self.entry(&Entry { xattrs, ..entry(prefix.clone(), Type::Directory, &stat) })?;
        let mut below = Vec::new();
        if !(mounted && is_kernels(&dir)) {
            for item in Dir::read_from(&dir).context("read", shown(&path))? {
                let name = item.context("read", shown(&path))?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    below.push(name);
                }
            }
        }
        // taken from the end; the same tree gives the same archive
        below.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Level { dir, device, prefix, below })
    }

    /// Anything but a directory.
    fn file(&mut self, parent: &OwnedFd, name: &[u8], stat: &Stat, path: Vec<u8>) -> Result<()> {
        let device = (major(stat.st_rdev), minor(stat.st_rdev));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.regular(parent, name, path),
            FileType::Symlink => match readlinkat(parent, name, Vec::new()) {
                Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                other => Type::Symlink(other.context("readlink", shown(&path))?.into_bytes()),
            },
            FileType::CharacterDevice => Type::Char { major: device.0, minor: device.1 },
            FileType::BlockDevice => Type::Block { major: device.0, minor: device.1 },
            FileType::Fifo => Type::Fifo,
            // an archive has no sockets, and one without its listener is of no use
            _ => return Ok(()),
        };
        if let Some(first) = self.other_name(stat, &path) {
            return self.entry(&entry(path, Type::Hardlink(first), stat));
        }
        self.entry(&entry(path, kind, stat))
    }

    fn regular(&mut self, parent: &OwnedFd, name: &[u8], path: Vec<u8>) -> Result<()> {
        let found = match open_name(parent, name, OFlags::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.context("open", shown(&path))?,
        };
        let stat = fstat(&found).context("stat", shown(&path))?;
        // replaced meanwhile: a device or FIFO is not opened
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        if let Some(first) = self.other_name(&stat, &path) {
            return self.entry(&entry(path, Type::Hardlink(first), &stat));
        }
        let file = reopen(&found, OFlags::empty()).context("open", shown(&path))?;
        let xattrs = xattr::of_fd(&file, &path)?;
        let entry = Entry { xattrs, size: stat.st_size.cast_unsigned(), ..entry(path, Type::Regular, &stat) };
        self.entry(&entry)?;
        self.data(File::from(file), &entry)
    }

    /// As many bytes as the header says, whatever the container does to the file meanwhile.
    fn data(&mut self, mut file: File, entry: &Entry) -> Result<()> {
        let mut left = entry.size;
        while left > 0 {
            let wanted = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            let count = file.read(&mut self.buffer[..wanted]).context("read", shown(&entry.path))?;
            if count == 0 {
                self.buffer[..wanted].fill(0);
            }
            let count = if count == 0 { wanted } else { count };
            self.archive.data(&self.buffer[..count]).context("write archive at", shown(&entry.path))?;
            left -= count as u64;
        }
        Ok(())
    }

    /// The name under which a file with several stands in the archive already.
    fn other_name(&mut self, stat: &Stat, path: &[u8]) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        let first = self.linked.get(&(stat.st_dev, stat.st_ino)).cloned();
        if first.is_none() {
            self.linked.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        first
    }

    fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.archive.entry(entry).context("write archive at", shown(&entry.path))
    }
}

fn entry(path: Vec<u8>, kind: Type, stat: &Stat) -> Entry {
    Entry {
        path,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        // Docker's archives have whole seconds
        mtime: Time { seconds: stat.st_mtime, nanoseconds: 0 },
        size: 0,
        xattrs: Vec::new(),
        sparse: None,
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
