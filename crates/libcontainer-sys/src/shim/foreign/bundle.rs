//! The bundle of a foreign runtime: the root and what else must be mounted for it, in the shim's own mount namespace, and a
//! config.json without what is beyond the specification.

use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, fstat, openat, statx};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};

use super::super::bootstrap::NOFILE;
use super::super::config::ContainerConfig;
use crate::failure::{Context, Failure, Kind, Result};
use crate::init::user;
use crate::rootfs::{self, options::MountOptions, overlay};
use crate::spec::{Mount, Rootfs, UserSpec};
use crate::sys::mount::own_namespace;

/// Some runtimes take no later one, crun 1.8 for example, though they know what is newer.
const VERSION: &str = "1.0.2";
/// Where Docker puts its own.
pub const INIT: &str = "/sbin/docker-init";

pub struct Bundle {
    path: PathBuf,
    root: OwnedFd,
}

impl Bundle {
    /// Parts the process from the host's mounts: what it mounts goes with it.
    pub fn make(config: &ContainerConfig, text: &[u8], netns: Option<BorrowedFd>) -> Result<Self> {
        let path = config.state_dir.join("bundle");
        let directory = |path: &Path| DirBuilder::new().mode(0o700).create(path).context("mkdir", path.display());
        directory(&path)?;
        directory(&path.join("rootfs"))?;
        directory(&path.join("mounts"))?;
        own_namespace().context("unshare", "mount namespace")?;
        keep_here(&path)?;
        let overlay = match &config.rootfs {
            Rootfs::Overlay(overlay) => overlay,
            Rootfs::Path(path) => return Err(Failure::invalid("root", format!("{path}: not an overlay"))),
        };
        // older kernels make it there first
        keep_here(Path::new(&overlay.upper))?;
        let root = overlay::make(overlay)?;
        attach(root.as_fd(), &path.join("rootfs"))?;
        let bundle = Self { path, root };
        let mut whole: Value =
            serde_json::from_slice(text).map_err(|error| Failure::invalid("config", error.to_string()))?;
        let mut spec = whole["spec"].take();
        bundle.write_spec(&mut spec, config, netns)?;
        let file = bundle.path.join("config.json");
        std::fs::write(&file, spec.to_string()).context("write", file.display())?;
        Ok(bundle)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of the container, without what is mounted in it.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    fn write_spec(&self, spec: &mut Value, config: &ContainerConfig, netns: Option<BorrowedFd>) -> Result<()> {
        spec["ociVersion"] = json!(VERSION);
        spec["root"]["path"] = json!("rootfs");
        if let Some(linux) = spec["linux"].as_object_mut() {
            linux.remove("seccompFile");
        }
        if let (Some(netns), Some(list)) = (netns, spec["linux"]["namespaces"].as_array_mut()) {
            let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
            list.retain(|namespace| namespace["type"] != "network");
            list.push(json!({ "type": "network", "path": path }));
        }
        let mounts = spec["mounts"].as_array_mut();
        for (at, (mount, value)) in config.spec.mounts.iter().zip(mounts.into_iter().flatten()).enumerate() {
            if let Some(source) = self.own_source(at, mount)? {
                value["source"] = json!(source);
            }
            if let Some(mount) = value.as_object_mut() {
                ["subpath", "layers", "process"].iter().for_each(|key| drop(mount.remove(*key)));
            }
        }
        if config.init {
            self.put_init_in(spec)?;
        }
        complete(&mut spec["process"], self.root(), &config.process)
    }

    /// Attaches the source of a bind that the specification has no words for.
    fn own_source(&self, at: usize, mount: &Mount) -> Result<Option<PathBuf>> {
        if mount.subpath.is_empty() && mount.layers.is_empty() && mount.process.is_none() {
            return Ok(None);
        }
        let tree = rootfs::tree_of(mount, MountOptions::parse(&mount.options)?.recursive)?;
        let place = self.path.join("mounts").join(at.to_string());
        match FileType::from_raw_mode(fstat(&tree).context("stat", &mount.source)?.st_mode) {
            FileType::Directory => std::fs::create_dir(&place).context("mkdir", place.display())?,
            _ => drop(File::create(&place).context("create", place.display())?),
        }
        attach(tree.as_fd(), &place)?;
        Ok(Some(place))
    }

    /// A copy of this program, which the container can do with as it likes.
    fn put_init_in(&self, spec: &mut Value) -> Result<()> {
        let copy = self.path.join("docker-init");
        std::fs::copy("/proc/self/exe", &copy).context("copy", copy.display())?;
        rustix::fs::chmod(&copy, Mode::from_raw_mode(0o755)).context("chmod", copy.display())?;
        if let Some(mounts) = spec["mounts"].as_array_mut() {
            let options = ["bind", "ro", "rprivate"];
            mounts.push(json!({ "destination": INIT, "type": "bind", "source": copy, "options": options }));
        }
        if let Some(args) = spec["process"]["args"].as_array_mut() {
            args.splice(..0, [json!(INIT), json!("--")]);
        }
        Ok(())
    }
}

/// The user by numbers, out of the container's own files, and the limits that a container has where nothing else is asked.
pub fn complete(process: &mut Value, root: BorrowedFd, user: &UserSpec) -> Result<()> {
    let identity = user::resolve_in(root, user)?;
    process["user"]["uid"] = json!(identity.uid);
    process["user"]["gid"] = json!(identity.gid);
    process["user"]["additionalGids"] = json!(identity.groups);
    let mut rlimits = process["rlimits"].as_array().cloned().unwrap_or_default();
    for limit in &mut rlimits {
        for key in ["soft", "hard"] {
            // JavaScript has no number for it
            if limit[key] == -1 {
                limit[key] = json!(u64::MAX);
            }
        }
    }
    if !rlimits.iter().any(|limit| limit["type"] == "RLIMIT_NOFILE") {
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(NOFILE.1);
        rlimits.push(json!({ "type": "RLIMIT_NOFILE", "soft": NOFILE.0.min(hard), "hard": hard }));
    }
    process["rlimits"] = json!(rlimits);
    Ok(())
}

fn attach(tree: BorrowedFd, place: &Path) -> Result<()> {
    let target = openat(CWD, place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("open", place.display())?;
    rootfs::attach(tree, target.as_fd()).context("attach at", place.display())
}

/// What is mounted on the filesystem of `path` from now on does not show on the host. Its other mounts keep their tie, so that
/// binds with `rshared` and `rslave` mean what they say.
fn keep_here(path: &Path) -> Result<()> {
    let id = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).context("statx", path.display())?.stx_mnt_id;
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("read", "/proc/self/mountinfo")?;
    let place = table.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.next()?.parse() == Ok(id)).then(|| fields.nth(3).map(unescape))?
    });
    let place = place.ok_or_else(|| {
        Failure::new(Kind::System, "mountinfo", format!("{}: its mount is not in the table", path.display()))
    })?;
    mount_change(&*place, MountPropagationFlags::DOWNSTREAM).context("make slave", &place)
}

/// Octal digits stand for what would divide fields or lines.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .into_iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_the_kernel_writes_them() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
    }
}
