//! Finding and making mount points inside a root that may be hostile: every path is resolved once, by the kernel, with the
//! root as the ceiling, and what comes back is a descriptor. No path inside a root is ever given to the kernel twice.

use crate::failure::{Context, Failure, Result};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    Directory,
    File,
}

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// An O_PATH descriptor of `path` in `root`; symlinks are followed, but not out of it.
pub fn open_in_root(root: BorrowedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    openat2(root, relative(path), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), IN_ROOT)
}

/// As open_in_root, but a symlink anywhere in the path is an error: for procfs and sysfs, whose masks must lie where they
/// are looked for (CVE-2019-19921, CVE-2023-28642).
pub fn open_ordinary(root: BorrowedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    openat2(
        root,
        relative(path),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        IN_ROOT | ResolveFlags::NO_SYMLINKS,
    )
}

/// The mount point `path`, made if it is missing, with its parents.
pub fn make_target(root: BorrowedFd, path: &str, want: Want) -> Result<OwnedFd> {
    match open_in_root(root, path) {
        Ok(fd) => return Ok(fd),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(Failure::io("open mount point", path, error)),
    }
    make_missing(root, path, want)
}

/// The kernel follows links in the root; those that lead to nothing are followed here, as what they name is to be made.
/// Each step is by the descriptor of a directory in the root, so that nobody who changes links meanwhile leads out of it.
fn make_missing(root: BorrowedFd, path: &str, want: Want) -> Result<OwnedFd> {
    let context = |error: Errno| Failure::io("create mount point", path, error);
    let mut above = vec![open_in_root(root, ".").map_err(context)?];
    let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut links = 0;
    while let Some(name) = rest.pop() {
        let here = above.last().map_or(root, AsFd::as_fd);
        match name.as_str() {
            "" | "." => continue,
            ".." => {
                if above.len() > 1 {
                    above.pop();
                }
                continue;
            }
            _ => {}
        }
        let is_last = rest.iter().all(|part| part.is_empty() || part == ".");
        let next = match openat(here, &*name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) if is_last && want == Want::File => {
                // O_EXCL: whoever races us here gets nothing written through
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(here, &*name, flags, Mode::from_raw_mode(0o644)).map_err(context)?;
                openat(here, &*name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                    .map_err(context)?
            }
            Err(Errno::NOENT) => make_directory(here, &name).map_err(context)?,
            Err(error) => return Err(context(error)),
        };
        if FileType::from_raw_mode(fstat(&next).map_err(context)?.st_mode) == FileType::Symlink {
            links += 1;
            if links > MAX_LINKS {
                return Err(context(Errno::LOOP));
            }
            let target =
                readlinkat(&next, "", Vec::new()).map_err(context)?.into_string().map_err(|_| context(Errno::ILSEQ))?;
            if target.starts_with('/') {
                above.truncate(1);
            }
            rest.extend(target.split('/').rev().map(str::to_owned));
            continue;
        }
        above.push(next);
    }
    above.pop().ok_or_else(|| context(Errno::NOENT))
}

/// As the kernel's own limit.
const MAX_LINKS: usize = 40;

/// The directory that holds `path` (made if missing) and the last component's name.
pub fn make_parent(root: BorrowedFd, path: &str) -> Result<(OwnedFd, String)> {
    let mut components: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if components.contains(&"..") {
        return Err(Failure::invalid("mount point", format!("{path}: a mount point must not contain ..")));
    }
    let Some(name) = components.pop() else {
        return Err(Failure::invalid("mount point", format!("{path:?}: the root itself cannot be a mount point")));
    };
    let mut done = String::from(".");
    let mut directory = open_in_root(root, ".").context("open", "root")?;
    for component in components {
        done.push('/');
        done.push_str(component);
        directory = match open_in_root(root, &done) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => make_directory(directory.as_fd(), component).context("mkdir", &done)?,
            Err(error) => return Err(Failure::io("open", &done, error)),
        };
    }
    Ok((directory, name.to_owned()))
}

fn make_directory(parent: BorrowedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    openat(parent, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn relative(path: &str) -> &str {
    let path = path.trim_start_matches('/');
    if path.is_empty() { "." } else { path }
}
