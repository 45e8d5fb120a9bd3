//! cgroup v1: one directory in each mounted hierarchy.
//!
//! ```text
//! /sys/fs/cgroup/<hierarchy>/<parent>/<id>/     hierarchy: cpu, memory, …, or co-mounted ones, `cpu,cpuacct`
//! /sys/fs/cgroup/unified/<parent>/<id>/         where cgroup2 is mounted beside them (hybrid)
//! ```

use super::v1_stats::stats;
use super::values::{exists, pids_below, read, read_map, remove_directory, write};
use super::{Cgroup, ROOT, Stats};
use crate::failure::{Context, Failure, Kind, Result};
use crate::spec::Resources;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Names under which v1 hierarchies are mounted; a host need not have them all.
const HIERARCHIES: [&str; 16] = [
    "cpu,cpuacct",
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls,net_prio",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
    "systemd",
];

/// Controllers that are there; a hierarchy of two has a link for each.
pub fn controllers() -> Vec<String> {
    let single = HIERARCHIES.iter().filter(|name| !name.contains(',') && **name != "systemd");
    single.filter(|name| Path::new(ROOT).join(name).join("tasks").exists()).map(|name| (*name).to_owned()).collect()
}

pub struct V1 {
    /// (name of the hierarchy, this cgroup's directory in it)
    hierarchies: Vec<(&'static str, PathBuf)>,
    /// Without limits; there so that /proc/self/cgroup tells nothing of the creator's place.
    unified: Option<PathBuf>,
}

impl V1 {
    pub fn new(path: &str) -> Result<Self> {
        let mut hierarchies: Vec<&'static str> = Vec::new();
        for name in HIERARCHIES {
            // `cpu` is a link to `cpu,cpuacct` where both are one hierarchy
            let known = hierarchies.iter().any(|other| other.split(',').any(|part| part == name));
            if !known && exists(&Path::new(ROOT).join(name), "tasks")? {
                hierarchies.push(name);
            }
        }
        let place = |name: &str| Path::new(ROOT).join(name).join(path.trim_start_matches('/'));
        let hybrid = exists(&Path::new(ROOT).join("unified"), "cgroup.controllers")?;
        Ok(Self {
            hierarchies: hierarchies.into_iter().map(|name| (name, place(name))).collect(),
            unified: hybrid.then(|| place("unified")),
        })
    }

    pub fn below(path: &str, below: &[(Option<&str>, &str)]) -> Result<Self> {
        let mut group = Self::new(path)?;
        for (controllers, sub) in below {
            let wanted = |name: &str| {
                controllers.is_none_or(|list| list.split(',').any(|one| name.split(',').any(|part| part == one)))
            };
            if let Some(list) = controllers
                && let Some(missing) = list.split(',').find(|one| group.dir(one).is_none())
            {
                return Err(Failure::invalid("cgroup", format!("unknown controller {missing}")));
            }
            let sub = sub.trim_matches('/');
            for (_, dir) in group.hierarchies.iter_mut().filter(|(name, _)| wanted(name)) {
                dir.push(sub);
                super::must_exist(dir)?;
            }
            if let (None, Some(dir)) = (controllers, &mut group.unified) {
                dir.push(sub);
                super::must_exist(dir)?;
            }
        }
        Ok(group)
    }

    pub(super) fn dir(&self, controller: &str) -> Option<&Path> {
        self.hierarchies
            .iter()
            .find(|(name, _)| name.split(',').any(|part| part == controller))
            .map(|(_, path)| path.as_path())
    }

    /// The directory for a limit that was asked for; a host without the controller is an error, never silence.
    pub(super) fn need(&self, controller: &str, asked: &str) -> Result<&Path> {
        self.dir(controller).ok_or_else(|| {
            Failure::new(
                Kind::Unsupported,
                "cgroup",
                format!("{asked}: this host has no {controller} cgroup controller"),
            )
        })
    }
}

impl Cgroup for V1 {
    fn create(&self) -> Result<()> {
        for (name, path) in &self.hierarchies {
            if *name == "cpuset" {
                make_cpuset(path)?;
            } else {
                make_directory(path)?;
            }
        }
        self.unified.as_deref().map_or(Ok(()), make_directory)
    }

    fn set(&self, resources: &Resources) -> Result<()> {
        if !resources.unified.is_empty() {
            return Err(Failure::invalid(
                "cgroup",
                "invalid configuration: /linux/resources/unified is for cgroup v2; this host has cgroup v1",
            ));
        }
        self.set_devices(&resources.devices)?;
        self.set_memory(&resources.memory)?;
        self.set_cpu(&resources.cpu)?;
        if let Some(pids) = &resources.pids
            && pids.limit != 0
        {
            let dir = self.need("pids", "pids limit")?;
            let limit = if pids.limit > 0 { pids.limit.to_string() } else { "max".into() };
            write(dir, "pids.max", limit)?;
        }
        self.set_blkio(&resources.block_io)?;
        for page in &resources.hugepage_limits {
            let dir = self.need("hugetlb", "huge page limit")?;
            write(dir, &format!("hugetlb.{}.limit_in_bytes", page.page_size), page.limit)?;
            // 5.7: a reservation beyond it fails, rather than what it is used for
            let reserved = format!("hugetlb.{}.rsvd.limit_in_bytes", page.page_size);
            if exists(dir, &reserved)? {
                write(dir, &reserved, page.limit)?;
            }
        }
        self.set_network(&resources.network)?;
        super::set_rdma(&resources.rdma, |line| write(self.need("rdma", super::RDMA)?, "rdma.max", line))
    }

