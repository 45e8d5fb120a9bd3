//! `tmpcopyup`: a tmpfs that begins with what lies below it.

use crate::failure::{Failure, Result};
use crate::spec::Mount;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps, chmodat, chownat, fchmod, fchown, fgetxattr,
    flistxattr, fsetxattr, futimens, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directory below, before it is covered.
pub fn open(target: &OwnedFd, mount: &Mount) -> Result<OwnedFd> {
    if mount.kind != "tmpfs" {
        let message = format!("{}: tmpcopyup is for tmpfs, not for {:?}", mount.destination, mount.kind);
        return Err(Failure::invalid("mount", message));
    }
    openat(target, ".", DIRECTORY, Mode::empty()).map_err(|error| Failure::io("open", &mount.destination, error))
}

/// By descriptors all the way: no link in the image leads anywhere.
pub fn copy(from: BorrowedFd, to: BorrowedFd) -> rustix::io::Result<()> {
    // a detached mount's descriptor is a path: opened again to be written through
    let to = openat(to, ".", DIRECTORY, Mode::empty())?;
    copy_directory(from, to.as_fd())
}

fn copy_directory(from: BorrowedFd, to: BorrowedFd) -> rustix::io::Result<()> {
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name)?;
        }
    }
    let stat = rustix::fs::fstat(from)?;
    copy_attributes(from, to, &stat)
}

fn copy_entry(from: BorrowedFd, to: BorrowedFd, name: &CStr) -> rustix::io::Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::Directory => {
            let source = openat(from, name, DIRECTORY, Mode::empty())?;
            mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let copy = openat(to, name, DIRECTORY, Mode::empty())?;
            copy_directory(source.as_fd(), copy.as_fd())
        }
        FileType::RegularFile => {
            let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let source = openat(from, name, flags | OFlags::RDONLY, Mode::empty())?;
            let create = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let copy = openat(to, name, create, Mode::from_raw_mode(0o600))?;
            let (mut source, mut copy) = (File::from(source), File::from(copy));
            std::io::copy(&mut source, &mut copy)
                .map_err(|error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
            copy_attributes(source.as_fd(), copy.as_fd(), &stat)
        }
        FileType::Symlink => {
            let target = readlinkat(from, name, Vec::new())?;
            symlinkat(target.as_c_str(), to, name)?;
            set_owner_and_times(to, name, &stat)
        }
        kind => {
            mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode), stat.st_rdev)?;
            set_owner_and_times(to, name, &stat)?;
            chmodat(to, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())
        }
    }
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// The owner before the mode: chown takes set-user-id away. The times last.
fn copy_attributes(from: BorrowedFd, to: BorrowedFd, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = owner(stat);
    fchown(to, uid, gid)?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let mut names = vec![0u8; 64 << 10];
    let length = flistxattr(from, &mut *names).unwrap_or(0);
    let mut value = vec![0u8; 64 << 10];
    for name in
        names[..length].split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok())
    {
        let length = fgetxattr(from, name, &mut *value)?;
        match fsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty()) {
            // what tmpfs does not keep
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    futimens(to, &times(stat))
}

fn set_owner_and_times(dir: BorrowedFd, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = owner(stat);
    chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    utimensat(dir, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}
