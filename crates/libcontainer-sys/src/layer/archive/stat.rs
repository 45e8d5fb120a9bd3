//! What HEAD tells of a path.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Stat, fstat, readlinkat, statat};
use serde::Serialize;

use super::path::{Found, find, is_kernels, resolved, told};
use super::view::{self, ViewOptions};
use crate::failure::{Context, Failure, Kind, Result};

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathStat {
    pub size: i64,
    /// `st_mode`.
    pub mode: u32,
    pub mtime_seconds: i64,
    pub mtime_nanoseconds: i64,
    /// Where a symlink leads in the container; empty for anything else.
    pub link_target: String,
}

/// Call it on a thread that ends with it (see `view::open`).
pub fn stat(options: &ViewOptions, path: &str) -> Result<PathStat> {
    let root = view::open(options)?;
    let found = find(root.as_fd(), path)?;
    let stat = stat_of(&found, path)?;
    let mut link_target = String::new();
    if let Found::Name { parent, name } = &found
        && FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
    {
        // gone in between: then it leads nowhere
        if readlinkat(parent, name.as_slice(), Vec::new()).is_ok() {
            link_target = String::from_utf8_lossy(&resolved(root.as_fd(), path.as_bytes())).into_owned();
        }
    }
    Ok(PathStat {
        size: stat.st_size,
        mode: stat.st_mode,
        mtime_seconds: stat.st_mtime,
        mtime_nanoseconds: stat.st_mtime_nsec.cast_signed(),
        link_target,
    })
}

pub(super) fn stat_of(found: &Found, path: &str) -> Result<Stat> {
    match found {
        Found::Directory(dir) => fstat(dir).context("stat", path),
        Found::Name { parent, name } => {
            hidden(parent, path)?;
            statat(parent, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).map_err(told(path))
        }
    }
}

/// What lies in /proc or /sys is not there for `docker cp`, as in Docker's own view.
fn hidden(dir: &OwnedFd, path: &str) -> Result<()> {
    if !is_kernels(dir) {
        return Ok(());
    }
    Err(Failure::new(Kind::NotFound, "lstat", format!("{path}: it is the kernel's, not a file of the container")))
}
