//! One container's place in the cgroup tree, behind one trait for both versions of the interface.
//!
//! Lifecycle: `create` makes the directories, `set` writes limits, a child joins through `join_files` by itself, `remove`
//! takes the directories away when the last process has gone.

mod absent;
pub mod devices;
pub mod v1;
mod v1_limits;
mod v1_stats;
pub mod v2;
mod v2_devices;
mod v2_stats;
mod values;

use crate::failure::{Context, Failure, Kind, Result};
use crate::spec::{Memory, RdmaLimit, Resources};
use rustix::fs::{Access, CWD, Mode, OFlags, access, openat};
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// One hierarchy of version 2, and none of version 1.
pub fn is_unified() -> Result<bool> {
    values::exists(Path::new(ROOT), "cgroup.controllers")
}

pub trait Cgroup {
    fn create(&self) -> Result<()>;
    fn set(&self, resources: &Resources) -> Result<()>;
    /// The caller moves here.
    fn join(&self) -> Result<()> {
        self.join_files()?
            .iter()
            .try_for_each(|file| rustix::io::write(file, b"0").map(drop))
            .context("join cgroup", "")
    }
    /// Open files into which a single-threaded process writes `0` to join what it was not born into. Moving *oneself* through
    /// `tasks` costs 0.07 ms; any other way waits for a grace period of the kernel (11 ms).
    fn join_files(&self) -> Result<Vec<OwnedFd>>;
    /// The directory of cgroup2 in which a child is to be born (CLONE_INTO_CGROUP); None where cgroup2 is not mounted.
    fn birthplace(&self) -> Result<Option<OwnedFd>>;
    /// What a container sees below /sys/fs/cgroup: (name, host directory); one with an empty name is the whole (v2).
    fn mounts(&self) -> Vec<(String, PathBuf)>;
    fn freeze(&self, frozen: bool) -> Result<()>;
    /// Or on the way there. One that does not exist is not.
    fn is_frozen(&self) -> Result<bool>;
    fn pids(&self) -> Result<Vec<i32>>;
    fn stats(&self) -> Result<Stats>;
    /// Number of processes here that the kernel has killed for want of memory.
    fn oom_kills(&self) -> u64;
    /// Becomes readable at each such event, and on v2 at others: `oom_happened` tells. Read 4096 bytes before waiting again.
    fn oom_event(&self) -> Result<Option<OwnedFd>>;
    /// Whether the event was an OOM; `seen` is the number of kills known so far. On v1 it always is.
    fn oom_happened(&self, _seen: &mut u64) -> bool {
        true
    }
    /// Idempotent. Fails while processes are inside.
    fn remove(&self) -> Result<()>;

    fn kill(&self, signal: i32) -> Result<()> {
        for pid in self.pids()? {
            // it may have ended meanwhile
            let _ = crate::sys::signal::kill(pid, signal);
        }
        Ok(())
    }
}

/// The cgroup at `path` (`/parent/name`) of this host; with an empty one the creator's own.
pub fn open(path: &str) -> Result<Box<dyn Cgroup>> {
    if path.is_empty() {
        return Ok(Box::new(absent::Absent));
    }
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") || path.len() < 2 {
        return Err(Failure::invalid(
            "cgroup",
            format!("{path:?}: a cgroup path is absolute, without .. and not the root"),
        ));
    }
    Ok(match is_unified()? {
        true => Box::new(v2::V2::new(Path::new(ROOT), path)),
        false => Box::new(v1::V1::new(path)?),
    })
}

/// Whether the caller may make the cgroup at `path`.
pub fn may_create(path: &str) -> Result<bool> {
    let writable = |dir: &Path| {
        let above = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
        access(above, Access::WRITE_OK).is_ok()
    };
    Ok(open(path)?.mounts().iter().all(|(_, dir)| writable(dir)))
}

/// Freezes or thaws the cgroup at `path`; kind `NotFound` when it is removed meanwhile: its files are away, or answer ENODEV.
pub fn freeze(path: &str, frozen: bool) -> Result<()> {
    open(path)?.freeze(frozen).map_err(|failure| match failure.errno {
        Some(libc::ENOENT | libc::ENODEV) => Failure { kind: Kind::NotFound, ..failure },
        _ => failure,
    })
}

/// A cgroup that the container has made below its own; on v1 for some hierarchies only (named by controllers).
pub fn open_below(path: &str, below: &[(Option<&str>, &str)]) -> Result<Box<dyn Cgroup>> {
    if !is_unified()? {
        return v1::V1::below(path, below).map(|group| Box::new(group) as Box<dyn Cgroup>);
    }
    match below {
        [(None, sub)] => {
            let group = open(&format!("{path}/{}", sub.trim_matches('/')))?;
            group.mounts().iter().try_for_each(|(_, dir)| must_exist(dir))?;
            Ok(group)
        }
        _ => Err(Failure::invalid("cgroup", "cgroup v2 has one path and no controllers beside it")),
    }
}