    fn join_files(&self) -> Result<Vec<OwnedFd>> {
        self.hierarchies
            .iter()
            .map(|(_, path)| {
                let tasks = path.join("tasks");
                openat(CWD, &tasks, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).context("open", tasks.display())
            })
            .collect()
    }

    fn birthplace(&self) -> Result<Option<OwnedFd>> {
        let Some(path) = &self.unified else { return Ok(None) };
        match openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(directory) => Ok(Some(directory)),
            // that of a container from before the mount
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Failure::io("open", path.display(), error)),
        }
    }

    fn mounts(&self) -> Vec<(String, PathBuf)> {
        self.hierarchies.iter().map(|(name, path)| ((*name).to_owned(), path.clone())).collect()
    }

    fn freeze(&self, frozen: bool) -> Result<()> {
        let dir = self.need("freezer", "pause")?;
        let state = if frozen { "FROZEN" } else { "THAWED" };
        // a task that forks while it is being frozen keeps the state at FREEZING: written again, the kernel looks again
        for _ in 0..1000 {
            write(dir, "freezer.state", state)?;
            if read(dir, "freezer.state")?.trim() == state {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if frozen {
            // never left half frozen
            write(dir, "freezer.state", "THAWED")?;
        }
        Err(Failure::new(
            Kind::System,
            "freezer",
            format!("{}: the kernel did not reach {state} within 1 s", dir.display()),
        ))
    }

    fn is_frozen(&self) -> Result<bool> {
        let Some(dir) = self.dir("freezer") else { return Ok(false) };
        unless_gone(read(dir, "freezer.state").map(|state| state.trim() != "THAWED"))
    }

    fn pids(&self) -> Result<Vec<i32>> {
        let Some((_, dir)) = self.hierarchies.iter().find(|(name, _)| *name == "pids").or(self.hierarchies.first())
        else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        pids_below(dir, &mut found)?;
        Ok(found)
    }

    fn stats(&self) -> Result<Stats> {
        stats(self)
    }

    fn oom_kills(&self) -> u64 {
        self.dir("memory")
            .and_then(|dir| read_map(dir, "memory.oom_control").ok())
            .and_then(|map| map.get("oom_kill").copied())
            .unwrap_or(0)
    }

    fn oom_event(&self) -> Result<Option<OwnedFd>> {
        let Some(dir) = self.dir("memory") else { return Ok(None) };
        let path = dir.join("memory.oom_control");
        let control =
            openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("open", path.display())?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("eventfd", "")?;
        write(dir, "cgroup.event_control", format!("{} {}", event.as_raw_fd(), control.as_raw_fd()))?;
        Ok(Some(event))
    }

    fn remove(&self) -> Result<()> {
        // each is tried: one that stays must not keep the others
        let paths = self.hierarchies.iter().map(|(_, path)| path).chain(&self.unified);
        let results: Vec<Result<()>> = paths.map(|path| remove_directory(path)).collect();
        results.into_iter().collect()
    }
}

/// The last component; those above it only when they are missing.
fn make_directory(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path).context("mkdir", path.display())
        }
        Err(error) => Err(Failure::io("mkdir", path.display(), error)),
    }
}

/// What is made below a group of ours has its cpus and memory nodes from the beginning: to write them makes the kernel look at all
/// cpusets of the host and build its scheduling domains anew.
fn make_cpuset(dir: &Path) -> Result<()> {
    if let Some(parent) = dir.parent().filter(|parent| !parent.exists()) {
        make_directory(parent)?;
        write(parent, "cgroup.clone_children", 1)?;
        inherit_cpuset(parent)?;
    }
    make_directory(dir)?;
    inherit_cpuset(dir)
}

/// A new cpuset has neither cpus nor memory nodes, and nothing can join it before it has: it takes its parent's.
fn inherit_cpuset(dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if !read(dir, file)?.trim().is_empty() {
            continue;
        }
        let parent = dir.parent().unwrap_or(Path::new(ROOT));
        if read(parent, file)?.trim().is_empty() {
            inherit_cpuset(parent)?;
        }
        write(dir, file, read(parent, file)?.trim())?;
    }
    Ok(())
}

/// A group that somebody else has removed counts as empty.
pub(super) fn unless_gone<T: Default>(result: Result<T>) -> Result<T> {
    match result {
        Err(failure) if matches!(failure.errno, Some(libc::ENOENT | libc::ENODEV)) => Ok(T::default()),
        result => result,
    }
}
