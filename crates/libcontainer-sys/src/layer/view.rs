//! The files of an image as a container would see them, or of a container as it does, without a mount that anyone else can
//! see.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, mount, open_tree,
};

use super::archive::Process;
use super::error::{LayerError, Result, system};
use crate::sys::private_mounts;

/// An fd of the root of `layers` (the top one first) laid over each other, read-only. It holds the mount: that ends with
/// the fd.
pub(super) fn open(layers: &[PathBuf]) -> Result<OwnedFd> {
    let fds: Vec<OwnedFd> = layers.iter().map(|layer| directory(layer)).collect::<Result<_>>()?;
    let path = layers.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
    match fds.len() {
        0 => Err(LayerError::Invalid { op: "view", path: String::new(), reason: "an image without layers".into() }),
        // Overlay wants two; one needs no overlay.
        1 => Ok(fds.into_iter().next().expect("there is one")),
        // Before 6.7 there is no `lowerdir+`; 6.1 takes it and only then fails.
        _ => match by_mount_api(&fds) {
            Err(Errno::INVAL | Errno::NOSYS) => in_private_namespace(layers),
            other => other.map_err(system("mount an overlay of", path.as_os_str().as_bytes())),
        },
    }
}

/// An fd of the root filesystem of a running container, without what is mounted in it: a copy of the container's own mount,
/// since the kernel forbids a second overlay over a writable layer in use. None when that process has ended.
pub(super) fn of_process(process: &Process) -> Result<Option<OwnedFd>> {
    let of = process.pid.to_string();
    let namespace = process.mounts().map_err(system("open the mounts of", of.as_bytes()))?;
    let Some(namespace) = namespace else { return Ok(None) };
    let root = process.root.as_deref().unwrap_or("/");
    let copy = || {
        private_mounts::join(namespace.as_fd()).map_err(system("enter the mounts of", of.as_bytes()))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(CWD, root, flags).map_err(system("copy the root mount of", of.as_bytes()))
    };
    let result = thread::scope(|scope| scope.spawn(copy).join());
    result.unwrap_or_else(|_| Err(system("enter the mounts of", of.as_bytes())(Errno::IO))).map(Some)
}

fn directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(system("open", path.as_os_str().as_bytes()))
}

/// Short whatever the path: fsconfig takes 255 bytes, mount(2) a page for all.
fn name(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn by_mount_api(layers: &[OwnedFd]) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers {
        fsconfig_set_string(&context, "lowerdir+", name(layer))?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// The mount is made where only a thread that ends at once can see it; the fd outlives the namespace.
fn in_private_namespace(layers: &[PathBuf]) -> Result<OwnedFd> {
    let point = layers[0].as_path();
    let mount_there = || {
        private_mounts::enter().map_err(system("enter a mount namespace for", point.as_os_str().as_bytes()))?;
        // Opened here: the kernel takes no directories of another mount namespace.
        let fds: Vec<OwnedFd> = layers.iter().map(|layer| directory(layer)).collect::<Result<_>>()?;
        let names: Vec<String> = fds.iter().map(name).collect();
        // Any directory does as the place: in this namespace nobody needs it.
        std::ffi::CString::new(format!("lowerdir={}", names.join(":")))
            .map_err(|_| Errno::INVAL)
            .and_then(|options| mount("overlay", point, "overlay", MountFlags::RDONLY, options.as_c_str()))
            .map_err(system("mount an overlay on", point.as_os_str().as_bytes()))?;
        directory(point)
    };
    let result = thread::scope(|scope| scope.spawn(mount_there).join());
    result.unwrap_or_else(|_| Err(system("mount an overlay on", point.as_os_str().as_bytes())(Errno::IO)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::testing::Scratch;
    use rustix::fs::{FileType, makedev, mknodat};

    /// Both ways show the same: the upper file, the lower file, and not the whited-out one.
    #[test]
    fn both_ways_show_the_layers_over_each_other() {
        let scratch = Scratch::new("view");
        let layers = [scratch.path("upper"), scratch.path("lower")];
        for layer in &layers {
            std::fs::create_dir(layer).unwrap();
        }
        std::fs::write(layers[1].join("kept"), "lower").unwrap();
        std::fs::write(layers[1].join("both"), "lower").unwrap();
        std::fs::write(layers[1].join("gone"), "lower").unwrap();
        std::fs::write(layers[0].join("both"), "upper").unwrap();
        mknodat(CWD, layers[0].join("gone"), FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
        let fds: Vec<OwnedFd> = layers.iter().map(|layer| directory(layer).unwrap()).collect();
        let by_api = match by_mount_api(&fds) {
            Err(Errno::INVAL | Errno::NOSYS) if !crate::host::probe().overlay_lowerdir_plus => None,
            view => Some(view.unwrap()),
        };
        for view in by_api.into_iter().chain([in_private_namespace(&layers).unwrap()]) {
            let root = PathBuf::from(name(&view));
            assert_eq!(std::fs::read_to_string(root.join("kept")).unwrap(), "lower");
            assert_eq!(std::fs::read_to_string(root.join("both")).unwrap(), "upper");
            assert!(!root.join("gone").exists());
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(layers[0].to_str().unwrap()), "a mount is left on the host");
    }
}
