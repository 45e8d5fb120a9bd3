//! The root filesystem of a container, built inside its own new mount namespace: nothing of it is ever mounted on the host.
//!
//! Order: sources of binds are opened by the creator; then, in the new namespace, everything is made private, the root is attached,
//! the mounts follow in the order of the configuration, then devices, sysctls, masks, and pivot_root.
//!
//! In a mount namespace of others, or the host's, which only the command line of the runtime allows, all is mounted there, and the
//! process moves to its root by chroot.

mod bind;
mod cgroups;
mod copy_up;
mod devices;
mod enter;
mod masks;
pub mod options;
pub mod overlay;
pub mod procfs;
mod sources;
pub mod target;

use crate::cgroup::Cgroup;
use crate::failure::{Context, Failure, Result};
use crate::spec::{Mount, NamespaceKind, Rootfs, Spec};
use crate::sys::mount::{MountAttr, RDONLY, mount_setattr};
use crate::user_namespace;
use options::MountOptions;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, fstat, makedev, openat, openat2,
    statx,
};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
#[cfg(feature = "layer")]
pub use sources::bind_source;
pub use sources::{Bind, Sources, tree_of};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use target::{Want, make_target, open_in_root, open_ordinary};

/// The two ends of a container's terminal.
pub struct Console {
    pub master: OwnedFd,
    pub peer: OwnedFd,
}

/// What the caller of `enter` decides.
pub struct Entry<'a> {
    pub spec: &'a Spec,
    pub rootfs: &'a Rootfs,
    pub sources: &'a Sources,
    pub cgroup: &'a dyn Cgroup,
    pub no_pivot: bool,
    /// Maps the ids of a bind (by its place in the mounts) that was found in the root: the creator must do it.
    pub map_ids: &'a dyn Fn(usize, BorrowedFd) -> Result<()>,
}

/// Builds the root and moves into it; `before_pivot` is called when everything stands and the host's files can still be
/// reached. Gives the terminal's ends when one was asked for.
pub fn enter(entry: &Entry, before_pivot: impl FnOnce() -> Result<()>) -> Result<Option<Console>> {
    let spec = entry.spec;
    // one of the container's own, or that of its creator, as with podman of an ordinary user
    let in_user_namespace = spec.namespace(NamespaceKind::User).is_some() || user_namespace::is_inner();
    let own_mounts = spec.has_new(NamespaceKind::Mount);
    if own_mounts {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).context("make private", "/")?;
    }
    let root = attach_root(entry)?;
    let mut dev_is_bind = false;
    let mut read_only_dev = None;
    for (at, (mount, bind)) in spec.mounts.iter().zip(&entry.sources.binds).enumerate() {
        let mut options = MountOptions::parse(&mount.options)?;
        let is_dev = mount.destination.trim_end_matches('/') == "/dev";
        dev_is_bind |= is_dev && bind.is_some();
        if is_dev && bind.is_none() && options.attr.set & RDONLY != 0 {
            // devices and mount points come into it first
            options.attr.set &= !RDONLY;
            read_only_dev = Some(&mount.destination);
        }
        match bind {
            Some(Bind::Tree(source)) => attach_bind(root.as_fd(), mount, &options, source, in_user_namespace)?,
            Some(Bind::Inside { path, recursive, ids }) => {
                let source = sources::open_inside(root.as_fd(), path, *recursive)?;
                if ids.is_some() {
                    (entry.map_ids)(at, source.as_fd())?;
                }
                attach_bind(root.as_fd(), mount, &options, &source, false)?;
            }
            Some(Bind::Layers) => {
                let source = overlay::view(&mount.layers, &mount.subpath)?;
                attach_bind(root.as_fd(), mount, &options, &source, in_user_namespace)?;
            }
            None if mount.kind == "cgroup" || mount.kind == "cgroup2" => {
                cgroups::mount(root.as_fd(), mount, &options, entry.cgroup)?;
            }
            None => attach_filesystem(root.as_fd(), mount, &options, &spec.linux.mount_label)?,
        }
    }
    let console = if spec.process.terminal { Some(open_console(root.as_fd())?) } else { None };
    if !dev_is_bind {
        // nodes cannot be made in a user namespace
        devices::make_all(root.as_fd(), &spec.linux.devices, console.as_ref(), in_user_namespace)?;
    }
    if let Some(place) = read_only_dev {
        let dev = open_in_root(root.as_fd(), place).context("open", place)?;
        mount_setattr(dev.as_fd(), false, &MountAttr { set: RDONLY, ..MountAttr::default() })
            .context("make read-only", place)?;
    }
    procfs::write_sysctls(root.as_fd(), spec)?;
    masks::read_only(root.as_fd(), &spec.linux.readonly_paths)?;
    masks::mask(root.as_fd(), &spec.linux.masked_paths)?;
    // made now, while the root can be written; what cannot be made is told by whoever goes there
    let _ = make_target(root.as_fd(), &spec.process.cwd, Want::Directory);
    rustix::process::fchdir(&root).context("fchdir", "root")?;
    before_pivot()?;
    if spec.root.as_ref().is_some_and(|root| root.readonly) {
        mount_setattr(root.as_fd(), false, &MountAttr { set: RDONLY, ..MountAttr::default() })
            .context("make read-only", "/")?;
    }
    match (own_mounts, entry.no_pivot) {
        (true, false) => enter::pivot(root.as_fd())?,
        (true, true) => enter::move_over(root.as_fd())?,
        (false, _) => enter::change_root()?,
    }
    enter::set_propagation(&spec.linux.rootfs_propagation)?;
    Ok(console)
}

