//! /sys/fs/cgroup of a container: its own cgroup of each hierarchy, and nothing above it.

use super::{
    attach, make_filesystem,
    options::MountOptions,
    procfs,
    target::{Want, make_target},
};
use crate::cgroup::Cgroup;
use crate::failure::{Context, Result};
use crate::spec::Mount;
use crate::sys::mount::{MountAttr, clone_tree, mount_setattr};
use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub fn mount(root: BorrowedFd, mount: &Mount, options: &MountOptions, cgroup: &dyn Cgroup) -> Result<()> {
    let target = make_target(root, &mount.destination, Want::Directory)?;
    let directories = cgroup.mounts();
    if let [(name, path)] = directories.as_slice()
        && name.is_empty()
    {
        let tree = open(path, options.attr)?;
        procfs::check_place(&tree, &target, &mount.destination)?;
        return attach(tree.as_fd(), target.as_fd()).context("mount", &mount.destination);
    }
    // v1: a tmpfs with one directory a hierarchy; it becomes read-only once they stand
    let plain = MountOptions {
        attr: MountAttr { set: options.attr.set & !crate::sys::mount::RDONLY, ..MountAttr::default() },
        data: vec![("mode".into(), Some("755".into()))],
        ..MountOptions::default()
    };
    let tmpfs = make_filesystem("tmpfs", "cgroup", &plain)?;
    procfs::check_place(&tmpfs, &target, &mount.destination)?;
    attach(tmpfs.as_fd(), target.as_fd()).context("mount", &mount.destination)?;
    for (name, path) in &directories {
        mkdirat(&tmpfs, name.as_str(), Mode::from_raw_mode(0o755)).context("mkdir", name)?;
        let place =
            openat(&tmpfs, name.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("open", name)?;
        attach(open(path, options.attr)?.as_fd(), place.as_fd()).context("mount cgroup", path.display())?;
        if name.contains(',') {
            for single in name.split(',') {
                symlinkat(name.as_str(), &tmpfs, single).context("symlink", single)?;
            }
        }
    }
    mount_setattr(tmpfs.as_fd(), false, &options.attr).context("set attributes of", &mount.destination)
}

fn open(path: &Path, attr: MountAttr) -> Result<OwnedFd> {
    let source = CString::new(path.as_os_str().as_bytes()).context("cgroup path", path.display())?;
    let tree = clone_tree(None, &source, false).context("open cgroup", path.display())?;
    mount_setattr(tree.as_fd(), false, &MountAttr { propagation: libc::MS_PRIVATE, ..attr })
        .context("set attributes of", path.display())?;
    Ok(tree)
}
