//! What this kernel and this host can do, asked once.

use rustix::mount::{FsOpenFlags, fsconfig_create, fsconfig_set_string, fsopen};
use serde::Serialize;
use std::fs;
use std::path::Path;

/// `HostInfo` of ts/engine/native/index.ts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostInfo {
    pub kernel_version: String,
    pub architecture: &'static str,
    pub cgroup_version: u8,
    pub controllers: Vec<String>,
    pub memory_limit: bool,
    pub swap_limit: bool,
    pub oom_kill_disable: bool,
    pub cpu_cfs_period: bool,
    pub cpu_cfs_quota: bool,
    pub cpu_shares: bool,
    pub cpu_set: bool,
    pub pids_limit: bool,
    pub blkio_weight: bool,
    pub blkio_weight_device: bool,
    pub seccomp: bool,
    pub apparmor: bool,
    pub selinux: bool,
    pub user_namespaces: bool,
    pub time_namespaces: bool,
    pub overlay_lowerdir_plus: bool,
    pub clone_into_cgroup: bool,
    pub cgroup_kill: bool,
    pub total_memory_bytes: u64,
    pub cpus: usize,
}

pub fn probe() -> HostInfo {
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers");
    let cgroup_version = if unified.exists() { 2 } else { 1 };
    let controllers: Vec<String> = if cgroup_version == 2 {
        fs::read_to_string(unified).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    } else {
        crate::cgroup::v1::controllers()
    };
    let has = |name: &str| controllers.iter().any(|controller| controller == name);
    let v1 = cgroup_version == 1;
    let file = |path: &str| Path::new(path).exists();
    // the scheduler that weighs has to be in the kernel
    let blkio =
        |name: &str| ["blkio", "blkio.bfq"].iter().any(|prefix| file(&format!("/sys/fs/cgroup/blkio/{prefix}.{name}")));
    let sysinfo = rustix::system::sysinfo();
    HostInfo {
        kernel_version: rustix::system::uname().release().to_string_lossy().into_owned(),
        architecture: if cfg!(target_arch = "aarch64") { "aarch64" } else { "x86_64" },
        cgroup_version,
        memory_limit: has("memory"),
        swap_limit: if v1 { file("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes") } else { file("/proc/swaps") },
        oom_kill_disable: v1 && file("/sys/fs/cgroup/memory/memory.oom_control"),
        cpu_cfs_period: if v1 { file("/sys/fs/cgroup/cpu/cpu.cfs_period_us") } else { has("cpu") },
        cpu_cfs_quota: if v1 { file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") } else { has("cpu") },
        cpu_shares: has("cpu"),
        cpu_set: has("cpuset"),
        pids_limit: has("pids"),
        blkio_weight: if v1 { blkio("weight") } else { has("io") },
        blkio_weight_device: if v1 { blkio("weight_device") } else { has("io") },
        controllers,
        seccomp: fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").is_ok(),
        apparmor: apparmor(),
        selinux: selinux(),
        user_namespaces: file("/proc/self/ns/user"),
        time_namespaces: file("/proc/self/ns/time"),
        overlay_lowerdir_plus: lowerdir_plus(),
        clone_into_cgroup: cgroup_version == 2,
        cgroup_kill: cgroup_version == 2 && file("/sys/fs/cgroup/init.scope/cgroup.kill"),
        total_memory_bytes: sysinfo.totalram as u64 * u64::from(sysinfo.mem_unit),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

pub fn apparmor() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

pub fn selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Linux 6.1 takes the key and fails only at create: so it is created, over two directories that every host has.
fn lowerdir_plus() -> bool {
    let Ok(context) = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) else { return false };
    ["/usr", "/etc"].iter().all(|lower| fsconfig_set_string(&context, "lowerdir+", *lower).is_ok())
        && fsconfig_create(&context).is_ok()
}
