//! A directory inside a root, reached component by component, with the fds of the way kept for the next entry.
//!
//! The kernel is only ever asked to open one plain name below an fd, without symlinks and without leaving the
//! filesystem; `..` and symlinks are resolved here, where they cannot climb over the root. So neither a hostile archive
//! nor a race can lead outside (the class of CVE-2018-15664 and CVE-2025-47290).

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags, fsetxattr, mkdirat, openat2, readlinkat, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::error::{Result, corrupt, system};

/// node-tar's limit; deeper trees are attacks on those who walk them.
pub(super) const MAX_DEPTH: usize = 1024;
/// The kernel's own limit for one path.
const MAX_FOLLOWS: usize = 40;
/// Names looked up for one path: 40 symlinks of 2,000 names each, in each of a million entries, would take days.
const MAX_STEPS: usize = 8192;
/// Levels whose fds are kept; of deeper ones only the last (seven layers at once must fit into 1024 fds).
const KEPT: usize = 48;

pub(super) const OPAQUE: &str = "trusted.overlay.opaque";

pub(super) struct Dirs {
    root: Rc<OwnedFd>,
    /// Real directories from the root down to the current one.
    stack: Vec<(Vec<u8>, Option<Rc<OwnedFd>>)>,
}

/// What to do with a missing directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Fail,
}

impl Dirs {
    pub(super) fn new(root: Rc<OwnedFd>) -> Self {
        Self { root, stack: Vec::new() }
    }

    /// The current directory.
    pub(super) fn top(&self) -> Rc<OwnedFd> {
        self.stack.last().and_then(|(_, fd)| fd.clone()).unwrap_or_else(|| self.root.clone())
    }

    /// Its path below the root without symlinks, and `name` in it.
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::new();
        for (component, _) in &self.stack {
            path.extend_from_slice(component);
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// Forgets all fds; for when a directory has been removed.
    pub(super) fn forget(&mut self) {
        self.stack.clear();
    }

    /// Makes the directory that `components` lead to the current one. Returns the paths of those it had to make.
    pub(super) fn enter(&mut self, components: &[&[u8]], missing: Missing) -> Result<Vec<Vec<u8>>> {
        let known = self.stack.iter().zip(components).take_while(|((name, _), component)| name == *component).count();
        let mut pending: VecDeque<Vec<u8>> = self.retreat(known).into();
        pending.extend(components[known..].iter().map(|component| component.to_vec()));
        let mut created = Vec::new();
        let (mut follows, mut steps) = (0, 0);
        while let Some(name) = pending.pop_front() {
            steps += 1;
            if steps > MAX_STEPS {
                return Err(corrupt("enter", &self.path_of(&name), "its symbolic links lead too long a way"));
            }
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    let again = self.retreat(self.stack.len().saturating_sub(1));
                    again.into_iter().rev().for_each(|name| pending.push_front(name));
                    continue;
                }
                _ => {}
            }
            if self.stack.len() == MAX_DEPTH {
                return Err(corrupt("enter", &self.path_of(&name), format!("deeper than {MAX_DEPTH} directories")));
            }
            let parent = self.top();
            match open_dir(&parent, &name) {
                Ok(fd) => self.push(name, fd),
                Err(Errno::NOENT) if missing == Missing::Create => {
                    let path = self.path_of(&name);
                    mkdirat(&*parent, &name, Mode::RWXU).map_err(system("mkdir", &path))?;
                    let fd = open_dir(&parent, &name).map_err(system("open", &path))?;
                    self.push(name, fd);
                    created.push(path);
                }
                Err(Errno::LOOP | Errno::NOTDIR) => match readlinkat(&*parent, &name, Vec::new()) {
                    Ok(target) => {
                        follows += 1;
                        if follows > MAX_FOLLOWS {
                            return Err(corrupt("enter", &self.path_of(&name), "too many levels of symbolic links"));
                        }
                        let target = target.into_bytes();
                        if target.starts_with(b"/") {
                            self.stack.clear();
                        }
                        target.split(|&byte| byte == b'/').rev().for_each(|name| pending.push_front(name.to_vec()));
                    }
                    Err(Errno::INVAL) => {
                        let path = self.path_of(&name);
                        if missing == Missing::Fail || !is_whiteout(&parent, &name) {
                            return Err(corrupt("enter", &path, "it is used as a directory and is none"));
                        }
                        let fd = replace_whiteout(&parent, &name, &path)?;
                        self.push(name, fd);
                        created.push(path);
                    }
                    Err(errno) => return Err(system("readlink", &self.path_of(&name))(errno)),
                },
                Err(Errno::NOENT) => return Err(corrupt("enter", &self.path_of(&name), "no such directory")),
                Err(errno) => return Err(system("open", &self.path_of(&name))(errno)),
            }
        }
        Ok(created)
    }

    fn push(&mut self, name: Vec<u8>, fd: OwnedFd) {
        if self.stack.len() > KEPT
            && let Some((_, fd)) = self.stack.last_mut()
        {
            *fd = None;
        }
        self.stack.push((name, Some(Rc::new(fd))));
    }

    /// Goes back to `depth`. Where the fd of that level is not kept it goes further up and returns the names that lead
    /// down again.
    fn retreat(&mut self, depth: usize) -> Vec<Vec<u8>> {
        self.stack.truncate(depth);
        let held = self.stack.iter().rposition(|(_, fd)| fd.is_some()).map_or(0, |index| index + 1);
        self.stack.split_off(held).into_iter().map(|(name, _)| name).collect()
    }
}

/// O_PATH fd of a real directory; ELOOP or ENOTDIR for anything else.
pub(super) fn open_dir(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    open_beneath(parent, name, OFlags::PATH | OFlags::DIRECTORY)
}

/// Opens one plain name, whatever it is, following nothing.
pub(super) fn open_beneath(parent: &OwnedFd, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    openat2(parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Whether overlay takes this for "removed here": a character device 0:0.
pub(super) fn is_whiteout(parent: &OwnedFd, name: &[u8]) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
}

/// A directory that is made where the same layer has removed one hides what the layers below have in it.
pub(super) fn replace_whiteout(parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<OwnedFd> {
    unlinkat(parent, name, AtFlags::empty()).map_err(system("unlink", path))?;
    mkdirat(parent, name, Mode::RWXU).map_err(system("mkdir", path))?;
    let fd = open_dir(parent, name).map_err(system("open", path))?;
    set_opaque(&fd, path)?;
    Ok(fd)
}

/// `dir` may be an O_PATH fd.
pub(super) fn set_opaque(dir: &OwnedFd, path: &[u8]) -> Result<()> {
    let dir = open_beneath(dir, b".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(system("open", path))?;
    fsetxattr(&dir, OPAQUE, b"y", XattrFlags::empty()).map_err(system("set trusted.overlay.opaque on", path))
}
