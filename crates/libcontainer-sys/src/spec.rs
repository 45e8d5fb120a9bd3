//! The OCI runtime specification (1.2), as far as a container is built from it. What is named here but cannot be done is
//! refused by `validate` with the JSON pointer of the field; a field of the specification is never silently dropped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::container::{Error, Result};

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub oci_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    pub process: Process,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    pub mounts: Vec<Mount>,
    pub linux: Linux,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<BTreeMap<String, Vec<Value>>>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Root {
    pub path: String,
    pub readonly: bool,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    pub terminal: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    pub user: User,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    pub rlimits: Vec<Rlimit>,
    pub no_new_privileges: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<Value>,
    #[serde(rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<Value>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ConsoleSize {
    pub width: u16,
    pub height: u16,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    pub additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Capabilities {
    pub bounding: Vec<String>,
    pub effective: Vec<String>,
    pub permitted: Vec<String>,
    pub inheritable: Vec<String>,
    pub ambient: Vec<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Rlimit {
    #[serde(rename = "type")]
    pub kind: String,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Mount {
    pub destination: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default)]
    pub options: Vec<String>,
    #[serde(rename = "uidMappings", default, skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    #[serde(rename = "gidMappings", default, skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
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

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Namespace {
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    pub namespaces: Vec<Namespace>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
    pub devices: Vec<Device>,
    pub cgroups_path: String,
    pub resources: Resources,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs_propagation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Value>,
    /// Caisson's extension: a file of compiled BPF in place of `seccomp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp_file: Option<String>,
    pub sysctl: BTreeMap<String, String>,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_offsets: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net_devices: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<Value>,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdMapping {
    #[serde(rename = "containerID")]
    pub container_id: u32,
    #[serde(rename = "hostID")]
    pub host_id: u32,
    pub size: u32,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
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
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct DeviceRule {
    pub allow: bool,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

/// `linux.resources`; bytes, microseconds, shares as in the specification. Absent: not set; memory -1: unlimited.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    pub devices: Vec<DeviceRule>,
    pub memory: Memory,
    pub cpu: Cpu,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<Pids>,
    #[serde(rename = "blockIO")]
    pub block_io: BlockIo,
    pub hugepage_limits: Vec<HugepageLimit>,
    pub unified: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdma: Option<Value>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Memory {
    pub limit: Option<i64>,
    pub reservation: Option<i64>,
    pub swap: Option<i64>,
    pub kernel: Option<i64>,
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Option<i64>,
    pub swappiness: Option<u64>,
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    pub shares: Option<u64>,
    pub quota: Option<i64>,
    pub period: Option<u64>,
    pub realtime_runtime: Option<i64>,
    pub realtime_period: Option<u64>,
    pub cpus: Option<String>,
    pub mems: Option<String>,
    pub burst: Option<u64>,
    pub idle: Option<i64>,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
pub struct Pids {
    pub limit: i64,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct BlockIo {
    pub weight: Option<u16>,
    #[serde(rename = "weightDevice")]
    pub weight_device: Vec<WeightDevice>,
    #[serde(rename = "throttleReadBpsDevice")]
    pub throttle_read_bps: Vec<ThrottleDevice>,
    #[serde(rename = "throttleWriteBpsDevice")]
    pub throttle_write_bps: Vec<ThrottleDevice>,
    #[serde(rename = "throttleReadIOPSDevice")]
    pub throttle_read_iops: Vec<ThrottleDevice>,
    #[serde(rename = "throttleWriteIOPSDevice")]
    pub throttle_write_iops: Vec<ThrottleDevice>,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
pub struct WeightDevice {
    pub major: u32,
    pub minor: u32,
    pub weight: u16,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
pub struct ThrottleDevice {
    pub major: u32,
    pub minor: u32,
    pub rate: u64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit {
    pub page_size: String,
    pub limit: u64,
}

impl Spec {
    /// Parses and validates; the error names the place in the JSON.
    pub fn parse(json: &[u8]) -> Result<Spec> {
        let spec: Spec = serde_json::from_slice(json)
            .map_err(|cause| Error::Invalid { pointer: "/".into(), message: cause.to_string() })?;
        spec.validate()?;
        Ok(spec)
    }

    /// Refuses what cannot be done instead of ignoring it.
    pub fn validate(&self) -> Result<()> {
        self.process.validate()?;
        let unsupported = [
            ("/hooks", self.hooks.as_ref().is_some_and(|hooks| hooks.values().any(|list| !list.is_empty()))),
            ("/linux/intelRdt", self.linux.intel_rdt.is_some()),
            ("/linux/personality", self.linux.personality.is_some()),
            ("/linux/timeOffsets", self.linux.time_offsets.is_some()),
            ("/linux/netDevices", self.linux.net_devices.is_some()),
            ("/linux/memoryPolicy", self.linux.memory_policy.is_some()),
            ("/linux/mountLabel", self.linux.mount_label.as_ref().is_some_and(|label| !label.is_empty())),
            ("/linux/uidMappings", !self.linux.uid_mappings.is_empty()),
            ("/linux/gidMappings", !self.linux.gid_mappings.is_empty()),
            ("/linux/resources/rdma", self.linux.resources.rdma.is_some()),
        ];
        refuse(&unsupported)?;
        for (index, namespace) in self.linux.namespaces.iter().enumerate() {
            let pointer = format!("/linux/namespaces/{index}");
            if namespace.kind == NamespaceKind::User {
                return Err(Error::Unsupported { pointer, message: "user namespaces are not supported".into() });
            }
            if self.linux.namespaces[..index].iter().any(|other| other.kind == namespace.kind) {
                return Err(Error::Invalid { pointer, message: "this namespace is already in the list".into() });
            }
        }
        if !self.linux.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::Mount) {
            let message = "a container without a mount namespace of its own is not supported".into();
            return Err(Error::Unsupported { pointer: "/linux/namespaces".into(), message });
        }
        for (index, mount) in self.mounts.iter().enumerate() {
            if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
                let pointer = format!("/mounts/{index}/uidMappings");
                return Err(Error::Unsupported { pointer, message: "id-mapped mounts are not supported".into() });
            }
        }
        Ok(())
    }

    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.linux.namespaces.iter().find(|namespace| namespace.kind == kind)
    }
}

impl Process {
    pub fn validate(&self) -> Result<()> {
        refuse(&[
            ("/process/selinuxLabel", self.selinux_label.as_ref().is_some_and(|label| !label.is_empty())),
            ("/process/scheduler", self.scheduler.is_some()),
            ("/process/ioPriority", self.io_priority.is_some()),
            ("/process/execCPUAffinity", self.exec_cpu_affinity.is_some()),
        ])?;
        if self.args.is_empty() {
            return Err(Error::Invalid { pointer: "/process/args".into(), message: "no program to run".into() });
        }
        if !self.cwd.is_empty() && !self.cwd.starts_with('/') {
            let message = format!("the working directory {:?} is not an absolute path", self.cwd);
            return Err(Error::Invalid { pointer: "/process/cwd".into(), message });
        }
        let strings = self.args.iter().chain(&self.env).chain([&self.cwd]);
        if strings.into_iter().any(|text| text.contains('\0')) {
            let message = "arguments, environment and working directory cannot contain a NUL byte".into();
            return Err(Error::Invalid { pointer: "/process".into(), message });
        }
        Ok(())
    }
}

fn refuse(list: &[(&str, bool)]) -> Result<()> {
    match list.iter().find(|(_, present)| *present) {
        None => Ok(()),
        Some((pointer, _)) => {
            Err(Error::Unsupported { pointer: (*pointer).into(), message: "this field is not supported".into() })
        }
    }
}
