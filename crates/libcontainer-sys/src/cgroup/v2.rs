//! cgroup v2: one directory in the one hierarchy.
//!
//! ```text
//! /sys/fs/cgroup/<parent>/<id>/     controllers are switched on in every group above (cgroup.subtree_control)
//! ```

use super::v2_stats::stats;
use super::values::{exists, pids_below, read, read_map, read_u64, remove_directory, write};
use super::{Cgroup, Stats, devices, v2_devices};
use crate::failure::{Context, Failure, Kind, Result};
use crate::spec::{BlockIo, Cpu, DeviceRule, Memory, NetworkMarks, Resources};
use crate::user_namespace;
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub struct V2 {
    mountpoint: PathBuf,
    dir: PathBuf,
}

impl V2 {
    pub fn new(mountpoint: &Path, path: &str) -> Self {
        Self { mountpoint: mountpoint.to_owned(), dir: mountpoint.join(path.trim_start_matches('/')) }
    }

    /// Writes a limit that was asked for; without its file the controller is missing, which is an error, never silence.
    fn limit(&self, file: &str, value: impl std::fmt::Display, asked: &str) -> Result<()> {
        if !exists(&self.dir, file)? {
            let controller = file.split('.').next().unwrap_or(file);
            let message = format!("{asked}: this host has no {controller} cgroup controller with {file}");
            return Err(Failure::new(Kind::Unsupported, "cgroup", message));
        }
        write(&self.dir, file, value)
    }

