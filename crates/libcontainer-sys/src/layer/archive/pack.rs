//! Out of a container: a file or a tree as an archive.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use serde::Deserialize;

use super::super::dirs::MAX_DEPTH;
use super::super::member::{BUFFER, Links, entry, names, promised, special};
use super::super::tar::{Entry, Kind as Type, Writer};
use super::super::xattr;
use super::path::{Found, find, is_kernels};
use super::stat::stat_of;
use super::view::{self, ViewOptions};
use crate::failure::{Context, Failure, Result};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ReadOptions {
    /// What the path is called in the archive, by default its own last name. Of a directory that is called nothing the archive
    /// has what is in it.
    pub name: Option<String>,
    /// What is left out with all that is below it, by its name in the archive.
    pub except: HashSet<String>,
}

struct Packer<'a> {
    except: &'a HashSet<String>,
    archive: Writer<BufWriter<File>>,
    links: Links,
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
pub fn read(options: &ViewOptions, path: &str, how: &ReadOptions, output: OwnedFd) -> Result<()> {
    let root = view::open(options)?;
    let found = find(root.as_fd(), path)?;
    let stat = stat_of(&found, path)?;
    let output = BufWriter::with_capacity(BUFFER, File::from(output));
    let (archive, links) = (Writer::new(output), Links::default());
    let mut packer = Packer { except: &how.except, archive, links, buffer: vec![0; BUFFER] };
    let name = how.name.as_ref().map_or_else(|| name_in_archive(path), |name| name.as_bytes().to_vec());
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

/// The last name of the path as the user gave it, as Docker calls the archive's first entry; the root is called `/`, and
/// with it begin the names in it.
fn name_in_archive(path: &str) -> Vec<u8> {
    let mut names = Vec::new();
    for name in path.trim_end_matches('/').split('/') {
        match name {
            "" => {}
            ".." => drop(names.pop()),
            other => names.push(other),
        }
    }
    names.last().copied().unwrap_or("/").into()
}

/// Whatever it is, without opening it for reading.
fn open_name(parent: &OwnedFd, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    openat(parent, name, flags | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// The same object for reading: by its descriptor, so that it cannot be another.
fn reopen(fd: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    openat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

impl Packer<'_> {
    fn tree(&mut self, dir: OwnedFd, stat: &Stat, name: Vec<u8>) -> Result<()> {
        let mut way = vec![self.enter(dir, stat.st_dev, true, name)?];
        while let Some(level) = way.last_mut() {
            let Some(name) = level.below.pop() else {
                way.pop();
                continue;
            };
            let path = [level.prefix.as_slice(), &name].concat();
            if !self.except.is_empty() && self.except.contains(&*String::from_utf8_lossy(&path)) {
                continue;
            }
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
        let prefix = match path.as_slice() {
            b"" | b"/" => path.clone(),
            _ => [path.as_slice(), b"/"].concat(),
        };
        if !prefix.is_empty() {
            let xattrs = xattr::of_fd(&dir, &prefix)?;
            self.entry(&entry(prefix.clone(), Type::Directory, &stat, xattrs))?;
        }
        let closed = mounted && is_kernels(&dir);
        let below = if closed { Vec::new() } else { names(&dir).context("read", shown(&path))? };
        Ok(Level { dir, device, prefix, below })
    }

    /// Anything but a directory.
    fn file(&mut self, parent: &OwnedFd, name: &[u8], stat: &Stat, path: Vec<u8>) -> Result<()> {
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            return self.regular(parent, name, path);
        }
        let Some(kind) = special(parent, name, stat).context("readlink", shown(&path))? else { return Ok(()) };
        let kind = self.links.other_name(stat, &path).map_or(kind, Type::Hardlink);
        self.entry(&entry(path, kind, stat, Vec::new()))
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
        if let Some(first) = self.links.other_name(&stat, &path) {
            return self.entry(&entry(path, Type::Hardlink(first), &stat, Vec::new()));
        }
        let file = reopen(&found, OFlags::empty()).context("open", shown(&path))?;
        let xattrs = xattr::of_fd(&file, &path)?;
        self.entry(&entry(path.clone(), Type::Regular, &stat, xattrs))?;
        while self.archive.left() > 0 {
            let count = promised(&file, &mut self.buffer, self.archive.left()).context("read", shown(&path))?;
            self.archive.data(&self.buffer[..count]).context("write archive at", shown(&path))?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.archive.entry(entry).context("write archive at", shown(&entry.path))
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
