//! What of a specification makes no sense, and what nothing here carries out: told by its JSON pointer before anything is made.

use super::{IdMapping, NamespaceKind, Process, Spec};
use crate::failure::{Context, Failure, Kind, Result};
use crate::init::limits;
use crate::resctrl;
use crate::rootfs::procfs::sysctl_owner;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A document of the specification; a failure says where in it (`/process/args/2: …`). Fields that are null count as absent, as
/// Go writes empty lists so.
pub fn read<T: DeserializeOwned>(bytes: &[u8], name: &str) -> Result<(Value, T)> {
    let mut value: Value =
        serde_json::from_slice(bytes).map_err(|error| Failure::invalid("config", format!("{name}: {error}")))?;
    drop_nulls(&mut value);
    let parsed = from_value(&value).map_err(|failure| Failure::invalid("config", format!("{name}: {failure}")))?;
    Ok((value, parsed))
}

fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        use serde_path_to_error::Segment;
        let pointer: String = error
            .path()
            .iter()
            .map(|segment| match segment {
                Segment::Seq { index } => format!("/{index}"),
                Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
                Segment::Enum { .. } | Segment::Unknown => String::new(),
            })
            .collect();
        Failure::invalid("config", format!("{}: {}", if pointer.is_empty() { "/" } else { &pointer }, error.inner()))
    })
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Of a UTS namespace.
const NAME_BYTES: usize = 64;

const PROPAGATIONS: [&str; 5] = ["", "shared", "slave", "private", "unbindable"];

impl Spec {
    pub fn check(&self) -> Result<()> {
        self.check_version()?;
        self.check_namespaces()?;
        self.check_mappings()?;
        self.check_hooks()?;
        if let Some(at) = self.mounts.iter().position(|mount| mount.destination.is_empty()) {
            return Err(invalid(format!("/mounts/{at}/destination: is empty")));
        }
        if self.root.as_ref().is_some_and(|root| root.path.is_empty()) {
            return Err(invalid("/root/path: is empty"));
        }
        for (pointer, name) in [("/hostname", &self.hostname), ("/domainname", &self.domainname)] {
            if name.len() > NAME_BYTES {
                return Err(invalid(format!("{pointer}: {} bytes; the kernel takes {NAME_BYTES}", name.len())));
            }
        }
        let propagation = self.linux.rootfs_propagation.as_str();
        if !PROPAGATIONS.contains(&propagation.strip_prefix('r').unwrap_or(propagation)) {
            return Err(invalid(format!("/linux/rootfsPropagation: {propagation:?} is not known")));
        }
        if !self.linux.mount_label.is_empty() && !crate::host::selinux() {
            return Err(missing("/linux/mountLabel", "SELinux"));
        }
        self.linux.intel_rdt.as_ref().map_or(Ok(()), resctrl::check)?;
        self.check_net_devices()?;
        self.process.check()
    }

    pub fn namespace(&self, kind: NamespaceKind) -> Option<&super::Namespace> {
        self.linux.namespaces.iter().find(|ns| ns.kind == kind)
    }

    /// The path of the root, which is relative to the bundle.
    pub fn root_in(&self, bundle: &Path) -> Option<PathBuf> {
        self.root.as_ref().map(|root| bundle.join(&root.path))
    }

    /// A namespace that the container gets for itself, not one that it joins.
    pub fn has_new(&self, kind: NamespaceKind) -> bool {
        self.namespace(kind).is_some_and(|ns| ns.path.is_empty())
    }

    fn check_version(&self) -> Result<()> {
        let numbers = self.oci_version.split(['-', '+']).next().unwrap_or_default();
        let parts: Vec<Option<u32>> = numbers.split('.').map(|part| part.parse().ok()).collect();
        match parts.as_slice() {
            [Some(1), Some(_), Some(_)] => Ok(()),
            [Some(_), Some(_), Some(_)] => {
                let message = format!("/ociVersion: {:?} is not supported: versions 1.x are", self.oci_version);
                Err(Failure::new(Kind::Unsupported, "config", message))
            }
            _ => Err(invalid(format!("/ociVersion: {:?} is not a version", self.oci_version))),
        }
    }

    fn check_namespaces(&self) -> Result<()> {
        let namespaces = &self.linux.namespaces;
        for (at, namespace) in namespaces.iter().enumerate() {
            if namespaces[..at].iter().any(|other| other.kind == namespace.kind) {
                return Err(invalid(format!("/linux/namespaces/{at}: a second {:?} namespace", namespace.kind)));
            }
            if !namespace.path.is_empty() && !namespace.path.starts_with('/') {
                let message = format!("/linux/namespaces/{at}/path: {:?} is not absolute", namespace.path);
                return Err(invalid(message));
            }
        }
        for (pointer, name) in [("/hostname", &self.hostname), ("/domainname", &self.domainname)] {
            if !name.is_empty() && self.namespace(NamespaceKind::Uts).is_none() {
                // it would be the host that gets the name
                let message = format!("{pointer}: unable to set {} without a private UTS namespace", &pointer[1..]);
                return Err(invalid(message));
            }
        }
        self.check_sysctl_owners()?;
        if !self.linux.time_offsets.is_empty() && !self.has_new(NamespaceKind::Time) {
            return Err(invalid("/linux/timeOffsets: needs a time namespace of the container's own"));
        }
        if let Some(clock) =
            self.linux.time_offsets.keys().find(|clock| !["monotonic", "boottime"].contains(&&***clock))
        {
            return Err(invalid(format!("/linux/timeOffsets/{clock}: is neither monotonic nor boottime")));
        }
        Ok(())
    }

