//! What of the host goes into a container: detached copies of its trees, made by the creator, who has the rights to reach them
//! (a user namespace has not) and before propagation is cut: `rslave` and `rshared` need the tie to the host.

use super::options::{IdMap, MountOptions};
use super::overlay;
use super::target::open_in_root;
use crate::failure::{Context, Failure, Result};
use crate::spec::{Mount, NamespaceKind, Rootfs, Spec};
use crate::sys::mount::{IDMAP, MountAttr, clone_tree, mount_setattr};
use crate::user_namespace;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::process::{chroot, fchdir};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub struct Sources {
    /// None with an overlay, which init makes itself.
    pub root: Option<OwnedFd>,
    /// For each mount its source, when it is a bind.
    pub binds: Vec<Option<Bind>>,
}

pub enum Bind {
    Tree(OwnedFd),
    /// In the container's own root, where an earlier mount may have brought it: opened when its turn comes.
    Inside {
        path: String,
        recursive: bool,
        ids: Option<(OwnedFd, IdMap)>,
    },
    /// Layers over each other: init makes them, as it makes the root.
    Layers,
}

impl Sources {
    pub fn open(spec: &Spec, rootfs: &Rootfs) -> Result<Self> {
        let (root, root_path) = match rootfs {
            Rootfs::Overlay(_) => (None, None),
            Rootfs::Path(path) => {
                let source = CString::new(path.as_str()).context("root", path)?;
                (Some(clone_tree(None, &source, true).context("open root", path)?), Some(path.as_str()))
            }
        };
        let binds = spec.mounts.iter().enumerate();
        let binds = binds.map(|(at, mount)| bind(spec, at, mount, root_path)).collect::<Result<_>>()?;
        Ok(Self { root, binds })
    }

    /// What init cannot do in a user namespace: maps the ids of the tree that it has found for the mount `at`.
    pub fn map_inside(&self, at: usize, tree: BorrowedFd) -> Result<()> {
        match self.binds.get(at) {
            Some(Some(Bind::Inside { path, ids: Some(ids), .. })) => map_ids(tree, ids).context("map the ids of", path),
            _ => Err(Failure::invalid("mount", format!("/mounts/{at}: has no ids to be mapped"))),
        }
    }
}

fn bind(spec: &Spec, at: usize, mount: &Mount, root: Option<&str>) -> Result<Option<Bind>> {
    let options = MountOptions::parse(&mount.options)?;
    let mapped = options.id_map.is_some() || !mount.uid_mappings.is_empty();
    if !options.bind && mount.kind != "bind" {
        return match mapped {
            true => Err(Failure::invalid("mount", format!("/mounts/{at}: only binds can be id-mapped"))),
            false => Ok(None),
        };
    }
    let reach = options.id_map.unwrap_or(IdMap::Single);
    let ids = if mapped { Some((id_namespace(spec, at, mount)?, reach)) } else { None };
    if let Some(path) = root
        .and_then(|root| mount.source.strip_prefix(root))
        .filter(|rest| rest.starts_with('/') && mount.subpath.is_empty())
    {
        return Ok(Some(Bind::Inside { path: path.to_owned(), recursive: options.recursive, ids }));
    }
    if !mount.layers.is_empty() {
        return Ok(Some(Bind::Layers));
    }
    let tree = tree_of(mount, options.recursive)?;
    if let Some(ids) = &ids {
        map_ids(tree.as_fd(), ids).context("map the ids of", &mount.source)?;
    }
    Ok(Some(Bind::Tree(tree)))
}

/// A detached copy of the source of a bind, whatever it is called by.
pub fn tree_of(mount: &Mount, recursive: bool) -> Result<OwnedFd> {
    match mount.process {
        Some(process) => source_of_another(process, &mount.source, recursive),
        None if !mount.layers.is_empty() => overlay::view(&mount.layers, &mount.subpath),
        None => bind_source(&mount.source, &mount.subpath, recursive),
    }
}

/// Links in the root lead nowhere outside of it.
pub fn open_inside(root: BorrowedFd, path: &str, recursive: bool) -> Result<OwnedFd> {
    let found = open_in_root(root, path).context("open bind source", path)?;
    clone_tree(Some(found.as_fd()), c"", recursive).context("open bind source", path)
}

fn map_ids(tree: BorrowedFd, (namespace, reach): &(OwnedFd, IdMap)) -> std::io::Result<()> {
    let attr = MountAttr { set: IDMAP, userns_fd: namespace.as_raw_fd() as u64, ..MountAttr::default() };
    mount_setattr(tree, *reach == IdMap::Recursive, &attr)
}

/// A detached copy of the tree at `path`, or of what `subpath` is in it: looked up by the kernel below `path`, as a
/// container that writes there may have put symlinks in the way.
pub fn bind_source(path: &str, subpath: &str, recursive: bool) -> Result<OwnedFd> {
    let source = CString::new(path).context("bind source", path)?;
    if subpath.is_empty() {
        return clone_tree(None, &source, recursive).context("open bind source", path);
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let whole = openat(CWD, &*source, flags, Mode::empty()).context("open bind source", path)?;
    let part = open_part(whole.as_fd(), path, subpath)?;
    clone_tree(Some(part.as_fd()), c"", recursive).context("open bind source", format!("{path}/{subpath}"))
}

/// `path` is what `whole` is called.
pub fn open_part(whole: BorrowedFd, path: &str, subpath: &str) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match openat2(whole, subpath, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Err(Errno::XDEV) => {
            let message = format!("path concatenation escapes the base directory, base: {path}, subpath: {subpath}");
            Err(Failure::invalid("bind", message))
        }
        other => other.context("cannot access path", format!("{path}/{subpath}")),
    }
}

/// `path` as the process sees it, in its own mount namespace: the kernel copies only trees of the caller's. For a program of
/// one thread, which is there only for that moment.
fn source_of_another(process: i32, path: &str, recursive: bool) -> Result<OwnedFd> {
    let open = |path: &str, flags| openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).context("open", path);
    let theirs = open(&format!("/proc/{process}/ns/mnt"), OFlags::RDONLY)?;
    let ours = open("/proc/self/ns/mnt", OFlags::RDONLY)?;
    let (root, here) = (open("/", OFlags::PATH)?, open(".", OFlags::PATH)?);
    let source = CString::new(path).context("bind source", path)?;
    let enter = |namespace: &OwnedFd| move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount));
    enter(&theirs).context("enter the mount namespace of", process.to_string())?;
    let tree = clone_tree(None, &source, recursive).context("open bind source", path);
    enter(&ours)
        .and_then(|()| fchdir(&root))
        .and_then(|()| chroot("."))
        .and_then(|()| fchdir(&here))
        .context("return to", "/")?;
    tree
}

/// With the mount's own maps, or the container's, who may have joined the namespace of others.
fn id_namespace(spec: &Spec, at: usize, mount: &Mount) -> Result<OwnedFd> {
    if !mount.uid_mappings.is_empty() {
        return user_namespace::holding(&mount.uid_mappings, &mount.gid_mappings);
    }
    match spec.namespace(NamespaceKind::User) {
        Some(namespace) if namespace.path.is_empty() => {
            user_namespace::holding(&spec.linux.uid_mappings, &spec.linux.gid_mappings)
        }
        Some(joined) => openat(CWD, joined.path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .context("open namespace", &joined.path),
        None => {
            let message = format!("/mounts/{at}/options: idmap needs uidMappings, here or in a user namespace");
            Err(Failure::invalid("mount", message))
        }
    }
}
