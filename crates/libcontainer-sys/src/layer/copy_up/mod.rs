//! A directory of an image copied into an empty volume, as Docker does when a volume is first mounted over it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags, ResolveFlags, SeekFrom, Stat,
    Timespec, Timestamps, Uid, chmodat, chownat, copy_file_range, fchmod, fchown, flock, fstat, fsync, ftruncate,
    futimens, linkat, mkdirat, mknodat, openat, openat2, readlinkat, renameat, renameat_with, seek, statat, symlinkat,
    syncfs, utimensat,
};
use rustix::io::Errno;

use super::digest::Hasher;
use super::dirs::{Dirs, MAX_DEPTH, Missing, open_beneath};
use super::error::{Result, corrupt, system};
use super::remove::remove_at;
use super::{view, xattr};

#[derive(Debug, Clone, Default)]
pub struct CopyUpOptions {
    /// Directories of the image's layers, the top one first.
    pub lower: Vec<PathBuf>,
    /// The container's own layer.
    pub upper: Option<PathBuf>,
    /// Path in the image; symlinks in it are resolved inside the image.
    pub source: PathBuf,
    /// The volume's directory.
    pub target: PathBuf,
    /// The directory below it that is filled; empty for itself.
    pub subpath: String,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// What a copy fills, and where it is made. Locked until it is dropped: two containers may be created over the same
/// volume at once.
struct Place {
    /// The directory that the volume is in.
    beside: OwnedFd,
    target: Rc<OwnedFd>,
    /// In `beside`: a copy under way, and a complete one whose entries move into the target one by one. So what a kill
    /// leaves is never taken for what a container has written.
    under_way: String,
    complete: String,
}

/// Nothing happens when the image or the volume has no such directory, or the volume's is not empty. A copy that was cut
/// off is begun anew or brought to its end.
pub fn copy_up(options: &CopyUpOptions) -> Result<()> {
    let path = options.target.as_os_str().as_bytes();
    let Some((place, finished)) = settle(&options.target, &options.subpath)? else { return Ok(()) };
    let Place { beside, target, under_way, complete } = &place;
    if finished || !entries(target, path)?.is_empty() {
        return Ok(());
    }
    let layers: Vec<PathBuf> = options.upper.iter().chain(&options.lower).cloned().collect();
    let image = view::open(&layers)?;
    let shown = options.source.as_os_str().as_bytes();
    let source = match open_resolved(&image, &options.source, ResolveFlags::IN_ROOT) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other.map_err(system("open in the image", shown))?,
    };
    let device = |dir: &OwnedFd| fstat(dir).map(|stat| stat.st_dev).map_err(system("stat", path));
    if device(beside)? != device(target)? {
        // An administrator has mounted a filesystem there, into which nothing can be renamed.
        return fill(&source, target.clone(), path).or_else(|error| {
            entries(target, path)?.iter().try_for_each(|name| remove_at(target, name, name)).and(Err(error))
        });
    }
    mkdirat(beside, under_way, Mode::RWXU).map_err(system("mkdir", path))?;
    let staged = open_beneath(beside, under_way.as_bytes(), DIRECTORY).map_err(system("open", path))?;
    fill(&source, Rc::new(staged), path)
        .and_then(|()| renameat(beside, under_way, beside, complete).map_err(system("rename", path)))
        .or_else(|error| remove_at(beside, under_way.as_bytes(), under_way.as_bytes()).and(Err(error)))?;
    move_in(&place, path)
}

/// Brings a copy that was cut off to its end where it had begun to show in the volume; forgets it otherwise.
pub fn finish_copy_up(target: &Path, subpath: &str) -> Result<()> {
    settle(target, subpath).map(|_| ())
}