/// The directory of the cgroup2 that a process is in now.
pub fn birthplace_of(pid: i32) -> Result<OwnedFd> {
    let list = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&list).context("read", &list)?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.ok_or_else(|| Failure::new(Kind::System, "cgroup", format!("{list}: names no cgroup2")))?;
    let dir = Path::new(ROOT).join(if is_unified()? { "" } else { "unified" }).join(path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, &dir, flags, Mode::empty()).context("open", dir.display())
}

/// A group to be joined, not made.
fn must_exist(dir: &Path) -> Result<()> {
    let procs = dir.join("cgroup.procs");
    std::fs::metadata(&procs).map(drop).map_err(|error| not_joined(Failure::io("open", procs.display(), error)))
}

/// Of a group that takes no process because it has handed its controllers to groups below.
pub fn is_busy(group: &dyn Cgroup, error: std::io::Error) -> Failure {
    let dir = group.mounts().into_iter().next().map(|(_, dir)| dir).unwrap_or_default();
    not_joined(Failure::io("write", dir.join("cgroup.procs").display(), error))
}

fn not_joined(failure: Failure) -> Failure {
    Failure { message: format!("error adding pid {} to cgroups: {failure}", std::process::id()), ..failure }
}

const RDMA: &str = "/linux/resources/rdma";

/// By `write`, which puts a line into `rdma.max`.
fn set_rdma(limits: &BTreeMap<String, RdmaLimit>, write: impl Fn(String) -> Result<()>) -> Result<()> {
    for (device, limit) in limits {
        let part = |name: &str, count: Option<u32>| count.map_or(String::new(), |count| format!(" {name}={count}"));
        let line =
            format!("{device}{}{}", part("hca_handle", limit.hca_handles), part("hca_object", limit.hca_objects));
        write(line).map_err(|failure| match failure.errno {
            Some(libc::ENODEV) => {
                Failure { message: format!("{RDMA}/{device}: this host has no such RDMA device"), ..failure }
            }
            _ => failure,
        })?;
    }
    Ok(())
}

/// `checkBeforeUpdate`: a limit that would have the kernel kill at once is not set.
pub fn refuse_limits_below_usage(memory: &Memory, usage: impl FnOnce() -> u64) -> Result<()> {
    let limits = [("memory+swap", memory.swap), ("memory", memory.limit)];
    if memory.check_before_update != Some(true) || limits.iter().all(|(_, limit)| limit.is_none()) {
        return Ok(());
    }
    let usage = usage();
    match limits.into_iter().find(|(_, limit)| limit.is_some_and(|limit| limit > 0 && limit.unsigned_abs() <= usage)) {
        Some((what, limit)) => {
            let limit = limit.unwrap_or_default();
            let message = format!("rejecting {what} limit {limit}: the current usage is {usage}");
            Err(Failure::new(Kind::Conflict, "cgroup", message))
        }
        None => Ok(()),
    }
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub cpu: CpuStats,
    pub memory: MemoryStats,
    pub pids: PidsStats,
    pub blkio: BTreeMap<String, Vec<BlkioEntry>>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuStats {
    /// Nanoseconds.
    pub total_usage: u64,
    pub percpu_usage: Vec<u64>,
    pub kernel_usage: u64,
    pub user_usage: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_time: u64,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStats {
    pub usage: u64,
    pub max_usage: u64,
    pub limit: u64,
    pub failcnt: u64,
    pub stats: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Serialize)]
pub struct PidsStats {
    pub current: u64,
    /// 0: no limit.
    pub limit: u64,
}

#[derive(Debug, Serialize)]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    pub op: String,
    pub value: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rdma_limits_are_a_line_a_device() {
        let limits = serde_json::from_value(serde_json::json!({
            "mlx5_0": {"hcaHandles": 2, "hcaObjects": 2000}, "mlx5_1": {"hcaHandles": 3}, "mlx5_2": {"hcaObjects": 0},
        }));
        let lines = std::cell::RefCell::new(Vec::new());
        let write = |line| {
            lines.borrow_mut().push(line);
            Ok(())
        };
        set_rdma(&limits.unwrap(), write).unwrap();
        let wanted = ["mlx5_0 hca_handle=2 hca_object=2000", "mlx5_1 hca_handle=3", "mlx5_2 hca_object=0"];
        assert_eq!(*lines.borrow(), wanted);
    }

    #[test]
    fn an_rdma_device_that_the_host_has_not_is_named() {
        let limits = serde_json::from_value(serde_json::json!({"mlx5_9": {"hcaHandles": 2}})).unwrap();
        let refused = || std::io::Error::from_raw_os_error(libc::ENODEV);
        let failure = set_rdma(&limits, |_| Err(Failure::io("write", "rdma.max", refused()))).unwrap_err();
        assert_eq!(failure.message, "/linux/resources/rdma/mlx5_9: this host has no such RDMA device");
    }

    #[test]
    fn a_group_that_is_gone_is_not_found() {
        let failure = freeze("/caisson-test-never-made", false).unwrap_err();
        assert_eq!(failure.kind, Kind::NotFound, "{failure}");
    }
}
