//! What a file is as a member of an archive: shared by a container's layer and export (`pack`) and by `cp` (`archive`).

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType, Stat, major, minor, readlinkat};
use rustix::io::{Errno, Result};

use super::tar::{Entry, Kind, Time};

/// Bytes that are read and written at once.
pub(super) const BUFFER: usize = 256 * 1024;

/// Times in whole seconds, as image builders write them: a PAX header for each file would double small layers.
pub(super) fn entry(path: Vec<u8>, kind: Kind, stat: &Stat, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Entry {
    Entry {
        path,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time { seconds: stat.st_mtime, nanoseconds: 0 },
        size: stat.st_size.cast_unsigned(),
        xattrs,
        sparse: None,
    }
}

/// What is neither a file nor a directory; `None` when it is no link any more, or a socket: an archive has none, and one
/// without its listener is of no use.
pub(super) fn special(dir: &OwnedFd, name: &[u8], stat: &Stat) -> Result<Option<Kind>> {
    let device = (major(stat.st_rdev), minor(stat.st_rdev));
    Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => match readlinkat(dir, name, Vec::new()) {
            Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
            target => Kind::Symlink(target?.into_bytes()),
        },
        FileType::CharacterDevice => Kind::Char { major: device.0, minor: device.1 },
        FileType::BlockDevice => Kind::Block { major: device.0, minor: device.1 },
        FileType::Fifo => Kind::Fifo,
        _ => return Ok(None),
    }))
}

/// In reverse order, to be popped: the same tree always gives the same archive.
pub(super) fn names(dir: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for item in Dir::read_from(dir)? {
        let name = item?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// The next bytes of a file of whose length `left` are still promised by its header: zeros where a container has cut it off
/// meanwhile.
pub(super) fn promised(file: &OwnedFd, buffer: &mut [u8], left: u64) -> Result<usize> {
    let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
    match rustix::io::read(file, &mut buffer[..wanted])? {
        0 => {
            buffer[..wanted].fill(0);
            Ok(wanted)
        }
        count => Ok(count),
    }
}

/// Files with several names, by device and inode: the name that stands in the archive already.
#[derive(Default)]
pub(super) struct Links(HashMap<(u64, u64), Vec<u8>>);

impl Links {
    pub(super) fn other_name(&mut self, stat: &Stat, path: &[u8]) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        let first = self.0.get(&(stat.st_dev, stat.st_ino)).cloned();
        if first.is_none() {
            self.0.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        first
    }
}
