//! Removes a tree, whatever a container put into it: fd by fd, nothing followed, no mount entered.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, IFlags, Mode, OFlags, RenameFlags, ioctl_getflags, ioctl_setflags, openat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::dirs::open_beneath;
use super::error::{LayerError, Result, corrupt, system};

/// Levels that are entered with an fd each. What lies deeper is first moved up: a container can nest without limit.
const MAX_LEVELS: usize = 128;

/// Removes `path`; nothing there is as good. The directory that holds it must be trusted, the tree need not.
pub fn remove_tree(path: &Path) -> Result<()> {
    let bytes = path.as_os_str().as_bytes();
    let invalid =
        || LayerError::Invalid { op: "remove", path: path.display().to_string(), reason: "no path of a tree".into() };
    let name = path.file_name().ok_or_else(invalid)?;
    let parent = path.parent().ok_or_else(invalid)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, parent, flags, Mode::empty()) {
        Ok(parent) => remove_at(&parent, name.as_bytes(), bytes),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(system("open", parent.as_os_str().as_bytes())(errno)),
    }
}

/// Removes `name`, a tree or a file, below an fd. `path` is for messages.
pub(super) fn remove_at(parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<()> {
    match unlink(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(system("unlink", path)(errno)),
    }
    let top = open(parent, name).map_err(system("open", path))?;
    let mut moved = 0;
    loop {
        empty(&top, &top, 0, &mut moved, path)?;
        match unlink(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // What was moved up, or what a process still makes in it.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(system("rmdir", path)(errno)),
        }
        if moved > 1_000_000 {
            return Err(corrupt("remove", path, "it does not become empty"));
        }
        moved += 1;
    }
}

fn open(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    open_beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

fn empty(dir: &OwnedFd, top: &OwnedFd, level: usize, moved: &mut u64, path: &[u8]) -> Result<()> {
    let mut entries = Dir::read_from(dir).map_err(system("read", path))?;
    while let Some(entry) = entries.read() {
        let entry = entry.map_err(system("read", path))?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let below = || [path, b"/", name.to_bytes()].concat();
        if entry.file_type() != FileType::Directory {
            match unlink(dir, name.to_bytes(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) => {}
                Err(errno) => return Err(system("unlink", &below())(errno)),
            }
        }
        if level == MAX_LEVELS {
            move_up(dir, name, top, moved).map_err(system("rename", &below()))?;
            continue;
        }
        let child = match open(dir, name.to_bytes()) {
            Err(Errno::NOENT) => continue,
            other => other.map_err(system("open", &below()))?,
        };
        empty(&child, top, level + 1, moved, &below())?;
        match unlink(dir, name.to_bytes(), AtFlags::REMOVEDIR) {
            // Not empty: the next round finds it again.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(system("rmdir", &below())(errno)),
        }
    }
    Ok(())
}

fn move_up(dir: &OwnedFd, name: &CStr, top: &OwnedFd, moved: &mut u64) -> rustix::io::Result<()> {
    loop {
        *moved += 1;
        match renameat_with(dir, name, top, format!(".removed-{moved}"), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => return other,
        }
    }
}

/// unlinkat; when it is refused, once more without the immutable and append-only flags.
fn unlink(parent: &OwnedFd, name: &[u8], flags: AtFlags) -> rustix::io::Result<()> {
    match unlinkat(parent, name, flags) {
        Err(Errno::PERM) => {
            clear_flags(parent, b".");
            clear_flags(parent, name);
            unlinkat(parent, name, flags)
        }
        other => other,
    }
}

/// Best effort: a privileged container may have set them, most filesystems have none.
fn clear_flags(parent: &OwnedFd, name: &[u8]) {
    // Opening a device or a FIFO has effects of its own.
    let plain = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory));
    if !plain {
        return;
    }
    if let Ok(file) = open_beneath(parent, name, OFlags::RDONLY | OFlags::NONBLOCK)
        && let Ok(flags) = ioctl_getflags(&file)
        && flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND)
    {
        let _ = ioctl_setflags(&file, flags - (IFlags::IMMUTABLE | IFlags::APPEND));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::testing::{Scratch, nest, tree};
    use crate::sys::private_mounts;
    use rustix::fs::mknodat;
    use rustix::mount::{MountFlags, mount};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn everything_goes_and_nothing_is_followed() {
        let scratch = Scratch::new("remove");
        let (root, sentinel) = (scratch.path("tree"), scratch.path("sentinel"));
        fs::create_dir(&sentinel).unwrap();
        fs::write(sentinel.join("file"), "untouched").unwrap();
        let before = tree(&sentinel);
        fs::create_dir_all(root.join("closed/below")).unwrap();
        fs::write(root.join("closed/below/file"), "").unwrap();
        symlink(&sentinel, root.join("closed/link")).unwrap();
        symlink("/", root.join("link")).unwrap();
        mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::empty(), 0).unwrap();
        mknodat(CWD, root.join("whiteout"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        let fixed = root.join("closed/fixed");
        fs::write(&fixed, "").unwrap();
        let file = fs::File::open(&fixed).unwrap();
        // Not every filesystem has the flag; where it is, it must not be in the way.
        let _ = ioctl_setflags(&file, IFlags::IMMUTABLE);
        fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        let closed = fs::File::open(root.join("closed")).unwrap();
        let _ = ioctl_setflags(&closed, IFlags::APPEND);
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        assert_eq!(tree(&sentinel), before);
    }

    #[test]
    fn a_link_in_place_of_the_tree_is_removed_itself() {
        let scratch = Scratch::new("remove");
        fs::create_dir(scratch.path("sentinel")).unwrap();
        symlink("sentinel", scratch.path("link")).unwrap();
        remove_tree(&scratch.path("link")).unwrap();
        assert!(scratch.path("sentinel").exists());
        assert!(!scratch.path("link").is_symlink());
    }

    #[test]
    fn nothing_is_as_good() {
        let scratch = Scratch::new("remove");
        remove_tree(&scratch.path("missing")).unwrap();
        remove_tree(&scratch.path("missing/below")).unwrap();
    }

    #[test]
    fn depth_is_no_protection() {
        let scratch = Scratch::new("remove");
        let root = scratch.path("tree");
        fs::create_dir(&root).unwrap();
        drop(nest(&root, 5000));
        remove_tree(&root).unwrap();
        assert!(!root.exists());
    }

    #[test]
    fn a_mount_in_the_tree_is_not_entered() {
        let scratch = Scratch::new("remove");
        let point = scratch.path("tree/mount");
        fs::create_dir_all(&point).unwrap();
        let work = || {
            private_mounts::enter().unwrap();
            mount("tmpfs", &point, "tmpfs", MountFlags::empty(), None).unwrap();
            fs::write(point.join("file"), "untouched").unwrap();
            let error = remove_tree(&scratch.path("tree")).unwrap_err();
            assert_eq!(error.errno(), Some(Errno::XDEV.raw_os_error()));
            assert!(point.join("file").exists());
        };
        std::thread::scope(|scope| scope.spawn(work).join().unwrap());
    }
}
