//! /proc of a container: nothing else may stand there, and what is written there reaches the file that is meant.

use super::target::open_ordinary;
use crate::failure::{Context, Failure, Result};
use crate::spec::{NamespaceKind, Spec};
use rustix::fs::{FsWord, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Files of /proc that may be covered (lxcfs does it). Anything else there could hide what the masks and sysctls rely on.
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

const MAGIC: FsWord = 0x9fa0;
/// Of the root of every procfs, and of nothing else in it.
const ROOT_INODE: u64 = 1;

fn is_procfs(fd: impl AsFd) -> bool {
    fstatfs(fd).is_ok_and(|stat| stat.f_type == MAGIC)
}

/// A mount may neither cover procfs nor stand where it belongs (CVE-2019-16884, CVE-2023-27561).
pub fn check_place(mounted: impl AsFd, target: impl AsFd, destination: &str) -> Result<()> {
    let place = format!("/{}", destination.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"));
    let why = match place.as_str() {
        "/proc" if is_procfs(mounted) => return Ok(()),
        "/proc" => "not of type proc",
        place if !is_procfs(target) || PROC_FILES.contains(&place) => return Ok(()),
        _ => "inside /proc",
    };
    Err(Failure::invalid("mount", format!("{destination:?} cannot be mounted because it is {why}")))
}

/// A file of the /proc below `root`, with nothing mounted over it or over what is above it: a process that asks for a label
/// or a sysctl would write into what somebody else has put there (CVE-2025-52881).
pub fn open(root: BorrowedFd, path: &str, flags: OFlags) -> Result<OwnedFd> {
    let proc = open_ordinary(root, "/proc").context("open", "/proc of the container")?;
    if !is_procfs(&proc) || fstat(&proc).context("stat", "/proc")?.st_ino != ROOT_INODE {
        return Err(Failure::invalid("procfs", "/proc of the container is not procfs"));
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    openat2(&proc, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
        .map_err(|error| Failure::io("open", format!("/proc/{path}"), error))
}

pub fn write_sysctls(root: BorrowedFd, spec: &Spec) -> Result<()> {
    for (key, value) in &spec.linux.sysctl {
        let file = open(root, &format!("sys/{}", sysctl_path(key, spec)?), OFlags::WRONLY)
            .map_err(|failure| Failure { message: format!("sysctl {key}: {}", failure.message), ..failure })?;
        rustix::io::write(&file, value.as_bytes()).context("write sysctl", format!("{key}={value}"))?;
    }
    Ok(())
}

/// Only what belongs to a namespace that is not the host's may be set (CVE-2022-0811). That one which is joined is not its
/// creator's own was looked at by `Spec::check`.
fn sysctl_path(key: &str, spec: &Spec) -> Result<String> {
    let path = path_of(key);
    if path == "kernel/hostname" {
        let message = format!("sysctl {key:?} is not allowed as it conflicts with the OCI \"hostname\" field");
        return Err(Failure::invalid("sysctl", message));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    let well_formed = path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.chars().all(plain));
    if well_formed && sysctl_owner(key).is_some_and(|kind| spec.namespace(kind).is_some()) {
        return Ok(path);
    }
    Err(Failure::invalid("sysctl", format!("sysctl {key:?} is not in a separate kernel namespace")))
}

fn path_of(key: &str) -> String {
    if key.contains('/') { key.to_owned() } else { key.replace('.', "/") }
}

/// The kind of namespace that a sysctl belongs to, as far as there is one.
pub fn sysctl_owner(key: &str) -> Option<NamespaceKind> {
    const IPC: [&str; 11] = [
        "msgmax",
        "msgmnb",
        "msgmni",
        "sem",
        "shmall",
        "shmmax",
        "shmmni",
        "shm_rmid_forced",
        "msg_next_id",
        "sem_next_id",
        "shm_next_id",
    ];
    match path_of(key).split_once('/')? {
        ("net", _) => Some(NamespaceKind::Network),
        ("kernel", "domainname") => Some(NamespaceKind::Uts),
        ("kernel", name) if IPC.contains(&name) => Some(NamespaceKind::Ipc),
        ("fs", name) if name.starts_with("mqueue/") => Some(NamespaceKind::Ipc),
        _ => None,
    }
}