fn attach_root(entry: &Entry) -> Result<OwnedFd> {
    let (root, place) = match (entry.rootfs, &entry.sources.root) {
        (Rootfs::Overlay(overlay), _) => (overlay::make(overlay)?, overlay.upper.as_str()),
        (Rootfs::Path(path), Some(root)) => (rustix::io::dup(root).context("dup", "root")?, path.as_str()),
        (Rootfs::Path(path), None) => return Err(Failure::invalid("root", format!("{path}: was not opened"))),
    };
    // Any directory does: the namespace is the container's own, and pivot_root leaves the place behind. Hooks of the
    // container's namespace look for the root where its path says.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = match openat(CWD, place, flags, Mode::empty()) {
        // out of a user namespace not every path can be walked
        Err(rustix::io::Errno::ACCESS) => openat(CWD, "/", flags, Mode::empty()),
        target => target,
    };
    attach(root.as_fd(), target.context("open", place)?.as_fd()).context("attach root at", place)?;
    mount_setattr(root.as_fd(), true, &MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() })
        .context("make private", "root")?;
    Ok(root)
}

/// Moves a detached mount onto the object of a descriptor.
pub fn attach(mount: BorrowedFd, target: BorrowedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

fn attach_bind(root: BorrowedFd, mount: &Mount, options: &MountOptions, source: &OwnedFd, locked: bool) -> Result<()> {
    let kind = FileType::from_raw_mode(fstat(source).context("stat", &mount.source)?.st_mode);
    let want = if kind == FileType::Directory { Want::Directory } else { Want::File };
    if let Some((propagation, recursive)) = options.propagation.or(Some((libc::MS_PRIVATE, true))) {
        mount_setattr(source.as_fd(), recursive, &MountAttr { propagation, ..MountAttr::default() })
            .context("set propagation of", &mount.source)?;
    }
    if options.attr != MountAttr::default() || options.atime_asked {
        bind::set_attributes(source.as_fd(), options, locked).context("set attributes of", &mount.source)?;
    }
    if options.recursive_attr != MountAttr::default() {
        mount_setattr(source.as_fd(), true, &options.recursive_attr).context("set attributes below", &mount.source)?;
    }
    let target = make_target(root, &mount.destination, want)?;
    let is_directory =
        FileType::from_raw_mode(fstat(&target).context("stat", &mount.destination)?.st_mode) == FileType::Directory;
    if is_directory != (want == Want::Directory) {
        let (a, b) = if is_directory { ("a file", "a directory") } else { ("a directory", "a file") };
        return Err(Failure::invalid(
            "bind",
            format!(
                "error mounting {:?} to rootfs at {:?}: {} is {a} and the mount point is {b}: not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type",
                mount.source, mount.destination, mount.source
            ),
        )
        .with_fix(
            "MOUNT_TYPE_MISMATCH",
            format!("mount {} at a path where the image has {a}, or where it has nothing", mount.source),
        ));
    }
    procfs::check_place(source, &target, &mount.destination)?;
    attach(source.as_fd(), target.as_fd()).context("mount", &mount.destination)
}

fn attach_filesystem(root: BorrowedFd, mount: &Mount, options: &MountOptions, label: &str) -> Result<()> {
    let was_there = open_in_root(root, &mount.destination).is_ok();
    let target = if mount.kind == "proc" || mount.kind == "sysfs" {
        if !was_there {
            make_target(root, &mount.destination, Want::Directory)?;
        }
        open_ordinary(root, &mount.destination).map_err(|error| Failure {
            message: format!(
                "filesystem {:?} must be mounted on ordinary directory: {}",
                mount.kind, mount.destination
            ),
            ..Failure::io("open mount point", &mount.destination, error)
        })?
    } else {
        make_target(root, &mount.destination, Want::Directory)?
    };
    let mut options = options.clone();
    if mount.kind == "tmpfs" && was_there && !options.data.iter().any(|(key, _)| key == "mode") {
        // the directory below keeps its mode, as /run and /tmp need it
        let mode = fstat(&target).context("stat", &mount.destination)?.st_mode & 0o7777;
        options.data.push(("mode".into(), Some(format!("{mode:o}"))));
    }
    if !label.is_empty() && mount.kind != "proc" && mount.kind != "sysfs" {
        options.data.push(("context".into(), Some(label.to_owned())));
    }
    // a mount point that is made here has nothing to give, and its mode is not the one of a tmpfs
    let below = (options.copy_up && was_there).then(|| copy_up::open(&target, mount)).transpose()?;
    let writable = MountAttr { set: options.attr.set & !RDONLY, ..options.attr };
    let first = MountOptions { attr: if below.is_some() { writable } else { options.attr }, ..options.clone() };
    let made = make_filesystem(&mount.kind, &mount.source, &first)?;
    procfs::check_place(&made, &target, &mount.destination)?;
    refuse_again(&made, &target, mount)?;
    attach(made.as_fd(), target.as_fd()).context("mount", &mount.destination)?;
    if let Some(below) = below {
        copy_up::copy(below.as_fd(), made.as_fd()).context("copy what lies below", &mount.destination)?;
        mount_setattr(made.as_fd(), false, &options.attr).context("set attributes of", &mount.destination)?;
    }
    if options.recursive_attr != MountAttr::default() {
        mount_setattr(made.as_fd(), true, &options.recursive_attr).context("set attributes of", &mount.destination)?;
    }
    if let Some((propagation, recursive)) = options.propagation {
        mount_setattr(made.as_fd(), recursive, &MountAttr { propagation, ..MountAttr::default() })
            .context("set propagation of", &mount.destination)?;
    }
    Ok(())
}

/// One filesystem (sysfs and mqueue are one for each namespace) twice at one place: mount(2) refuses it, move_mount does not.
fn refuse_again(made: &OwnedFd, target: &OwnedFd, mount: &Mount) -> Result<()> {
    let there = statx(target, "", AtFlags::EMPTY_PATH, StatxFlags::empty()).context("stat", &mount.destination)?;
    let same = fstat(made).context("stat", &mount.kind)?.st_dev == makedev(there.stx_dev_major, there.stx_dev_minor);
    if same && there.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        let (kind, place) = (&mount.kind, &mount.destination);
        return Err(Failure::invalid(
            "mount",
            format!("{place:?}: this {kind} is mounted there already: device or resource busy"),
        ));
    }
    Ok(())
}

