//! Paths of /proc and /sys that a container must not read or write.

use super::{attach, make_filesystem, options::MountOptions, target::open_in_root};
use crate::failure::{Context, Failure, Result};
use crate::sys::mount::{MountAttr, NODEV, NOEXEC, NOSUID, RDONLY, clone_tree, mount_setattr};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Files are covered by the host's own null device, whose identity is checked (a container's /dev/null may be anything:
/// CVE-2025-31133); directories all by one empty read-only tmpfs.
pub fn mask(root: BorrowedFd, paths: &[String]) -> Result<()> {
    let mut null: Option<OwnedFd> = None;
    let mut empty: Option<OwnedFd> = None;
    for (at, path) in paths.iter().enumerate() {
        let Some(target) = existing(root, path)?.filter(|_| !paths[..at].contains(path)) else { continue };
        let is_directory =
            FileType::from_raw_mode(fstat(&target).context("stat", path)?.st_mode) == FileType::Directory;
        if !is_directory {
            let null = match &null {
                Some(fd) => fd,
                None => null.insert(host_null()?),
            };
            let cover = clone_tree(Some(null.as_fd()), c"", false).context("open_tree", "/dev/null")?;
            attach(cover.as_fd(), target.as_fd()).context("mask", path)?;
        } else if let Some(first) = &empty {
            let cover = clone_tree(Some(first.as_fd()), c"", false).context("open_tree", "mask")?;
            attach(cover.as_fd(), target.as_fd()).context("mask", path)?;
        } else {
            let options = MountOptions {
                attr: MountAttr { set: RDONLY | NOSUID | NODEV | NOEXEC, ..MountAttr::default() },
                data: vec![("nr_blocks".into(), Some("1".into())), ("nr_inodes".into(), Some("1".into()))],
                ..MountOptions::default()
            };
            let cover = make_filesystem("tmpfs", "tmpfs", &options)?;
            attach(cover.as_fd(), target.as_fd()).context("mask", path)?;
            empty = Some(cover);
        }
    }
    Ok(())
}

pub fn read_only(root: BorrowedFd, paths: &[String]) -> Result<()> {
    for path in paths {
        let Some(target) = existing(root, path)? else { continue };
        let copy = clone_tree(Some(target.as_fd()), c"", true).context("open_tree", path)?;
        mount_setattr(copy.as_fd(), true, &MountAttr { set: RDONLY, ..MountAttr::default() })
            .context("make read-only", path)?;
        attach(copy.as_fd(), target.as_fd()).context("make read-only", path)?;
    }
    Ok(())
}

fn existing(root: BorrowedFd, path: &str) -> Result<Option<OwnedFd>> {
    match open_in_root(root, path) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(Failure::io("open", path, error)),
    }
}

fn host_null() -> Result<OwnedFd> {
    let fd = openat(CWD, "/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .context("open", "/dev/null")?;
    let stat = fstat(&fd).context("stat", "/dev/null")?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && rustix::fs::major(stat.st_rdev) == 1
        && rustix::fs::minor(stat.st_rdev) == 3;
    if is_null { Ok(fd) } else { Err(Failure::invalid("mask", "the host's /dev/null is not the null device")) }
}
