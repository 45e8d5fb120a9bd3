//! The OCI runtime specification, the part that caisson carries out, and caisson's own additions beside it.

use serde::Deserialize;
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
    /// Refused: nothing runs them yet.
    #[serde(default)]
    pub hooks: Option<serde_json::Value>,
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
    /// Refused, as all fields of this type: known, and nothing here carries them out.
    pub scheduler: Option<Refused>,
    pub io_priority: Option<Refused>,
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<Refused>,
}

/// The value of a field that is in the specification and not supported.
pub type Refused = serde_json::Value;

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
    pub soft: u64,
    pub hard: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Mount {
    pub destination: String,
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub source: String,
    #[serde(default)]
    pub options: Vec<String>,
    #[serde(rename = "uidMappings")]
    pub uid_mappings: Option<Refused>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    pub namespaces: Vec<Namespace>,
    pub uid_mappings: Vec<serde_json::Value>,
    pub gid_mappings: Vec<serde_json::Value>,
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
    pub intel_rdt: Option<Refused>,
    pub personality: Option<Refused>,
    pub time_offsets: Option<Refused>,
    pub net_devices: Option<Refused>,
    pub memory_policy: Option<Refused>,
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

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    pub devices: Vec<DeviceRule>,
    pub memory: Memory,
    pub cpu: Cpu,
    pub pids: Option<Pids>,
    #[serde(rename = "blockIO")]
    pub block_io: BlockIo,
    pub hugepage_limits: Vec<HugepageLimit>,
    pub unified: BTreeMap<String, String>,
    pub network: Option<Refused>,
    pub rdma: Option<Refused>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct DeviceRule {
    pub allow: bool,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub access: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Memory {
    pub limit: Option<i64>,
    pub reservation: Option<i64>,
    pub swap: Option<i64>,
    pub kernel: Option<i64>,
    pub swappiness: Option<u64>,
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    pub shares: Option<u64>,
    pub quota: Option<i64>,
    pub period: Option<u64>,
    pub realtime_runtime: Option<i64>,
    pub realtime_period: Option<u64>,
    pub cpus: String,
    pub mems: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Pids {
    pub limit: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockIo {
    pub weight: Option<u16>,
    pub weight_device: Vec<WeightDevice>,
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    #[serde(rename = "throttleReadIOPSDevice")]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    #[serde(rename = "throttleWriteIOPSDevice")]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct WeightDevice {
    pub major: i64,
    pub minor: i64,
    pub weight: Option<u16>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ThrottleDevice {
    pub major: i64,
    pub minor: i64,
    pub rate: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit {
    pub page_size: String,
    pub limit: u64,
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

impl Spec {
    /// What nothing here carries out is refused by name.
    pub fn refuse_unsupported(&self) -> crate::failure::Result<()> {
        if self.hooks.as_ref().is_some_and(|hooks| hooks.as_object().is_none_or(|map| !map.is_empty())) {
            return refuse("/hooks");
        }
        if !self.linux.uid_mappings.is_empty() || !self.linux.gid_mappings.is_empty() {
            return refuse("/linux/uidMappings");
        }
        if self.linux.namespaces.iter().any(|ns| ns.kind == NamespaceKind::User) {
            return refuse("/linux/namespaces (user)");
        }
        if !self.linux.mount_label.is_empty() {
            return refuse("/linux/mountLabel");
        }
        let linux = &self.linux;
        let mapped = self.mounts.iter().position(|mount| mount.uid_mappings.is_some());
        if let Some(at) = mapped {
            return refuse(&format!("/mounts/{at}/uidMappings"));
        }
        let present = [
            ("/linux/intelRdt", &linux.intel_rdt),
            ("/linux/personality", &linux.personality),
            ("/linux/timeOffsets", &linux.time_offsets),
            ("/linux/netDevices", &linux.net_devices),
            ("/linux/memoryPolicy", &linux.memory_policy),
            ("/linux/resources/network", &linux.resources.network),
            ("/linux/resources/rdma", &linux.resources.rdma),
        ];
        if let Some((pointer, _)) = present.iter().find(|(_, value)| is_set(value)) {
            return refuse(pointer);
        }
        self.process.refuse_unsupported()?;
        Ok(())
    }

    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.linux.namespaces.iter().find(|ns| ns.kind == kind)
    }
}

impl Process {
    /// As `Spec::refuse_unsupported`, also for the process of an exec.
    pub fn refuse_unsupported(&self) -> crate::failure::Result<()> {
        if !self.apparmor_profile.is_empty() {
            return refuse("/process/apparmorProfile");
        }
        if !self.selinux_label.is_empty() {
            return refuse("/process/selinuxLabel");
        }
        let present = [
            ("/process/scheduler", &self.scheduler),
            ("/process/ioPriority", &self.io_priority),
            ("/process/execCPUAffinity", &self.exec_cpu_affinity),
        ];
        match present.iter().find(|(_, value)| is_set(value)) {
            Some((pointer, _)) => refuse(pointer),
            None => Ok(()),
        }
    }
}

fn is_set(value: &Option<Refused>) -> bool {
    value.as_ref().is_some_and(|value| !value.is_null())
}

fn refuse(pointer: &str) -> crate::failure::Result<()> {
    Err(crate::failure::Failure::new(
        crate::failure::Kind::Unsupported,
        "config",
        format!("{pointer}: not supported by this version of caisson"),
    ))
}