/// A detached mount of a new filesystem.
fn make_filesystem(kind: &str, source: &str, options: &MountOptions) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).context("fsopen", kind)?;
    let fd = context.as_fd();
    if !source.is_empty() {
        fsconfig_set_string(fd, "source", source).context("fsconfig source", source)?;
    }
    for (key, value) in &options.data {
        match value {
            Some(value) => fsconfig_set_string(fd, key.as_str(), value.as_str()),
            None => fsconfig_set_flag(fd, key.as_str()),
        }
        .map_err(|error| Failure {
            message: format!("{kind} does not take the mount option {key:?}",),
            ..Failure::io("fsconfig", key, error)
        })?;
    }
    fsconfig_create(fd).context("create filesystem", kind)?;
    let attributes = MountAttrFlags::from_bits_retain(options.attr.set as u32);
    fsmount(fd, FsMountFlags::FSMOUNT_CLOEXEC, attributes).context("fsmount", kind)
}

/// The terminal comes from the container's own devpts, and its peer from the master itself: no name in the container's
/// /dev/pts is trusted (CVE-2025-52565).
pub fn open_console(root: BorrowedFd) -> Result<Console> {
    const PLACE: &str = "/dev/pts/ptmx";
    const DEVPTS_MAGIC: rustix::fs::FsWord = 0x1cd1;
    // no device at all but a terminal multiplexer: not even opened
    let found = open_in_root(root, PLACE).context("open", PLACE)?;
    let is_multiplexer = |fd: &OwnedFd| -> Result<bool> {
        let stat = fstat(fd).context("stat", PLACE)?;
        let magic = rustix::fs::fstatfs(fd).context("statfs", PLACE)?.f_type;
        Ok(magic == DEVPTS_MAGIC && (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) == (5, 2))
    };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let master = match is_multiplexer(&found)? {
        true => openat2(root, PLACE.trim_start_matches('/'), flags, Mode::empty(), resolve).context("open", PLACE)?,
        false => found,
    };
    if !is_multiplexer(&master)? {
        return Err(Failure::invalid("open terminal", "/dev/pts/ptmx in the container is not that of a devpts"));
    }
    rustix::io::ioctl_fionbio(&master, false).context("set blocking", PLACE)?;
    unlockpt(&master).context("unlock terminal", "")?;
    let peer = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .context("open peer of terminal", "")?;
    Ok(Console { master, peer })
}
