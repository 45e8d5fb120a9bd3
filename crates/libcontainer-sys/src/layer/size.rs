//! What a tree takes on the disk, as du(1) counts: blocks, hard links once, one filesystem.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::dirs::open_beneath;
use super::error::{Result, system};

/// Levels that are counted. A container can nest deeper; what it hides there is a few blocks a directory.
const MAX_LEVELS: usize = 1024;

pub fn tree_size(path: &Path) -> Result<u64> {
    let bytes = path.as_os_str().as_bytes();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, path, flags, Mode::empty()).map_err(system("open", bytes))?;
    let stat = fstat(&root).map_err(system("stat", bytes))?;
    let mut count = Count { device: stat.st_dev, linked: HashSet::new(), bytes: used(&stat) };
    count.below(root, 0, bytes)?;
    Ok(count.bytes)
}

fn used(stat: &Stat) -> u64 {
    stat.st_blocks.cast_unsigned() * 512
}

struct Count {
    device: u64,
    linked: HashSet<u64>,
    bytes: u64,
}

impl Count {
    fn below(&mut self, dir: OwnedFd, level: usize, path: &[u8]) -> Result<()> {
        let entries = Dir::read_from(&dir).map_err(system("read", path))?;
        for entry in entries {
            let entry = entry.map_err(system("read", path))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let below = || [path, b"/", name].concat();
            let stat = match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                // A running container removes files.
                Err(Errno::NOENT) => continue,
                other => other.map_err(system("stat", &below()))?,
            };
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if stat.st_dev != self.device || (!is_dir && stat.st_nlink > 1 && !self.linked.insert(stat.st_ino)) {
                continue;
            }
            self.bytes += used(&stat);
            if is_dir && level < MAX_LEVELS {
                match open_beneath(&dir, name, OFlags::RDONLY | OFlags::DIRECTORY) {
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
                    other => self.below(other.map_err(system("open", &below()))?, level + 1, &below())?,
                }
            }
        }
        Ok(())
    }
}