    fn open(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, &self.dir, flags, Mode::empty()).context("open", self.dir.display())
    }

    fn set_devices(&self, asked: &[DeviceRule]) -> Result<()> {
        let rules = devices::effective(asked)?;
        match rules.as_slice() {
            [] => Ok(()),
            [only] if only.allow && only.is_everything() => Ok(()),
            rules => match v2_devices::attach(&self.dir, &self.open()?, rules) {
                // bpf(2) is root's: an ordinary user makes no devices, and opens those alone that their modes give him
                Err(failure) if failure.errno == Some(libc::EPERM) && user_namespace::is_unprivileged() => Ok(()),
                attached => attached,
            },
        }
    }

    fn set_memory(&self, memory: &Memory) -> Result<()> {
        let unsupported =
            |what: &str| Err(Failure::new(Kind::Unsupported, "cgroup", format!("{what}: cgroup v2 has no such limit")));
        // the kernel refuses other negative ones
        let text = |value: i64| if value == -1 { "max".to_owned() } else { value.to_string() };
        let limit = memory.limit.filter(|v| *v != 0);
        super::refuse_limits_below_usage(memory, || read_u64(&self.dir, "memory.current").unwrap_or(0))?;
        match (limit, memory.swap.filter(|v| *v != 0)) {
            // no limit of memory is none of memory and swap
            (Some(-1), None) if exists(&self.dir, "memory.swap.max")? => write(&self.dir, "memory.swap.max", "max")?,
            (_, None) => {}
            (_, Some(-1)) => self.limit("memory.swap.max", "max", "memory+swap limit")?,
            // without a limit of memory there is nothing to take off
            (Some(-1), Some(swap)) => self.limit("memory.swap.max", swap, "memory+swap limit")?,
            // the specification counts memory and swap together, v2 swap alone
            (Some(limit), Some(swap)) if limit > 0 && swap >= limit => {
                self.limit("memory.swap.max", swap - limit, "memory+swap limit")?;
            }
            (_, Some(swap)) => {
                let message = format!("memory+swap limit {swap} needs a memory limit that is not larger");
                return Err(Failure::invalid("cgroup", message));
            }
        }
        if let Some(limit) = limit {
            self.limit("memory.max", text(limit), "memory limit")?;
        }
        if let Some(reservation) = memory.reservation.filter(|v| *v != 0) {
            self.limit("memory.low", text(reservation), "memory reservation")?;
        }
        if memory.swappiness.is_some() {
            return unsupported("memory swappiness");
        }
        if memory.disable_oom_killer == Some(true) {
            return unsupported("oom kill disable");
        }
        Ok(())
    }

    fn set_cpu(&self, cpu: &Cpu) -> Result<()> {
        if let Some(shares) = cpu.shares.filter(|v| *v != 0) {
            self.limit("cpu.weight", cpu_weight(shares), "cpu shares")?;
        }
        let (quota, period) = (cpu.quota.filter(|v| *v != 0), cpu.period.filter(|v| *v != 0));
        if quota.is_some() || period.is_some() {
            // the file holds both: what was not asked for stays
            let now = read(&self.dir, "cpu.max").unwrap_or_default();
            let mut now = now.split_whitespace();
            let (old_quota, old_period) = (now.next().unwrap_or("max"), now.next().unwrap_or("100000"));
            let quota = match quota {
                None => old_quota.to_owned(),
                Some(v) if v > 0 => v.to_string(),
                Some(_) => "max".to_owned(),
            };
            let period = period.map_or(old_period.to_owned(), |v| v.to_string());
            self.limit("cpu.max", format!("{quota} {period}"), "cpu quota")?;
        }
        if cpu.realtime_period.is_some_and(|v| v != 0) || cpu.realtime_runtime.is_some_and(|v| v != 0) {
            let message = "cpu realtime limits: cgroup v2 has none";
            return Err(Failure::new(Kind::Unsupported, "cgroup", message));
        }
        if let Some(burst) = cpu.burst {
            self.limit("cpu.max.burst", burst, "cpu burst")?;
        }
        if let Some(idle) = cpu.idle {
            self.limit("cpu.idle", idle, "cpu idle")?;
        }
        if !cpu.cpus.is_empty() {
            self.limit("cpuset.cpus", &cpu.cpus, "cpuset cpus")?;
        }
        if !cpu.mems.is_empty() {
            self.limit("cpuset.mems", &cpu.mems, "cpuset mems")?;
        }
        Ok(())
    }

    fn set_io(&self, io: &BlockIo) -> Result<()> {
        let bfq = self.dir.join("io.bfq.weight").exists();
        let (file, convert) = if bfq { ("io.bfq.weight", false) } else { ("io.weight", true) };
        let scaled = |weight: u16| if convert { io_weight(weight.into()) } else { weight.into() };
        if let Some(weight) = io.weight.filter(|v| *v != 0) {
            self.limit(file, scaled(weight), "blkio weight")?;
        }
        for device in &io.weight_device {
            if let Some(weight) = device.weight {
                let value = format!("{}:{} {}", device.major, device.minor, scaled(weight));
                self.limit(file, value, "blkio weight device")?;
            }
        }
        let throttles = [
            (&io.throttle_read_bps_device, "rbps"),
            (&io.throttle_write_bps_device, "wbps"),
            (&io.throttle_read_iops_device, "riops"),
            (&io.throttle_write_iops_device, "wiops"),
        ];
        for (devices, key) in throttles {
            for device in devices {
                let value = format!("{}:{} {key}={}", device.major, device.minor, device.rate);
                self.limit("io.max", value, "blkio throttle")?;
            }
        }
        Ok(())
    }
}

/// 2…262144 of v1 to 1…10000: a curve through the smallest, the default (1024 to 100) and the largest, as runc has it since 1.3.2.
/// A straight line would give the default 39, less than what has none set.
pub fn cpu_weight(shares: u64) -> u64 {
    let power = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (power * power + 125.0 * power) / 612.0 - 7.0 / 34.0;
    // of the ends it is a whole number but for rounding
    (10f64.powf(exponent) - 1e-6).ceil() as u64
}

/// 10…1000 of v1 to 1…10000.
fn io_weight(weight: u64) -> u64 {
    1 + (weight.clamp(10, 1000) - 10) * 9999 / 990
}

