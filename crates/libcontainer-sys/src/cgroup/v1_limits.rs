//! Limits in the files of cgroup v1.

use super::devices;
use super::v1::V1;
use super::values::{exists, read_u64, write};
use crate::failure::{Failure, Kind, Result};
use crate::spec::{BlockIo, Cpu, DeviceRule, InterfacePriority, Memory, NetworkMarks};
use std::path::Path;

impl V1 {
    pub(super) fn set_devices(&self, asked: &[DeviceRule]) -> Result<()> {
        let rules = devices::effective(asked)?;
        if rules.is_empty() {
            return Ok(());
        }
        let dir = self.need("devices", "device rules")?;
        for rule in rules {
            let file = if rule.allow { "devices.allow" } else { "devices.deny" };
            let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
            let text = match rule.is_everything() {
                true => "a".to_owned(),
                false => format!("{} {}:{} {}", rule.kind, number(rule.major), number(rule.minor), rule.access),
            };
            write(dir, file, text)?;
        }
        Ok(())
    }

    pub(super) fn set_memory(&self, memory: &Memory) -> Result<()> {
        if let Some(value) = memory.reservation.filter(|v| *v != 0) {
            write(self.need("memory", "memory reservation")?, "memory.soft_limit_in_bytes", value)?;
        }
        super::refuse_limits_below_usage(memory, || {
            self.dir("memory").and_then(|dir| read_u64(dir, "memory.usage_in_bytes").ok()).unwrap_or(0)
        })?;
        self.set_memory_and_swap(memory.limit.filter(|v| *v != 0), memory.swap.filter(|v| *v != 0))?;
        if let Some(value) = memory.swappiness {
            write(self.need("memory", "memory swappiness")?, "memory.swappiness", value)?;
        }
        if memory.disable_oom_killer == Some(true) {
            write(self.need("memory", "oom kill disable")?, "memory.oom_control", 1)?;
        }
        Ok(())
    }

    /// The kernel keeps limit ≤ limit+swap at every moment, so that the order of the two writes depends on the old values.
    fn set_memory_and_swap(&self, limit: Option<i64>, swap: Option<i64>) -> Result<()> {
        const SWAP: &str = "memory.memsw.limit_in_bytes";
        const LIMIT: &str = "memory.limit_in_bytes";
        if limit.is_none() && swap.is_none() {
            return Ok(());
        }
        let dir = self.need("memory", "memory limit")?;
        let counted = exists(dir, SWAP)?;
        // no limit of memory alone would stay below that of memory and swap
        let swap = swap.or(limit.filter(|limit| *limit == -1 && counted));
        if let Some(swap) = swap
            && !counted
        {
            // without swap accounting -1 and twice the limit mean what the kernel does anyway
            let accounted = swap == -1 || limit.is_some_and(|limit| swap == limit * 2);
            if !accounted {
                return Err(Failure::new(
                    Kind::Unsupported,
                    "cgroup",
                    "memory+swap limit: this kernel does not account swap",
                ));
            }
            return limit.map_or(Ok(()), |limit| write_memory(dir, LIMIT, limit));
        }
        match (limit, swap) {
            (Some(limit), Some(swap)) => {
                let current = read_u64(dir, LIMIT)?;
                let growing = swap == -1 || current < swap.unsigned_abs();
                if growing {
                    write_memory(dir, SWAP, swap)?;
                    write_memory(dir, LIMIT, limit)
                } else {
                    write_memory(dir, LIMIT, limit)?;
                    write_memory(dir, SWAP, swap)
                }
            }
            (Some(limit), None) => write_memory(dir, LIMIT, limit),
            (None, Some(swap)) => write_memory(dir, SWAP, swap),
            (None, None) => Ok(()),
        }
    }

