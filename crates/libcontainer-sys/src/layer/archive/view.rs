//! What a container sees, as a directory's descriptor.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use serde::Deserialize;

use crate::container::start_time;
use crate::failure::{Context, Failure, Kind, Result};
use crate::rootfs::target::{Want, make_target};
use crate::rootfs::{bind_source, overlay};
use crate::spec::Overlay;
use crate::sys::mount::{MountAttr, RDONLY, mount_setattr};
use crate::sys::private_mounts;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ViewOptions {
    /// Of a running container: its init, whose own mounts are seen, or who holds its root somewhere else.
    pub process: Option<Process>,
    /// Used when there is no process.
    pub overlay: Overlay,
    /// Binds and volumes, used like `overlay`; in the order in which they are mounted.
    #[serde(default)]
    pub mounts: Vec<ViewMount>,
    /// The root filesystem of the container is read-only.
    #[serde(default)]
    pub read_only: bool,
    /// Mounts the writable layer as such, which the caller must own: needed to write, and for mount points that a
    /// container which never ran does not have yet. Otherwise a container that is started meanwhile is not disturbed.
    #[serde(default)]
    pub writable: bool,
    /// Made where it is missing, as the first start of the container will.
    pub working_dir: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    pub pid: i32,
    pub start_time: u64,
    /// Where the root of the container is in that process's mount namespace, without what is mounted in the container.
    pub root: Option<String>,
}

impl Process {
    /// Its mount namespace; None when it has ended.
    pub fn mounts(&self) -> rustix::io::Result<Option<OwnedFd>> {
        let path = format!("/proc/{}/ns/mnt", self.pid);
        let namespace = match openat(CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
            other => other?,
        };
        // compared after the opening: what was opened is of that process and no other
        Ok(start_time(self.pid).is_ok_and(|start| start == self.start_time).then_some(namespace))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ViewMount {
    pub source: String,
    /// A part of the source; empty for all of it.
    #[serde(default)]
    pub subpath: String,
    pub destination: String,
    #[serde(default)]
    pub read_only: bool,
}

/// An fd of the root. The calling thread must be one that ends with the work: where the view is composed it gets a mount
/// namespace of its own, and the mounts in it last as long as the thread.
pub(super) fn open(options: &ViewOptions) -> Result<OwnedFd> {
    match &options.process {
        Some(process) if process.root.is_none() => running(process),
        _ => composed(options),
    }
}

fn gone(process: &Process) -> Failure {
    Failure::new(Kind::Gone, "open root", format!("process {} has ended", process.pid))
}

/// The start time is compared after the opening: what was opened is of that process and no other.
fn running(process: &Process) -> Result<OwnedFd> {
    let path = format!("/proc/{}/root", process.pid);
    let root = openat(CWD, &*path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    if start_time(process.pid).map_err(|_| gone(process))? != process.start_time {
        return Err(gone(process));
    }
    root.context("open", path)
}

/// Of its parts, as a container would be started with them.
fn composed(options: &ViewOptions) -> Result<OwnedFd> {
    let place = options.overlay.upper.as_str();
    if let Some(process) = &options.process {
        let namespace = process.mounts().context("open the mounts of", process.pid)?.ok_or_else(|| gone(process))?;
        private_mounts::join(namespace.as_fd()).context("enter the mounts of", process.pid)?;
    }
    private_mounts::enter().context("enter a mount namespace for", place)?;
    let root = match options.process.as_ref().and_then(|process| process.root.as_deref()) {
        // the kernel forbids a second overlay over a writable layer in use
        Some(path) => bind_source(path, "", false)?,
        None => match read_only_root(options)? {
            Some(root) => root,
            None => overlay::make(&options.overlay)?,
        },
    };
    // any directory does as the place: in this namespace nobody needs it
    let target = openat(CWD, place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    attach(&root, &target.context("open", place)?).context("attach root at", place)?;
    for mount in &options.mounts {
        bind(&root, mount)?;
    }
    if let Some(dir) = &options.working_dir {
        unless_read_only(make_target(root.as_fd(), dir, Want::Directory))?;
    }
    if options.read_only {
        let read_only = MountAttr { set: RDONLY, ..MountAttr::default() };
        mount_setattr(root.as_fd(), false, &read_only).context("make read-only", "/")?;
    }
    Ok(root)
}

/// The layers over each other, the writable one only read. None before Linux 6.7, where such a mount cannot be moved.
fn read_only_root(options: &ViewOptions) -> Result<Option<OwnedFd>> {
    if options.writable {
        return Ok(None);
    }
    let layers: Vec<PathBuf> =
        std::iter::once(&options.overlay.upper).chain(&options.overlay.lower).map(PathBuf::from).collect();
    let root = super::super::view::open(&layers)?;
    let place =
        openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context("open", "/")?;
    Ok(attach(&root, &place).is_ok().then_some(root))
}

fn attach(mount: &OwnedFd, target: &OwnedFd) -> rustix::io::Result<()> {
    move_mount(mount, "", target, "", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)
}

fn bind(root: &OwnedFd, mount: &ViewMount) -> Result<()> {
    let tree = bind_source(&mount.source, &mount.subpath, true)?;
    if mount.read_only {
        let read_only = MountAttr { set: RDONLY, ..MountAttr::default() };
        mount_setattr(tree.as_fd(), true, &read_only).context("make read-only", &mount.source)?;
    }
    let kind = FileType::from_raw_mode(fstat(&tree).context("stat", &mount.source)?.st_mode);
    let want = if kind == FileType::Directory { Want::Directory } else { Want::File };
    let Some(target) = unless_read_only(make_target(root.as_fd(), &mount.destination, want))? else { return Ok(()) };
    attach(&tree, &target).context("mount", &mount.destination)
}

/// None where it was to be made on what is read-only.
fn unless_read_only(made: Result<OwnedFd>) -> Result<Option<OwnedFd>> {
    match made {
        Err(failure) if failure.errno == Some(libc::EROFS) => Ok(None),
        other => other.map(Some),
    }
}