/// The place, and whether an earlier copy was brought to its end now. `None` when the volume has no such directory.
fn settle(volume: &Path, subpath: &str) -> Result<Option<(Place, bool)>> {
    let path = volume.as_os_str().as_bytes();
    let mut target = open_directory(volume)?;
    let mut ending = String::new();
    if !subpath.is_empty() {
        target = match open_resolved(&target, Path::new(subpath), ResolveFlags::BENEATH) {
            // a start of the container tells
            Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV) => return Ok(None),
            other => other.map_err(system("open in the volume", subpath.as_bytes()))?,
        };
        // a subpath may be longer than a name
        let mut hasher = Hasher::new();
        hasher.update(subpath.as_bytes());
        ending = format!("-{}", hasher.finish());
    }
    let beside = open_directory(volume.parent().unwrap_or(Path::new("/")))?;
    flock(&beside, FlockOperation::LockExclusive).map_err(system("lock", path))?;
    let (under_way, complete) = (format!(".copying{ending}"), format!(".copied{ending}"));
    remove_at(&beside, under_way.as_bytes(), under_way.as_bytes())?;
    let finished = statat(&beside, &complete, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    let place = Place { beside, target: Rc::new(target), under_way, complete };
    if finished {
        move_in(&place, path)?;
    }
    Ok(Some((place, finished)))
}

/// Synced: a power cut must not leave the name of a complete copy without its data.
fn fill(source: &OwnedFd, into: Rc<OwnedFd>, path: &[u8]) -> Result<()> {
    let mut copy = Copy { links: HashMap::new(), targets: Dirs::new(into.clone()) };
    copy.directory(source, &into, &mut Vec::new())?;
    syncfs(&*into).map_err(system("sync", path))
}

/// A complete copy becomes what the volume holds.
fn move_in(Place { beside, target, complete, .. }: &Place, path: &[u8]) -> Result<()> {
    let complete = complete.as_bytes();
    let staged = open_beneath(beside, complete, DIRECTORY).map_err(system("open", path))?;
    let stat = fstat(&staged).map_err(system("stat", path))?;
    for name in entries(&staged, path)? {
        match renameat_with(&staged, &*name, target, &*name, RenameFlags::NOREPLACE) {
            // Written meanwhile by a container that mounts the volume: newer than the image's.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(system("rename", path)(errno)),
        }
    }
    attributes(&staged, target, &stat, path)?;
    fsync(target).map_err(system("sync", path))?;
    remove_at(beside, complete, complete)
}

/// `within` says what a symlink that leads out of `root` means.
fn open_resolved(root: &OwnedFd, path: &Path, within: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = within | ResolveFlags::NO_MAGICLINKS;
    // A rename or mount anywhere on the host during a `..` makes the kernel ask for another try (openat2(2), EAGAIN).
    for _ in 0..1000 {
        match openat2(root, path, DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => std::thread::yield_now(),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(system("open", path.as_os_str().as_bytes()))
}

fn entries(dir: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).map_err(system("read", path))? {
        let name = entry.map_err(system("read", path))?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

struct Copy {
    /// Files with several names, by inode: where the first one is.
    links: HashMap<(u64, u64), Vec<Vec<u8>>>,
    targets: Dirs,
}

impl Copy {
    /// `path` are the names that lead to this directory in the source, and in the target.
    fn directory(&mut self, source: &OwnedFd, target: &OwnedFd, path: &mut Vec<Vec<u8>>) -> Result<()> {
        let shown = path.join(&b'/');
        if path.len() > MAX_DEPTH {
            return Err(corrupt("copy", &shown, format!("deeper than {MAX_DEPTH} directories")));
        }
        for name in entries(source, &shown)? {
            path.push(name);
            self.entry(source, target, path)?;
            path.pop();
        }
        let stat = fstat(source).map_err(system("stat", &shown))?;
        attributes(source, target, &stat, &shown)
    }

    fn entry(&mut self, source: &OwnedFd, target: &OwnedFd, path: &mut Vec<Vec<u8>>) -> Result<()> {
        let shown = path.join(&b'/');
        let name = path.last().cloned().unwrap_or_default();
        let name = name.as_slice();
        let stat = statat(source, name, AtFlags::SYMLINK_NOFOLLOW).map_err(system("stat", &shown))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            mkdirat(target, name, Mode::RWXU).map_err(system("mkdir", &shown))?;
            let open = |dir| open_beneath(dir, name, DIRECTORY);
            let below = open(source).map_err(system("open", &shown))?;
            let into = open(target).map_err(system("open", &shown))?;
            return self.directory(&below, &into, path);
        }
        // The whiteout of a layer that is seen without an overlay.
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            return Ok(());
        }
        if stat.st_nlink > 1 && self.link(target, name, &stat, path)? {
            return Ok(());
        }
        match kind {
            FileType::RegularFile => return regular(source, target, name, &stat, &shown),
            FileType::Symlink => {
                let to = readlinkat(source, name, Vec::new()).map_err(system("readlink", &shown))?;
                symlinkat(to, target, name).map_err(system("symlink", &shown))?;
            }
            _ => mknodat(target, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev).map_err(system("mknod", &shown))?,
        }
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(system("chown", &shown))?;
        if kind != FileType::Symlink {
            let mode = Mode::from_raw_mode(stat.st_mode);
            chmodat(target, name, mode, AtFlags::empty()).map_err(system("chmod", &shown))?;
        }
        xattr::set_on_name(target, name, &xattr::of_name(source, name, &shown)?, &shown)?;
        utimensat(target, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW).map_err(system("set the times of", &shown))
    }

    /// Makes `name` a further name of a file that has been copied; notes it and answers false when it is the first.
    fn link(&mut self, target: &OwnedFd, name: &[u8], stat: &Stat, path: &[Vec<u8>]) -> Result<bool> {
        let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) else {
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
            return Ok(false);
        };
        let (first_name, parents) = first.split_last().expect("a file has a name");
        let parents: Vec<&[u8]> = parents.iter().map(Vec::as_slice).collect();
        self.targets.enter(&parents, Missing::Fail)?;
        linkat(&*self.targets.top(), first_name, target, name, AtFlags::empty())
            .map_err(system("link", &path.join(&b'/')))?;
        Ok(true)
    }
}

