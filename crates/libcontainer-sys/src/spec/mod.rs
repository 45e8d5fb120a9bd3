//! The OCI runtime specification, the part that caisson carries out, and caisson's own additions beside it.

mod check;
mod resources;

pub use check::read;
pub use resources::*;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    pub oci_version: String,
    #[serde(default)]
    pub hostname: String,
    #[serde(default)]
    pub domainname: String,
    pub process: Process,
    pub root: Option<Root>,
    #[serde(default)]
    pub mounts: Vec<Mount>,
    pub linux: Linux,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub hooks: Hooks,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

impl Hooks {
    pub fn is_empty(&self) -> bool {
        let all =
            [&self.prestart, &self.create_runtime, &self.create_container, &self.start_container, &self.poststart];
        all.into_iter().chain([&self.poststop]).all(Vec::is_empty)
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Hook {
    pub path: String,
    #[serde(default)]
    pub args: Vec<String>,
    pub env: Option<Vec<String>>,
    /// Seconds.
    pub timeout: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Root {
    pub path: String,
    #[serde(default)]
    pub readonly: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    #[serde(default)]
    pub terminal: bool,
    pub console_size: Option<ConsoleSize>,
    #[serde(default)]
    pub user: User,
    pub args: Vec<String>,
    #[serde(default)]
    pub env: Vec<String>,
    pub cwd: String,
    pub capabilities: Option<Capabilities>,
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    #[serde(default)]
    pub no_new_privileges: bool,
    #[serde(default)]
    pub apparmor_profile: String,
    #[serde(default)]
    pub selinux_label: String,
    pub oom_score_adj: Option<i32>,
    pub scheduler: Option<Scheduler>,
    pub io_priority: Option<IoPriority>,
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Scheduler {
    pub policy: String,
    #[serde(default)]
    pub nice: i32,
    #[serde(default)]
    pub priority: i32,
    #[serde(default)]
    pub flags: Vec<String>,
    #[serde(default)]
    pub runtime: u64,
    #[serde(default)]
    pub deadline: u64,
    #[serde(default)]
    pub period: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct IoPriority {
    pub class: String,
    #[serde(default)]
    pub priority: i32,
}

/// Lists of CPUs (`0-3,7`): before the process joins the container's cgroup, and after.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CpuAffinity {
    pub initial: String,
    #[serde(rename = "final")]
    pub last: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub struct ConsoleSize {
    pub width: u16,
    pub height: u16,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
    pub umask: Option<u32>,
    #[serde(default)]
    pub additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    pub bounding: Vec<String>,
    pub effective: Vec<String>,
    pub permitted: Vec<String>,
    pub inheritable: Vec<String>,
    pub ambient: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Rlimit {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(deserialize_with = "limit")]
    pub soft: u64,
    #[serde(deserialize_with = "limit")]
    pub hard: u64,
}

/// -1 too is no limit, as in Docker's API: JavaScript has no number for 2^64 - 1.
fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a limit is a number from 0 to 2^64 - 1, or -1 for none")]
    enum Limit {
        Some(u64),
        None(i64),
    }
    match Limit::deserialize(deserializer)? {
        Limit::Some(limit) => Ok(limit),
        Limit::None(-1) => Ok(u64::MAX),
        Limit::None(other) => Err(D::Error::custom(format!("a limit cannot be {other}"))),
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Mount {
    pub destination: String,
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub source: String,
    /// Beyond the specification: only this part of a bind's source.
    #[serde(default)]
    pub subpath: String,
    /// Beyond the specification: the source of a bind is what these directories (the top one first) are over each other.
    #[serde(default)]
    pub layers: Vec<String>,
    /// Beyond the specification: the source of a bind is a path of this process's mount namespace.
    #[serde(default)]
    pub process: Option<i32>,
    #[serde(default)]
    pub options: Vec<String>,
    #[serde(rename = "uidMappings", default)]
    pub uid_mappings: Vec<IdMapping>,
    #[serde(rename = "gidMappings", default)]
    pub gid_mappings: Vec<IdMapping>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct IdMapping {
    #[serde(rename = "containerID")]
    pub container_id: u32,
    #[serde(rename = "hostID")]
    pub host_id: u32,
    pub size: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    pub namespaces: Vec<Namespace>,
    pub uid_mappings: Vec<IdMapping>,
    pub gid_mappings: Vec<IdMapping>,
    pub devices: Vec<Device>,
    pub cgroups_path: String,
    pub resources: Resources,
    pub rootfs_propagation: String,
    pub seccomp: Option<serde_json::Value>,
    /// Caisson's: a file of compiled instructions in place of `seccomp`.
    pub seccomp_file: Option<String>,
    pub sysctl: BTreeMap<String, String>,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub mount_label: String,
    pub personality: Option<Personality>,
    /// By clock: `monotonic`, `boottime`.
    pub time_offsets: BTreeMap<String, TimeOffset>,
    pub intel_rdt: Option<IntelRdt>,
    /// By the host's name.
    pub net_devices: BTreeMap<String, NetDevice>,
    pub memory_policy: Option<MemoryPolicy>,
}

/// A class of service of the host's resctrl filesystem; without a name the container has one of its own.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IntelRdt {
    #[serde(rename = "closID")]
    pub clos_id: String,
    pub l3_cache_schema: String,
    pub mem_bw_schema: String,
    #[serde(rename = "enableCMT")]
    pub enable_cmt: bool,
    #[serde(rename = "enableMBM")]
    pub enable_mbm: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Personality {
    pub domain: String,
    #[serde(default)]
    pub flags: Vec<String>,
}

/// A network device of the host that becomes the container's.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct NetDevice {
    /// What it is called in the container; empty: as before.
    #[serde(default)]
    pub name: String,
}

/// From which NUMA nodes (`0-3,7`) memory comes.
#[derive(Debug, Clone, Deserialize)]
pub struct MemoryPolicy {
    pub mode: String,
    #[serde(default)]
    pub nodes: String,
    #[serde(default)]
    pub flags: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct TimeOffset {
    pub secs: i64,
    pub nanosecs: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    Pid,
    Network,
    Mount,
    Ipc,
    Uts,
    User,
    Cgroup,
    Time,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Namespace {
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    #[serde(default)]
    pub path: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    pub path: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub major: u32,
    #[serde(default)]
    pub minor: u32,
    pub file_mode: Option<u32>,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
}

// ---------------------------------------------------------------------------------------- caisson's additions

/// What stands at `/`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rootfs {
    Overlay(Overlay),
    Path(String),
}

#[derive(Debug, Clone, Deserialize)]
pub struct Overlay {
    /// Absolute paths, the top layer first.
    pub lower: Vec<String>,
    pub upper: String,
    pub work: String,
    #[serde(default)]
    pub volatile: bool,
}

/// A user as people write it; resolved in the container's own files.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UserSpec {
    pub user: String,
    pub additional_groups: Vec<String>,
}

/// Who a container is to others: what hooks and seccomp agents are told of it.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    pub id: String,
    pub bundle: String,
    pub annotations: BTreeMap<String, String>,
}

impl Identity {
    /// The specification's `state`.
    pub fn state(&self, status: &str, pid: i32) -> serde_json::Value {
        serde_json::json!({
            "ociVersion": VERSION,
            "id": self.id,
            "status": status,
            "pid": pid,
            "bundle": self.bundle,
            "annotations": self.annotations,
        })
    }
}

/// The version of the specification that this is.
pub const VERSION: &str = "1.3.0";