    /// What is set of a namespace that is joined must not be set of the caller's.
    fn check_sysctl_owners(&self) -> Result<()> {
        for key in self.linux.sysctl.keys() {
            let Some(kind) = sysctl_owner(key) else { continue };
            let Some(namespace) = self.namespace(kind).filter(|namespace| !namespace.path.is_empty()) else { continue };
            let callers = match kind {
                NamespaceKind::Network => "/proc/self/ns/net",
                NamespaceKind::Ipc => "/proc/self/ns/ipc",
                _ => "/proc/self/ns/uts",
            };
            let identity =
                |path: &str| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).context("stat", path);
            if identity(&namespace.path)? == identity(callers)? {
                let message = format!("sysctl {key:?} is not in a separate kernel namespace");
                return Err(Failure { path: Some(namespace.path.clone()), ..Failure::invalid("sysctl", message) });
            }
        }
        Ok(())
    }

    fn check_mappings(&self) -> Result<()> {
        let (uids, gids) = (&self.linux.uid_mappings, &self.linux.gid_mappings);
        if self.has_new(NamespaceKind::User) {
            check_maps("/linux", uids, gids)?;
            if uids.is_empty() {
                return Err(invalid("/linux/uidMappings: a new user namespace needs them"));
            }
        } else if !uids.is_empty() || !gids.is_empty() {
            return Err(invalid("/linux/uidMappings: need a user namespace of the container's own"));
        }
        for (at, mount) in self.mounts.iter().enumerate() {
            check_maps(&format!("/mounts/{at}"), &mount.uid_mappings, &mount.gid_mappings)?;
        }
        Ok(())
    }

    fn check_net_devices(&self) -> Result<()> {
        let devices = &self.linux.net_devices;
        if !devices.is_empty() && self.namespace(NamespaceKind::Network).is_none() {
            return Err(invalid("/linux/netDevices: needs a network namespace of the container's own"));
        }
        for (name, device) in devices {
            for (pointer, word) in [("", name), ("/name", &device.name)] {
                let optional = !pointer.is_empty() && word.is_empty();
                if !optional && !is_device_name(word) {
                    let at = format!("/linux/netDevices/{}{pointer}", name.replace('~', "~0").replace('/', "~1"));
                    return Err(invalid(format!("{at}: {word:?} is not a name that a network device can have")));
                }
            }
        }
        Ok(())
    }

    fn check_hooks(&self) -> Result<()> {
        let hooks = &self.hooks;
        for (kind, list) in [
            ("prestart", &hooks.prestart),
            ("createRuntime", &hooks.create_runtime),
            ("createContainer", &hooks.create_container),
            ("startContainer", &hooks.start_container),
            ("poststart", &hooks.poststart),
            ("poststop", &hooks.poststop),
        ] {
            for (at, hook) in list.iter().enumerate() {
                if !hook.path.starts_with('/') {
                    return Err(invalid(format!("/hooks/{kind}/{at}/path: {:?} is not absolute", hook.path)));
                }
                if hook.timeout == Some(0) {
                    return Err(invalid(format!("/hooks/{kind}/{at}/timeout: must be greater than 0")));
                }
            }
        }
        Ok(())
    }
}

/// Both or none; the ranges that a map may have are the kernel's to judge.
fn check_maps(at: &str, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    if uids.is_empty() != gids.is_empty() {
        return Err(invalid(format!("{at}: uidMappings and gidMappings come together")));
    }
    for (name, list) in [("uidMappings", uids), ("gidMappings", gids)] {
        if let Some(index) = list.iter().position(|mapping| mapping.size == 0) {
            return Err(invalid(format!("{at}/{name}/{index}/size: must be greater than 0")));
        }
        if list.len() > 340 {
            return Err(invalid(format!("{at}/{name}: {} mappings; the kernel takes 340", list.len())));
        }
    }
    Ok(())
}

impl Process {
    /// As `Spec::check`, also for the process of an exec.
    pub fn check(&self) -> Result<()> {
        if self.args.is_empty() {
            return Err(invalid("/process/args: must not be empty"));
        }
        if !self.cwd.starts_with('/') {
            return Err(invalid(format!("/process/cwd: {:?} is not an absolute path", self.cwd)));
        }
        if let Some(score) = self.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
            return Err(invalid(format!("/process/oomScoreAdj: {score} is not between -1000 and 1000")));
        }
        for (at, limit) in self.rlimits.iter().enumerate() {
            if !limits::is_known(&limit.kind) {
                return Err(invalid(format!("/process/rlimits/{at}/type: {:?} is not known", limit.kind)));
            }
            if limit.soft > limit.hard {
                let (soft, hard) = (limit.soft, limit.hard);
                return Err(invalid(format!(
                    "/process/rlimits/{at}: the soft limit {soft} is above the hard one {hard}"
                )));
            }
            if self.rlimits[..at].iter().any(|other| other.kind == limit.kind) {
                return Err(invalid(format!("/process/rlimits/{at}: {} stands there twice", limit.kind)));
            }
        }
        if !self.apparmor_profile.is_empty() && !crate::host::apparmor() {
            return Err(missing("/process/apparmorProfile", "AppArmor"));
        }
        if !self.selinux_label.is_empty() && !crate::host::selinux() {
            return Err(missing("/process/selinuxLabel", "SELinux"));
        }
        Ok(())
    }
}

/// As the kernel has it (`dev_valid_name`).
fn is_device_name(name: &str) -> bool {
    let plain = |byte: u8| !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b':' | 0 | 0x0b);
    !name.is_empty() && name.len() < 16 && name != "." && name != ".." && name.bytes().all(plain)
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::invalid("config", message)
}

fn missing(pointer: &str, module: &str) -> Failure {
    Failure::new(Kind::Unsupported, "config", format!("{pointer}: {module} is not enabled on this host"))
}
