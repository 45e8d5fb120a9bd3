//! The overlay of a container, made as a detached mount.

use super::sources::{bind_source, open_part};
use crate::failure::{Context, Failure, Kind, Result};
use crate::spec::Overlay;
use crate::sys::mount::clone_tree;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, mount, unmount,
};
use std::os::fd::{AsFd, OwnedFd};

/// The kernel's limit (fs/overlayfs: OVL_MAX_STACK).
pub const MAX_LAYERS: usize = 500;

/// A detached overlay mount. Nothing is attached anywhere: when the descriptor goes, so does the mount.
pub fn make(overlay: &Overlay) -> Result<OwnedFd> {
    if overlay.lower.is_empty() || overlay.lower.len() > MAX_LAYERS {
        let message = format!("the image has {} layers; the kernel takes 1 to {MAX_LAYERS}", overlay.lower.len());
        return Err(Failure::invalid("overlay", message));
    }
    match with_mount_api(overlay) {
        // before 6.7 there is no lowerdir+, and 6.1 accepts the key and then fails at create
        Err(failure) if failure.errno == Some(libc::EINVAL) => with_mount(overlay),
        result => result,
    }
}

/// `layers` over each other, read-only, or what `subpath` is in it. In the caller's own (private) mount namespace.
pub fn view(layers: &[String], subpath: &str) -> Result<OwnedFd> {
    // an overlay without a writable layer wants two
    if let [layer] = layers {
        return bind_source(layer, subpath, false);
    }
    let lower = layers.to_vec();
    let whole = make(&Overlay { lower, upper: String::new(), work: String::new(), volatile: false })?;
    if subpath.is_empty() {
        return Ok(whole);
    }
    // before 6.15 only of what is attached a part can be taken: any directory does as the place for that moment
    let place = place_of(layers);
    let target = openat(CWD, place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("open", place)?;
    super::attach(whole.as_fd(), target.as_fd()).context("mount at", place)?;
    let part = open_part(whole.as_fd(), "/", subpath)
        .and_then(|part| clone_tree(Some(part.as_fd()), c"", false).context("open_tree", subpath));
    unmount(place, UnmountFlags::DETACH).context("umount", place)?;
    part
}

fn place_of(layers: &[String]) -> &str {
    layers.first().map_or("/", String::as_str)
}

fn with_mount_api(overlay: &Overlay) -> Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context("fsopen", "overlay")?;
    let fd = context.as_fd();
    for lower in &overlay.lower {
        fsconfig_set_string(fd, "lowerdir+", lower.as_str()).context("fsconfig lowerdir+", lower)?;
    }
    if !overlay.upper.is_empty() {
        fsconfig_set_string(fd, "upperdir", overlay.upper.as_str()).context("fsconfig upperdir", &overlay.upper)?;
        fsconfig_set_string(fd, "workdir", overlay.work.as_str()).context("fsconfig workdir", &overlay.work)?;
    }
    if overlay.volatile {
        fsconfig_set_flag(fd, "volatile").context("fsconfig volatile", "")?;
    }
    fsconfig_create(fd).context("create overlay over", &overlay.upper)?;
    fsmount(fd, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).context("fsmount overlay", &overlay.upper)
}

/// mount(2) takes one page of options: the layers are named relative to their common parent, from where they are short.
/// The mount is attached for a moment in the caller's own (private) mount namespace and taken off as a detached copy.
fn with_mount(overlay: &Overlay) -> Result<OwnedFd> {
    let base = common_parent(overlay);
    let short = |path: &str| path[base.len()..].trim_start_matches('/').to_owned();
    let here = openat(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("open", ".")?;
    rustix::process::chdir(&*base).context("chdir", &base)?;
    let lower: Vec<String> = overlay.lower.iter().map(|path| short(path)).collect();
    let mut data = format!("lowerdir={}", lower.join(":"));
    if !overlay.upper.is_empty() {
        data.push_str(&format!(",upperdir={},workdir={}", short(&overlay.upper), short(&overlay.work)));
    }
    if overlay.volatile {
        data.push_str(",volatile");
    }
    if data.len() >= 4096 {
        return Err(Failure::new(
            Kind::Unsupported,
            "mount overlay",
            format!(
                "{} layers need more than a page of mount options; Linux 6.7 or newer has no such limit",
                lower.len()
            ),
        ));
    }
    let target = if overlay.upper.is_empty() { place_of(&overlay.lower) } else { &overlay.upper };
    let data = std::ffi::CString::new(data).context("mount overlay", target)?;
    let made = match mount("overlay", target, "overlay", MountFlags::empty(), data.as_c_str()) {
        Ok(()) => clone_tree(None, &std::ffi::CString::new(target).context("open_tree", target)?, false)
            .context("open_tree", target)
            .and_then(|fd| {
                unmount(target, UnmountFlags::DETACH).context("umount", target)?;
                Ok(fd)
            }),
        Err(Errno::NODEV) => {
            Err(Failure::new(Kind::Unsupported, "mount overlay", "this kernel has no overlay filesystem"))
        }
        Err(error) => Err(Failure::io("mount overlay", target, error)),
    };
    rustix::process::fchdir(&here).context("fchdir", "")?;
    made
}

fn common_parent(overlay: &Overlay) -> String {
    let mut paths = overlay.lower.iter().chain([&overlay.upper, &overlay.work]).filter(|path| !path.is_empty());
    let mut base = paths.next().cloned().unwrap_or_default();
    for path in paths {
        let same = base.bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count();
        base.truncate(same);
    }
    base.truncate(base.rfind('/').map_or(0, |at| at.max(1)));
    base
}
