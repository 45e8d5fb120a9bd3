//! The ways into a root that stands, from the directory that it is.

use super::{attach, options};
use crate::failure::{Context, Result};
use crate::sys::mount::{MountAttr, mount_setattr};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

pub fn pivot(root: BorrowedFd) -> Result<()> {
    rustix::process::fchdir(root).context("fchdir", "root")?;
    // the old root comes to lie over the new one at the same place, and is taken off
    rustix::process::pivot_root(".", ".").context("pivot_root", "")?;
    unmount(".", UnmountFlags::DETACH).context("umount", "old root")?;
    rustix::process::chdir("/").context("chdir", "/")
}

/// For a host whose own root cannot be pivoted away from (an initramfs): the new one is moved over it. What lies below is hidden,
/// but the kernel counts it: whoever finds an unmasked /proc there may mount another.
pub fn move_over(root: BorrowedFd) -> Result<()> {
    let own = rustix::process::getcwd(Vec::new()).context("getcwd", "root")?;
    let own = own.to_string_lossy();
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("read", "/proc/self/mountinfo")?;
    for place in table.lines().filter_map(bare_mount).filter(|place| !Path::new(place).starts_with(&*own)) {
        if unmount(place, UnmountFlags::DETACH).is_err() {
            mount("tmpfs", place, "tmpfs", MountFlags::RDONLY, None::<&std::ffi::CStr>).context("cover", place)?;
        }
    }
    let top = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("open", "/")?;
    attach(root, top.as_fd()).context("move to /", own)?;
    change_root()
}

/// The place of a line of mountinfo that shows all of /proc or /sys.
fn bare_mount(line: &str) -> Option<&str> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, place) = (fields.next()?, fields.next()?);
    let kind = filesystem.split(' ').next()?;
    (root == "/" && (kind == "proc" || kind == "sysfs")).then_some(place)
}

/// In a mount namespace of others the process alone goes there.
pub fn change_root() -> Result<()> {
    rustix::process::chroot(".").context("chroot", "")?;
    rustix::process::chdir("/").context("chdir", "/")
}

pub fn set_propagation(name: &str) -> Result<()> {
    let (recursive, name) = match name.strip_prefix('r') {
        Some(rest) if ["shared", "slave", "private", "unbindable"].contains(&rest) => (true, rest),
        _ => (false, name),
    };
    if name.is_empty() || name == "private" {
        return Ok(());
    }
    let root = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("open", "/")?;
    mount_setattr(
        root.as_fd(),
        recursive,
        &MountAttr { propagation: options::propagation(name), ..MountAttr::default() },
    )
    .context("set propagation of", "/")
}
