//! Into a container: the entries of an archive below one of its directories.
//!
//! The container may run and change everything meanwhile. So each entry's directory is resolved with the container's root
//! as the ceiling, what is made is made exclusively, and its owner, mode and attributes are set through a descriptor of
//! the thing itself, never through its name.

use std::io::BufRead;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, StatVfsMountFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chmod,
    chownat, fchmod, fstatvfs, ftruncate, futimens, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat,
    utimensat,
};
use rustix::io::Errno;
use serde::Deserialize;

use super::super::dirs::MAX_DEPTH;
use super::super::error::shown;
use super::super::remove::remove_at;
use super::super::tar::{Entry, Kind as Type, Reader, TarError, Time};
use super::super::xattr;
use super::inflate::inflated;
use super::mode::ModeChange;
use super::path::{is_kernels, open_in, told};
use super::view::{self, ViewOptions};
use crate::failure::{Context, Failure, Kind, Result};
use crate::init::user;
use crate::spec::UserSpec;

const MAX_PATH: usize = 4096;
/// How often something in the container may put a thing in our place.
const ATTEMPTS: usize = 16;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WriteOptions {
    /// A directory may not take the place of something else, nor something else that of a directory.
    pub keep_kinds: bool,
    /// Everything gets this owner instead of the archive's: `user[:group]`, looked up in the container.
    pub owner: Option<String>,
    /// What becomes of the modes that files and directories have in the archive.
    pub mode: Option<ModeChange>,
}

struct Unpacker {
    root: OwnedFd,
    /// The directory that the archive's paths are below, as the user gave it; ends in a slash.
    place: Vec<u8>,
    keep_kinds: bool,
    owner: Option<(u32, u32)>,
    mode: Option<ModeChange>,
    /// Directories get their times at the end: what is made in them changes them.
    directories: Vec<(Vec<u8>, Time)>,
    /// The directory of the entry before, with its path.
    parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

/// Unpacks the archive that `input` gives. Call it on a thread that ends with it (see `view::open`).
pub fn write(options: &ViewOptions, path: &str, how: &WriteOptions, input: OwnedFd) -> Result<()> {
    let root = view::open(options)?;
    let place = open_in(root.as_fd(), path.as_bytes(), OFlags::PATH).map_err(told(path))?;
    check_place(&root, &place, path)?;
    let owner = match &how.owner {
        Some(user) => {
            let spec = UserSpec { user: user.clone(), additional_groups: Vec::new() };
            let identity = user::resolve_in(root.as_fd(), &spec)?;
            Some((identity.uid, identity.gid))
        }
        None => None,
    };
    let place = [path.as_bytes(), b"/"].concat();
    let mut unpacker = Unpacker {
        root,
        place,
        keep_kinds: how.keep_kinds,
        owner,
        mode: how.mode.clone(),
        directories: Vec::new(),
        parent: None,
    };
    let mut reader = Reader::unpadded(inflated(input)?);
    while let Some(entry) = reader.next().map_err(damaged)? {
        unpacker.entry(&entry, &mut reader)?;
    }
    reader.drain().map_err(damaged)?;
    unpacker.finish()
}

fn check_place(root: &OwnedFd, place: &OwnedFd, path: &str) -> Result<()> {
    let stat = rustix::fs::fstat(place).context("stat", path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Failure::invalid("extract", "extraction point is not a directory"));
    }
    if is_kernels(place) {
        return Err(Failure::invalid("extract", format!("{path} is the kernel's: nothing can be copied into it")));
    }
    if !fstatvfs(place).context("stat", path)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let of_root = rustix::fs::fstat(root).context("stat", "/")?.st_dev == stat.st_dev;
    let what = if of_root { "container rootfs is marked read-only" } else { "mounted volume is marked read-only" };
    Err(Failure::invalid("extract", what))
}

fn damaged(error: TarError) -> Failure {
    let reason = match error {
        TarError::Format(reason) => reason,
        TarError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => "unexpected EOF".into(),
        TarError::Io(error) => error.to_string(),
    };
    Failure::new(Kind::Corrupt, "read archive", reason)
}