impl Cgroup for V2 {
    fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.dir).context("mkdir", self.dir.display())?;
        let mut above: Vec<&Path> = self.dir.ancestors().skip(1).collect();
        above.retain(|dir| dir.starts_with(&self.mountpoint));
        for dir in above.into_iter().rev() {
            let (have, on) = (read(dir, "cgroup.controllers")?, read(dir, "cgroup.subtree_control")?);
            let is_on = |name: &str| on.split_whitespace().any(|word| word == name);
            for name in have.split_whitespace().filter(|name| !is_on(name)) {
                // one that cannot be had is missed when a limit asks for it
                let _ = write(dir, "cgroup.subtree_control", format!("+{name}"));
            }
        }
        Ok(())
    }

    fn set(&self, resources: &Resources) -> Result<()> {
        self.set_devices(&resources.devices)?;
        self.set_memory(&resources.memory)?;
        self.set_cpu(&resources.cpu)?;
        if let Some(pids) = resources.pids.as_ref().filter(|pids| pids.limit != 0) {
            let limit = if pids.limit > 0 { pids.limit.to_string() } else { "max".into() };
            self.limit("pids.max", limit, "pids limit")?;
        }
        self.set_io(&resources.block_io)?;
        for page in &resources.hugepage_limits {
            self.limit(&format!("hugetlb.{}.max", page.page_size), page.limit, "huge page limit")?;
            // 5.7: a reservation beyond it fails, rather than what it is used for
            let reserved = format!("hugetlb.{}.rsvd.max", page.page_size);
            if exists(&self.dir, &reserved)? {
                write(&self.dir, &reserved, page.limit)?;
            }
        }
        let NetworkMarks { class_id, priorities } = &resources.network;
        if class_id.is_some_and(|class| class != 0) || !priorities.is_empty() {
            let message = "/linux/resources/network: cgroup v2 marks no packets: match them by cgroup in the firewall";
            return Err(Failure::new(Kind::Unsupported, "cgroup", message));
        }
        super::set_rdma(&resources.rdma, |line| self.limit("rdma.max", line, super::RDMA))?;
        for (file, value) in &resources.unified {
            if file.contains('/') || !file.contains('.') {
                return Err(Failure::invalid("cgroup", format!("/linux/resources/unified: {file:?} is not a file")));
            }
            self.limit(file, value, "unified")?;
        }
        Ok(())
    }

    fn join(&self) -> Result<()> {
        write(&self.dir, "cgroup.procs", 0)
    }

    fn join_files(&self) -> Result<Vec<OwnedFd>> {
        Ok(Vec::new())
    }

    fn birthplace(&self) -> Result<Option<OwnedFd>> {
        self.open().map(Some)
    }

    fn mounts(&self) -> Vec<(String, PathBuf)> {
        vec![(String::new(), self.dir.clone())]
    }

    fn freeze(&self, frozen: bool) -> Result<()> {
        write(&self.dir, "cgroup.freeze", u8::from(frozen))?;
        for _ in 0..1000 {
            let state = read_map(&self.dir, "cgroup.events")?;
            if state.get("frozen").copied().unwrap_or(0) == u64::from(frozen) {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if frozen {
            // never left half frozen
            write(&self.dir, "cgroup.freeze", 0)?;
        }
        let message = format!("{}: the kernel did not freeze or thaw it within 1 s", self.dir.display());
        Err(Failure::new(Kind::System, "freezer", message))
    }

    fn is_frozen(&self) -> Result<bool> {
        Ok(read(&self.dir, "cgroup.freeze").is_ok_and(|state| state.trim() == "1"))
    }

    fn pids(&self) -> Result<Vec<i32>> {
        let mut found = Vec::new();
        pids_below(&self.dir, &mut found)?;
        Ok(found)
    }

    fn kill(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL && self.dir.join("cgroup.kill").exists() {
            // 5.14: all at once, also those that are being forked
            return write(&self.dir, "cgroup.kill", 1);
        }
        for pid in self.pids()? {
            // it may have ended meanwhile
            let _ = crate::sys::signal::kill(pid, signal);
        }
        Ok(())
    }

    fn stats(&self) -> Result<Stats> {
        stats(&self.dir)
    }

    fn oom_kills(&self) -> u64 {
        read_map(&self.dir, "memory.events").ok().and_then(|map| map.get("oom_kill").copied()).unwrap_or(0)
    }

    /// An inotify descriptor: readable at every change of memory.events, of which only some are kills.
    fn oom_event(&self) -> Result<Option<OwnedFd>> {
        let path = self.dir.join("memory.events");
        if !path.exists() {
            return Ok(None);
        }
        let watch = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).context("inotify", "")?;
        add_watch(&watch, &path, WatchFlags::MODIFY).context("watch", path.display())?;
        Ok(Some(watch))
    }

    fn oom_happened(&self, seen: &mut u64) -> bool {
        let before = std::mem::replace(seen, self.oom_kills());
        *seen > before
    }

    fn remove(&self) -> Result<()> {
        remove_directory(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, getpid};

    #[test]
    fn weights_keep_their_ends() {
        assert_eq!([2, 100, 1024, 262_144].map(cpu_weight), [1, 17, 100, 10_000]);
        assert_eq!([10, 500, 1000].map(io_weight), [1, 4950, 10_000]);
    }

    /// Where v2 is mounted beside v1 as here, or alone.
    fn mountpoint() -> Option<PathBuf> {
        let found = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.join("cgroup.controllers").exists());
        found.filter(|_| rustix::process::geteuid().is_root())
    }

    #[test]
    fn freezes_kills_and_goes_on_the_real_kernel() {
        let Some(mountpoint) = mountpoint() else {
            assert!(std::env::var_os("CAISSON_REQUIRE").is_none(), "needs root and a cgroup2 mount");
            return;
        };
        let group = V2::new(&mountpoint, &format!("/caisson-unit-{}/inner", Pid::as_raw(Some(getpid()))));
        group.create().unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(group.dir.join("cgroup.procs"), child.id().to_string()).unwrap();
        assert_eq!(group.pids().unwrap(), [child.id() as i32]);
        // what a container may do that has the right to write here: the kernel lists no processes of such a group
        let threads = group.dir.join("threads");
        fs::create_dir(&threads).unwrap();
        fs::write(threads.join("cgroup.type"), "threaded").unwrap();
        fs::write(threads.join("cgroup.threads"), child.id().to_string()).unwrap();
        assert_eq!(fs::read(threads.join("cgroup.procs")).unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
        assert_eq!(group.pids().unwrap(), [child.id() as i32]);
        group.freeze(true).unwrap();
        group.freeze(false).unwrap();
        let missing = group.limit("memory.nothing", 1, "a limit").unwrap_err();
        assert!(missing.message.starts_with("a limit: this host has no memory"), "{}", missing.message);
        group.kill(libc::SIGKILL).unwrap();
        child.wait().unwrap();
        group.remove().unwrap();
        group.remove().unwrap();
        fs::remove_dir(group.dir.parent().unwrap()).unwrap();
    }

    #[test]
    fn the_device_program_is_accepted_and_asked_by_the_kernel() {
        let Some(mountpoint) = mountpoint() else { return };
        let group = V2::new(&mountpoint, &format!("/caisson-unit-dev-{}", Pid::as_raw(Some(getpid()))));
        group.create().unwrap();
        let deny = DeviceRule { allow: false, kind: None, major: None, minor: None, access: None };
        group.set_devices(&[deny]).unwrap();
        let script = format!(
            "echo $$ > {}/cgroup.procs; head -c 1 /dev/zero | wc -c; head -c 1 /dev/kmsg 2>&1 | wc -c; : < /dev/kmsg",
            group.dir.display()
        );
        let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        group.remove().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("1\n"), "{output:?}");
        assert!(errors.contains("Operation not permitted"), "{errors}");
    }
}