/// `stat` is of `from`.
fn attributes(from: &OwnedFd, to: &OwnedFd, stat: &Stat, shown: &[u8]) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchown(to, Some(uid), Some(gid)).map_err(system("chown", shown))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode)).map_err(system("chmod", shown))?;
    xattr::set_on_fd(to, &xattr::of_fd(from, shown)?, shown)?;
    futimens(to, &times(stat)).map_err(system("set the times of", shown))
}

fn regular(source: &OwnedFd, target: &OwnedFd, name: &[u8], stat: &Stat, shown: &[u8]) -> Result<()> {
    let from = open_beneath(source, name, OFlags::RDONLY | OFlags::NONBLOCK).map_err(system("open", shown))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = openat(target, name, flags, Mode::RUSR | Mode::WUSR).map_err(system("create", shown))?;
    data(&from, &to, stat.st_size.cast_unsigned()).map_err(system("copy", shown))?;
    attributes(&from, &to, stat, shown)
}

/// The parts between the holes.
fn data(from: &OwnedFd, to: &OwnedFd, size: u64) -> rustix::io::Result<()> {
    let mut offset = 0;
    while offset < size {
        let start = match seek(from, SeekFrom::Data(offset)) {
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            other => other?,
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        range(from, to, start, end)?;
        offset = end;
    }
    ftruncate(to, size)
}

fn range(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> rustix::io::Result<()> {
    let (mut input, mut output) = (start, start);
    while input < end {
        let left = usize::try_from(end - input).unwrap_or(usize::MAX);
        match copy_file_range(from, Some(&mut input), to, Some(&mut output), left) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => return pump(from, to, input, end),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Between filesystems that cannot copy in the kernel.
fn pump(from: &OwnedFd, to: &OwnedFd, mut offset: u64, end: u64) -> rustix::io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    while offset < end {
        let wanted = usize::try_from(end - offset).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = rustix::io::pread(from, &mut buffer[..wanted], offset)?;
        if count == 0 {
            break;
        }
        let mut written = 0;
        while written < count {
            written += rustix::io::pwrite(to, &buffer[written..count], offset + written as u64)?;
        }
        offset += count as u64;
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec.cast_signed() },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() },
    }
}

#[cfg(test)]
mod tests;
