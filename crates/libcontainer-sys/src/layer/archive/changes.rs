//! What a container has changed of its image, told by its writable layer.
//!
//! Overlay copies a directory up when something in it is written, so one counts as changed when its mode or owner differ or
//! something in it has changed, not for its times alone.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fgetxattr, openat, statat};
use rustix::io::Errno;
use serde::Serialize;

use super::super::dirs::{MAX_DEPTH, OPAQUE, open_beneath};
use super::super::error::shown;
use super::super::view;
use crate::failure::{Context, Failure, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ChangeKind {
    Modified,
    Added,
    Deleted,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub kind: ChangeKind,
    pub path: String,
}

/// Sorted by path. `lower`: the image's layers, the top one first.
pub fn changes(upper: &Path, lower: &[PathBuf]) -> Result<Vec<Change>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let own = openat(CWD, upper, flags, Mode::empty()).context("open", upper.display())?;
    // an image may have no files at all
    let image = if lower.is_empty() { None } else { Some(view::open(lower)?) };
    let mut found = Vec::new();
    compare(&own, image.as_ref(), b"", 0, &mut found)?;
    found.sort_by(|a: &Change, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Adds what has changed below a directory. True when there was anything.
fn compare(own: &OwnedFd, image: Option<&OwnedFd>, path: &[u8], depth: usize, found: &mut Vec<Change>) -> Result<bool> {
    if depth > MAX_DEPTH {
        return Err(Failure::invalid("changes", format!("{}: deeper than {MAX_DEPTH} directories", shown(path))));
    }
    let before = found.len();
    let names = names(own, path)?;
    if let Some(image) = image
        && fgetxattr(own, OPAQUE, &mut [0; 8]).is_ok()
    {
        deleted(image, &names, path, found)?;
    }
    for name in &names {
        let path = [path, b"/", name.as_slice()].concat();
        let stat = match statat(own, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => other.context("stat", shown(&path))?,
        };
        let original = image.and_then(|image| lookup(image, name));
        if is_whiteout(&stat) {
            if original.is_some() {
                found.push(Change { kind: ChangeKind::Deleted, path: shown(&path) });
            }
            continue;
        }
        if kind(&stat) == FileType::Directory {
            directory(own, image, name, (&stat, original), path, depth, found)?;
        } else {
            let kind = if original.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
            found.push(Change { kind, path: shown(&path) });
        }
    }
    Ok(found.len() > before)
}

fn directory(
    own: &OwnedFd,
    image: Option<&OwnedFd>,
    name: &[u8],
    (stat, original): (&Stat, Option<Stat>),
    path: Vec<u8>,
    depth: usize,
    found: &mut Vec<Change>,
) -> Result<()> {
    let dir = match open_beneath(own, name, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        other => other.context("open", shown(&path))?,
    };
    let was_directory = original.as_ref().is_some_and(|original| kind(original) == FileType::Directory);
    let image = match image {
        Some(image) if was_directory => {
            Some(open_beneath(image, name, OFlags::RDONLY | OFlags::DIRECTORY).context("open", shown(&path))?)
        }
        _ => None,
    };
    let at = found.len();
    let inside = compare(&dir, image.as_ref(), &path, depth + 1, found)?;
    let change = match original {
        None => ChangeKind::Added,
        Some(was) => {
            let same = (was.st_mode, was.st_uid, was.st_gid) == (stat.st_mode, stat.st_uid, stat.st_gid);
            if same && !inside {
                return Ok(());
            }
            ChangeKind::Modified
        }
    };
    found.insert(at, Change { kind: change, path: shown(&path) });
    Ok(())
}

/// What an opaque directory hides of the image and does not have itself.
fn deleted(image: &OwnedFd, own: &[Vec<u8>], path: &[u8], found: &mut Vec<Change>) -> Result<()> {
    for name in names(image, path)? {
        if !own.contains(&name) && lookup(image, &name).is_some() {
            let path = shown(&[path, b"/", name.as_slice()].concat());
            found.push(Change { kind: ChangeKind::Deleted, path });
        }
    }
    Ok(())
}

fn names(dir: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for item in Dir::read_from(dir).context("read", shown(path))? {
        let name = item.context("read", shown(path))?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn lookup(dir: &OwnedFd, name: &[u8]) -> Option<Stat> {
    // a layer that is the only one is seen as it lies on the disk, with its whiteouts
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok().filter(|stat| !is_whiteout(stat))
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}
