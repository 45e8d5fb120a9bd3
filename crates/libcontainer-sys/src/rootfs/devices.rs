//! /dev: the default nodes and links, the console, and devices that were asked for.

use super::{
    Console, attach,
    target::{make_parent, open_in_root},
};
use crate::failure::{Context, Failure, Result};
use crate::spec::Device;
use crate::sys::mount::clone_tree;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mknodat, openat, statat, symlinkat};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

const DEFAULT_NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Everything goes through the descriptor of the container's /dev, resolved in the root: a /dev that is a symlink leads
/// nowhere on the host (CVE-2026-41579).
pub fn make_all(root: BorrowedFd, asked: &[Device], console: Option<&Console>, by_bind: bool) -> Result<()> {
    let dev = match open_in_root(root, "/dev") {
        Ok(fd) => fd,
        Err(Errno::NOENT) => super::make_target(root, "/dev", super::Want::Directory)?,
        Err(error) => return Err(Failure::io("open", "/dev", error)),
    };
    let umask = rustix::process::umask(Mode::empty());
    for (name, major, minor) in DEFAULT_NODES {
        match by_bind {
            true => bind(dev.as_fd(), name, &format!("/dev/{name}"))?,
            false => node(dev.as_fd(), name, FileType::CharacterDevice, 0o666, (major, minor), (0, 0))?,
        }
    }
    for device in asked {
        let kind = match device.kind.as_str() {
            "c" | "u" => FileType::CharacterDevice,
            "b" => FileType::BlockDevice,
            "p" => FileType::Fifo,
            other => return Err(Failure::invalid("device", format!("{}: unknown device type {other:?}", device.path))),
        };
        let (parent, name) = make_parent(root, &device.path)?;
        if by_bind && kind != FileType::Fifo {
            bind(parent.as_fd(), &name, &device.path)?;
            continue;
        }
        let mode = device.file_mode.unwrap_or(0o666);
        node(parent.as_fd(), &name, kind, mode, (device.major, device.minor), (device.uid, device.gid))?;
    }
    rustix::process::umask(umask);
    let core = std::fs::exists("/proc/kcore").unwrap_or(false).then_some(("core", "/proc/kcore"));
    for (name, to) in LINKS.into_iter().chain(core) {
        match symlinkat(to, &dev, name) {
            // an image without a tmpfs at /dev may bring its own; ptmx must be ours
            Err(Errno::EXIST) if name == "ptmx" => {
                rustix::fs::unlinkat(&dev, name, AtFlags::empty()).context("unlink", "/dev/ptmx")?;
                symlinkat(to, &dev, name).context("symlink", "/dev/ptmx")?;
            }
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Failure::io("symlink", format!("/dev/{name}"), error)),
        }
    }
    if let Some(console) = console {
        mount_console(dev.as_fd(), console)?;
    }
    Ok(())
}

fn node(
    dir: BorrowedFd,
    name: &str,
    kind: FileType,
    mode: u32,
    (major, minor): (u32, u32),
    owner: (u32, u32),
) -> Result<()> {
    let device = makedev(major, minor);
    match mknodat(dir, name, kind, Mode::from_raw_mode(mode), device) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).context("stat", name)?;
            if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != device {
                return Err(Failure::invalid("device", format!("{name}: the image has something else in its place")));
            }
        }
        Err(error) => return Err(Failure::io("mknod", name, error)),
    }
    if owner == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).context("chown", name)
}

/// The host's own node, where the kernel lets nobody make one.
fn bind(dir: BorrowedFd, name: &str, source: &str) -> Result<()> {
    let path = CString::new(source).context("device", source)?;
    let device = clone_tree(None, &path, false).context("open device", source)?;
    let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NONBLOCK;
    openat(dir, name, flags, Mode::from_raw_mode(0o666)).context("create", source)?;
    let target =
        openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).context("open", source)?;
    attach(device.as_fd(), target.as_fd()).context("mount", source)
}

/// /dev/console is the terminal itself, bound by descriptor.
fn mount_console(dev: BorrowedFd, console: &Console) -> Result<()> {
    let flags =
        OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    openat(dev, "console", flags, Mode::from_raw_mode(0o600)).context("create", "/dev/console")?;
    let target = openat(dev, "console", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .context("open", "/dev/console")?;
    let mount = clone_tree(Some(console.peer.as_fd()), c"", false).context("open_tree", "terminal")?;
    attach(mount.as_fd(), target.as_fd()).context("mount", "/dev/console")
}