    pub(super) fn set_cpu(&self, cpu: &Cpu) -> Result<()> {
        if let Some(shares) = cpu.shares.filter(|v| *v != 0) {
            write(self.need("cpu", "cpu shares")?, "cpu.shares", shares)?;
        }
        let realtime = (cpu.realtime_period.filter(|v| *v != 0), cpu.realtime_runtime.filter(|v| *v != 0));
        self.set_period("cpu realtime limit", ["cpu.rt_period_us", "cpu.rt_runtime_us"], realtime)?;
        let fair = (cpu.period.filter(|v| *v != 0), cpu.quota.filter(|v| *v != 0));
        self.set_period("cpu quota", ["cpu.cfs_period_us", "cpu.cfs_quota_us"], fair)?;
        if let Some(burst) = cpu.burst {
            write(self.need("cpu", "cpu burst")?, "cpu.cfs_burst_us", burst)?;
        }
        if let Some(idle) = cpu.idle {
            write(self.need("cpu", "cpu idle")?, "cpu.idle", idle)?;
        }
        if !cpu.cpus.is_empty() {
            write(self.need("cpuset", "cpuset cpus")?, "cpuset.cpus", &cpu.cpus)?;
        }
        if !cpu.mems.is_empty() {
            write(self.need("cpuset", "cpuset mems")?, "cpuset.mems", &cpu.mems)?;
        }
        Ok(())
    }

    /// A shorter period under the old share of it may be refused until the new share stands.
    fn set_period(&self, asked: &str, files: [&str; 2], (period, share): (Option<u64>, Option<i64>)) -> Result<()> {
        if period.is_none() && share.is_none() {
            return Ok(());
        }
        let dir = self.need("cpu", asked)?;
        let early = period.map_or(Ok(()), |period| write(dir, files[0], period));
        match (share, early) {
            (None, early) => early,
            (Some(share), Ok(())) => write(dir, files[1], share),
            (Some(share), Err(_)) => {
                write(dir, files[1], share)?;
                period.map_or(Ok(()), |period| write(dir, files[0], period))
            }
        }
    }

    pub(super) fn set_network(&self, network: &NetworkMarks) -> Result<()> {
        if let Some(class) = network.class_id.filter(|class| *class != 0) {
            write(self.need("net_cls", "/linux/resources/network/classID")?, "net_cls.classid", class)?;
        }
        for InterfacePriority { name, priority } in &network.priorities {
            let dir = self.need("net_prio", "/linux/resources/network/priorities")?;
            write(dir, "net_prio.ifpriomap", format!("{name} {priority}"))?;
        }
        Ok(())
    }

    pub(super) fn set_blkio(&self, io: &BlockIo) -> Result<()> {
        if let Some(weight) = io.weight.filter(|v| *v != 0) {
            let dir = self.need("blkio", "blkio weight")?;
            let file = if dir.join("blkio.bfq.weight").exists() { "blkio.bfq.weight" } else { "blkio.weight" };
            write(dir, file, weight)?;
        }
        for device in &io.weight_device {
            if let Some(weight) = device.weight {
                let dir = self.need("blkio", "blkio weight device")?;
                let file = if dir.join("blkio.bfq.weight_device").exists() {
                    "blkio.bfq.weight_device"
                } else {
                    "blkio.weight_device"
                };
                write(dir, file, format!("{}:{} {weight}", device.major, device.minor))?;
            }
        }
        let throttles = [
            (&io.throttle_read_bps_device, "blkio.throttle.read_bps_device"),
            (&io.throttle_write_bps_device, "blkio.throttle.write_bps_device"),
            (&io.throttle_read_iops_device, "blkio.throttle.read_iops_device"),
            (&io.throttle_write_iops_device, "blkio.throttle.write_iops_device"),
        ];
        for (devices, file) in throttles {
            for device in devices {
                let text = format!("{}:{} {}", device.major, device.minor, device.rate);
                write(self.need("blkio", file)?, file, text)?;
            }
        }
        Ok(())
    }
}

fn write_memory(dir: &Path, file: &str, value: i64) -> Result<()> {
    write(dir, file, value).map_err(|failure| {
        if failure.errno != Some(libc::EBUSY) {
            return failure;
        }
        let usage = read_u64(dir, "memory.usage_in_bytes").unwrap_or(0);
        Failure { message: format!("unable to set memory limit to {value} (current usage: {usage})"), ..failure }
    })
}
