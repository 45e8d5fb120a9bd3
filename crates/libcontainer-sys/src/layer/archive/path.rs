//! Paths as a user of `docker cp` gives them.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, openat2, readlinkat};
use rustix::io::Errno;

use crate::failure::{Failure, Kind, Result};

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
/// The kernel's own limit for one path.
const MAX_FOLLOWS: usize = 40;
/// A path with `..` is looked up anew when something was renamed at that moment.
const ATTEMPTS: usize = 64;

/// What the kernel shows of itself: not files of the container, and for a host process they say other things.
const KERNEL_FILESYSTEMS: [i64; 9] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
];

pub(super) fn is_kernels(fd: impl AsFd) -> bool {
    fstatfs(fd).is_ok_and(|stat| KERNEL_FILESYSTEMS.contains(&stat.f_type))
}

/// What was asked for: in its directory by name, or, when the path says that a directory is meant, the directory itself.
pub(super) enum Found {
    Name { parent: OwnedFd, name: Vec<u8> },
    Directory(OwnedFd),
}

pub(super) fn find(root: BorrowedFd, path: &str) -> Result<Found> {
    let trimmed = path.trim_end_matches('/');
    let name = trimmed.rsplit('/').next().unwrap_or("");
    if trimmed.len() < path.len() || matches!(name, "" | "." | "..") {
        return open_in(root, path.as_bytes(), OFlags::PATH | OFlags::DIRECTORY)
            .map(Found::Directory)
            .map_err(told(path));
    }
    let above = &trimmed[..trimmed.len() - name.len()];
    let parent = open_in(root, above.as_bytes(), OFlags::PATH | OFlags::DIRECTORY).map_err(told(path))?;
    Ok(Found::Name { parent, name: name.into() })
}

/// Follows symlinks, not out of the root.
pub(super) fn open_in(root: BorrowedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let start = path.iter().position(|&byte| byte != b'/').unwrap_or(path.len());
    let relative = if start == path.len() { b".".as_slice() } else { &path[start..] };
    for _ in 1..ATTEMPTS {
        match openat2(root, relative, flags | OFlags::CLOEXEC, Mode::empty(), IN_ROOT) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    openat2(root, relative, flags | OFlags::CLOEXEC, Mode::empty(), IN_ROOT)
}

/// Docker's words, and the kind that makes a 404.
pub(super) fn told(path: &str) -> impl Fn(Errno) -> Failure {
    move |errno| {
        let failure = Failure::io("lstat", path, errno);
        let kind = if errno == Errno::NOENT { Kind::NotFound } else { Kind::System };
        Failure { kind, ..failure }
    }
}

/// Where a path leads, as a path in the root: symlinks followed, missing names kept. For people and for clients that ask
/// for it next; nothing is opened by it here.
pub(super) fn resolved(root: BorrowedFd, path: &[u8]) -> Vec<u8> {
    let mut pending: VecDeque<Vec<u8>> = path.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect();
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut follows = 0;
    while let Some(name) = pending.pop_front() {
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                done.pop();
                continue;
            }
            _ => {}
        }
        let here = joined(&done);
        let link = open_in(root, &here, OFlags::PATH | OFlags::DIRECTORY)
            .and_then(|dir| readlinkat(dir, name.as_slice(), Vec::new()));
        match link {
            Ok(target) if follows < MAX_FOLLOWS => {
                follows += 1;
                let target = target.into_bytes();
                if target.starts_with(b"/") {
                    done.clear();
                }
                target.split(|&byte| byte == b'/').rev().for_each(|name| pending.push_front(name.to_vec()));
            }
            _ => done.push(name),
        }
    }
    joined(&done)
}

fn joined(names: &[Vec<u8>]) -> Vec<u8> {
    [b"/".as_slice(), &names.join(&b'/')].concat()
}