/// Names of a path in the archive; what leads upwards is refused.
fn components(path: &[u8]) -> Result<Vec<&[u8]>> {
    let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    if path.len() >= MAX_PATH || names.len() > MAX_DEPTH || path.contains(&0) || names.contains(&b"..".as_slice()) {
        let short = shown(&path[..path.len().min(80)]);
        return Err(Failure::invalid("extract", format!("{short}: not a path that can be below the directory")));
    }
    Ok(names)
}

impl Unpacker {
    fn entry<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let names = components(&entry.path)?;
        let Some((&name, above)) = names.split_last() else { return Ok(()) };
        let parent = self.parent(above)?;
        if self.keeps(&parent, name, entry)? {
            let made = open_path(&parent, name).context("open", shown(&entry.path))?;
            return self.attributes(&parent, name, made, entry);
        }
        let made = self.make(&parent, name, entry)?;
        if let Some(file) = &made
            && entry.kind == Type::Regular
        {
            fill(file, entry, reader)?;
        }
        match made {
            Some(made) => self.attributes(&parent, name, made, entry),
            None => Ok(()),
        }
    }

    /// The directory of an entry; what is missing of it is made.
    fn parent(&mut self, names: &[&[u8]]) -> Result<Rc<OwnedFd>> {
        let below = names.join(&b'/');
        if let Some((path, fd)) = &self.parent
            && *path == below
        {
            return Ok(Rc::clone(fd));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut path = self.place.clone();
        let mut dir = open_in(self.root.as_fd(), &path, flags).context("open", shown(&path))?;
        for name in names {
            path.extend_from_slice(name);
            dir = match open_in(self.root.as_fd(), &path, flags) {
                Err(Errno::NOENT) => {
                    match mkdirat(&dir, *name, Mode::from_raw_mode(0o755)) {
                        Err(Errno::EXIST) => {}
                        other => other.context("mkdir", shown(&path))?,
                    }
                    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let made = openat(&dir, *name, flags, Mode::empty()).context("open", shown(&path))?;
                    if let Some((uid, gid)) = self.owner {
                        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                        chownat(&made, "", uid, gid, AtFlags::EMPTY_PATH).context("chown", shown(&path))?;
                    }
                    made
                }
                other => other.context("open", shown(&path))?,
            };
            path.push(b'/');
        }
        let dir = Rc::new(dir);
        self.parent = Some((below, Rc::clone(&dir)));
        Ok(dir)
    }

    /// Whether the entry is a directory that is there already. Anything else in its place is removed or, with
    /// `keep_kinds`, may not be of another kind.
    fn keeps(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<bool> {
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            other => other.context("stat", shown(&entry.path))?,
        };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let becomes_directory = entry.kind == Type::Directory;
        if is_directory && becomes_directory {
            return Ok(true);
        }
        if self.keep_kinds && is_directory != becomes_directory {
            let [is, becomes] =
                [is_directory, becomes_directory].map(|yes| if yes { "directory" } else { "non-directory" });
            let place = shown(self.place.strip_suffix(b"/").unwrap_or(&self.place));
            let name = shown(entry.path.strip_suffix(b"/").unwrap_or(&entry.path));
            let message = format!("cannot overwrite {is} {name:?} with {becomes} {place:?}");
            return Err(Failure::new(Kind::System, "extract", message));
        }
        if is_directory {
            self.parent = None;
        }
        remove_at(parent, name, &entry.path)?;
        Ok(false)
    }

    /// Makes what was not there, and opens it. A hard link has its attributes already.
    fn make(&self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<Option<OwnedFd>> {
        for attempt in 1.. {
            match self.make_once(parent, name, entry) {
                Err(Errno::EXIST) if attempt < ATTEMPTS => remove_at(parent, name, &entry.path)?,
                result => return result.context("create", shown(&entry.path)),
            }
        }
        unreachable!("the last attempt returns")
    }

    fn make_once(&self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> rustix::io::Result<Option<OwnedFd>> {
        let node = |kind, device| mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device);
        match &entry.kind {
            Type::Regular => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                return openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map(Some);
            }
            Type::Hardlink(target) => {
                let names = components(target).map_err(|_| Errno::NOENT)?;
                let (&target, above) = names.split_last().ok_or(Errno::NOENT)?;
                let above = [self.place.as_slice(), &above.join(&b'/')].concat();
                let from = open_in(self.root.as_fd(), &above, OFlags::PATH | OFlags::DIRECTORY)?;
                return linkat(from, target, parent, name, AtFlags::empty()).map(|()| None);
            }
            Type::Directory => mkdirat(parent, name, Mode::RWXU)?,
            Type::Symlink(target) => symlinkat(target.as_slice(), parent, name)?,
            Type::Char { major, minor } => node(FileType::CharacterDevice, makedev(*major, *minor))?,
            Type::Block { major, minor } => node(FileType::BlockDevice, makedev(*major, *minor))?,
            Type::Fifo => node(FileType::Fifo, 0)?,
        }
        open_path(parent, name).map(Some)
    }

    /// `made` is an O_PATH fd of all but a regular file. Of a symlink only the owner and times can be set, which are set by
    /// its name: following nothing, the worst that a swap can reach is another thing in the same directory.
    fn attributes(&mut self, parent: &OwnedFd, name: &[u8], made: OwnedFd, entry: &Entry) -> Result<()> {
        let (uid, gid) = self.owner.unwrap_or((entry.uid, entry.gid));
        let told = || shown(&entry.path);
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(&made, "", uid, gid, AtFlags::EMPTY_PATH).context("chown", told())?;
        if matches!(entry.kind, Type::Symlink(_)) {
            return utimensat(parent, name, &stamp(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
                .context("set times of", told());
        }
        // after chown, which clears setuid and security.capability
        let is_directory = entry.kind == Type::Directory;
        let mode = self.mode.as_ref().map_or(entry.mode, |change| change.of(entry.mode, is_directory));
        let mode = Mode::from_raw_mode(mode);
        if entry.kind == Type::Regular {
            fchmod(&made, mode).context("chmod", told())?;
            xattr::set_on_fd(&made, &entry.xattrs, &entry.path)?;
            return futimens(&made, &stamp(entry.mtime)).context("set times of", told());
        }
        let by_descriptor = format!("/proc/self/fd/{}", made.as_raw_fd());
        chmod(&*by_descriptor, mode).context("chmod", told())?;
        xattr::set_by_path(by_descriptor.as_bytes(), &entry.xattrs, &entry.path)?;
        if is_directory {
            self.directories.push((entry.path.clone(), entry.mtime));
            return Ok(());
        }
        utimensat(CWD, &*by_descriptor, &stamp(entry.mtime), AtFlags::empty()).context("set times of", told())
    }

    fn finish(self) -> Result<()> {
        for (path, time) in &self.directories {
            let path = [self.place.as_slice(), path].concat();
            let dir = match open_in(self.root.as_fd(), &path, OFlags::RDONLY | OFlags::DIRECTORY) {
                // moved away meanwhile
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                other => other.context("open", shown(&path))?,
            };
            futimens(&dir, &stamp(*time)).context("set times of", shown(&path))?;
        }
        Ok(())
    }
}

fn stamp(time: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
    }
}

fn open_path(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn fill<R: BufRead>(file: &OwnedFd, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
    let whole = [super::super::tar::Region { offset: 0, len: entry.size }];
    let mut end = 0;
    for region in entry.sparse.as_deref().unwrap_or(&whole) {
        let (mut offset, mut left) = (region.offset, region.len);
        while left > 0 {
            let data = reader.data().map_err(damaged)?;
            let data = &data[..usize::try_from(left).map_or(data.len(), |left| left.min(data.len()))];
            if data.is_empty() {
                break;
            }
            let written = match rustix::io::pwrite(file, data, offset) {
                Err(Errno::INTR) => continue,
                other => other.context("write", shown(&entry.path))?,
            };
            reader.consume(written);
            offset += written as u64;
            left -= written as u64;
            end = offset;
        }
    }
    if end == entry.size {
        return Ok(());
    }
    ftruncate(file, entry.size).context("truncate", shown(&entry.path))
}
