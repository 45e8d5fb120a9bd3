//! What a tree takes on the disk, as du(1) counts: blocks, hard links once, one filesystem.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::dirs::open_beneath;
use super::error::{Result, corrupt, system};

/// Levels whose fds are kept. A container can nest without limit: the others are opened again on the way back.
const KEPT: usize = 64;

pub fn tree_size(path: &Path) -> Result<u64> {
    let shown = path.as_os_str().as_bytes();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, path, flags, Mode::empty()).map_err(system("open", shown))?;
    let stat = fstat(&root).map_err(system("stat", shown))?;
    let mut count = Count { shown, device: stat.st_dev, linked: HashSet::new(), bytes: used(&stat) };
    count.walk(root, stat.st_ino)?;
    Ok(count.bytes)
}

fn used(stat: &Stat) -> u64 {
    stat.st_blocks.cast_unsigned() * 512
}

/// A directory on the way down, with those below it that are still to be counted.
struct Level {
    dir: Option<OwnedFd>,
    inode: u64,
    below: Vec<Vec<u8>>,
}

struct Count<'a> {
    shown: &'a [u8],
    device: u64,
    linked: HashSet<u64>,
    bytes: u64,
}

impl Count<'_> {
    fn walk(&mut self, root: OwnedFd, inode: u64) -> Result<()> {
        let below = self.entries(&root)?;
        let mut way = vec![Level { dir: Some(root), inode, below }];
        while let Some(level) = way.last_mut() {
            let Some(dir) = &level.dir else { return Err(corrupt("measure", self.shown, "its way back is lost")) };
            let Some(name) = level.below.pop() else {
                self.back(&mut way)?;
                continue;
            };
            let below = match open_beneath(dir, &name, OFlags::RDONLY | OFlags::DIRECTORY) {
                // Removed or replaced meanwhile by a running container, or a mount.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
                other => other.map_err(system("open a directory in", self.shown))?,
            };
            let inode = fstat(&below).map_err(system("stat a directory in", self.shown))?.st_ino;
            let names = self.entries(&below)?;
            way.push(Level { dir: Some(below), inode, below: names });
            if let Some(far) = way.len().checked_sub(KEPT + 1) {
                way[far].dir = None;
            }
        }
        Ok(())
    }

    /// Leaves the last directory; its parent is opened through it when its fd was not kept.
    fn back(&self, way: &mut Vec<Level>) -> Result<()> {
        let left = way.pop().and_then(|level| level.dir);
        let (Some(parent), Some(left)) = (way.last_mut(), left) else { return Ok(()) };
        if parent.dir.is_none() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = openat(&left, "..", flags, Mode::empty()).map_err(system("open a directory in", self.shown))?;
            let stat = fstat(&dir).map_err(system("stat a directory in", self.shown))?;
            // Moved away meanwhile: what is above it now may not be this tree.
            if (stat.st_dev, stat.st_ino) != (self.device, parent.inode) {
                return Err(corrupt("measure", self.shown, "its directories were moved while they were counted"));
            }
            parent.dir = Some(dir);
        }
        Ok(())
    }

    /// Counts what is in a directory; returns the names of its directories.
    fn entries(&mut self, dir: &OwnedFd) -> Result<Vec<Vec<u8>>> {
        let mut below = Vec::new();
        for entry in Dir::read_from(dir).map_err(system("read a directory in", self.shown))? {
            let entry = entry.map_err(system("read a directory in", self.shown))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other.map_err(system("stat a file in", self.shown))?,
            };
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if stat.st_dev != self.device || (!is_dir && stat.st_nlink > 1 && !self.linked.insert(stat.st_ino)) {
                continue;
            }
            self.bytes += used(&stat);
            if is_dir {
                below.push(name.to_vec());
            }
        }
        Ok(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::testing::{Scratch, nest};
    use std::fs;
    use std::process::Command;

    #[test]
    fn it_is_what_du_counts() {
        let scratch = Scratch::new("size");
        let root = scratch.path("tree");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(root.join("a/file"), root.join("a/b/again")).unwrap();
        fs::File::create(root.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        std::os::unix::fs::symlink("/usr", root.join("link")).unwrap();
        let du = Command::new("du").args(["-s", "-B1"]).arg(&root).output().unwrap();
        let expected: u64 = String::from_utf8(du.stdout).unwrap().split('\t').next().unwrap().parse().unwrap();
        assert_eq!(tree_size(&root).unwrap(), expected);
    }

    #[test]
    fn depth_hides_nothing() {
        let scratch = Scratch::new("size");
        let root = scratch.path("tree");
        fs::create_dir(&root).unwrap();
        let empty = tree_size(&root).unwrap();
        let deepest = nest(&root, 3000);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let file = openat(&deepest, "file", flags, Mode::RUSR).unwrap();
        rustix::io::write(&file, &[1; 100_000]).unwrap();
        rustix::fs::fsync(&file).unwrap();
        assert!(tree_size(&root).unwrap() >= empty + 3000 * 4096 + 100_000);
    }
}
