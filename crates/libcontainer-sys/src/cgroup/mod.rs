//! Control groups. One group of a container spans every hierarchy (v1) or is one directory (v2).

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};

use serde::Serialize;

use crate::container::Result;
use crate::spec::Resources;

/// A container's control group, made by `open(path)`; nothing happens before a method is called.
pub trait Cgroup {
    /// Makes the group and its missing parents.
    fn create(&self) -> Result<()>;
    /// Writes the limits. A limit that this host cannot enforce is an error that names it.
    fn apply(&self, resources: &Resources) -> Result<()>;
    /// Descriptors into which a single-threaded process writes `0` to join by itself (v1: `tasks` of each hierarchy,
    /// v2: `cgroup.procs`).
    fn join_fds(&self) -> Result<Vec<OwnedFd>>;
    /// Returns when the state is reached.
    fn freeze(&self, frozen: bool) -> Result<()>;
    /// Signals every process of the group and the groups below; SIGKILL also reaches a frozen group.
    fn kill(&self, signal: i32) -> Result<()>;
    /// Processes of the group and the groups below.
    fn pids(&self) -> Result<Vec<i32>>;
    fn stats(&self) -> Result<CgroupStats>;
    /// None when this host has no memory controller.
    fn oom_watch(&self) -> Result<Option<OomWatch>>;
    /// Kills of the kernel's OOM killer in this group so far.
    fn oom_kills(&self) -> Result<u64>;
    /// Removes the group and the groups below; waits a bounded time for ended processes to leave. No group: no error.
    fn remove(&self) -> Result<()>;
}

/// `CgroupStats` of `ts/engine/native/index.ts`; nanoseconds and bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CgroupStats {
    pub cpu: CpuStats,
    pub memory: MemoryStats,
    pub pids: PidsStats,
    pub blkio: BTreeMap<String, Vec<BlkioEntry>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuStats {
    pub total_usage: u64,
    pub percpu_usage: Vec<u64>,
    pub kernel_usage: u64,
    pub user_usage: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_time: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStats {
    pub usage: u64,
    pub max_usage: u64,
    pub limit: u64,
    pub failcnt: u64,
    pub stats: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PidsStats {
    pub current: u64,
    /// 0: unlimited.
    pub limit: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    pub op: String,
    pub value: u64,
}

/// Becomes readable when the group meets its memory limit; read 8 bytes to arm it again, then compare `oom_kills`.
#[derive(Debug)]
pub struct OomWatch {
    pub(crate) event: OwnedFd,
}

impl OomWatch {
    pub fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.event)
    }
}

/// The group at this path below each hierarchy's root, for example `/caisson/<id>`. `..` and relative paths are refused.
pub fn open(path: &str) -> Result<Box<dyn Cgroup>> {
    Err(crate::container::Error::unsupported(path, "not built yet"))
}
