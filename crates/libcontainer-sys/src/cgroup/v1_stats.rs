//! What the controllers of cgroup v1 have counted.

use super::v1::{V1, unless_gone};
use super::values::{parse, read, read_map, read_u64};
use super::{BlkioEntry, CpuStats, MemoryStats, PidsStats, Stats};
use crate::failure::Result;
use std::path::Path;

pub fn stats(group: &V1) -> Result<Stats> {
    let mut stats = Stats::default();
    if let Some(dir) = group.dir("cpuacct") {
        stats.cpu = unless_gone(cpu_stats(dir, group.dir("cpu").unwrap_or(dir)))?;
    }
    if let Some(dir) = group.dir("memory") {
        stats.memory = unless_gone(memory_stats(dir))?;
    }
    if let Some(dir) = group.dir("pids") {
        stats.pids = unless_gone(pids_stats(dir))?;
    }
    if let Some(dir) = group.dir("blkio") {
        for (key, file) in BLKIO_FILES {
            stats.blkio.insert(key.to_owned(), read(dir, file).map(|text| blkio_entries(&text)).unwrap_or_default());
        }
    }
    Ok(stats)
}

fn memory_stats(dir: &Path) -> Result<MemoryStats> {
    Ok(MemoryStats {
        usage: read_u64(dir, "memory.usage_in_bytes")?,
        max_usage: read_u64(dir, "memory.max_usage_in_bytes")?,
        limit: read_u64(dir, "memory.limit_in_bytes")?,
        failcnt: read_u64(dir, "memory.failcnt")?,
        stats: read_map(dir, "memory.stat")?,
    })
}

fn pids_stats(dir: &Path) -> Result<PidsStats> {
    Ok(PidsStats { current: read_u64(dir, "pids.current")?, limit: parse(&read(dir, "pids.max")?) })
}

fn cpu_stats(cpuacct: &Path, cpu: &Path) -> Result<CpuStats> {
    // clock ticks of 10 ms (USER_HZ is 100 on all Linux architectures that we build for)
    const TICK_NS: u64 = 10_000_000;
    let split = read_map(cpuacct, "cpuacct.stat")?;
    let throttling = read_map(cpu, "cpu.stat").unwrap_or_default();
    let get = |key: &str| throttling.get(key).copied().unwrap_or(0);
    Ok(CpuStats {
        total_usage: read_u64(cpuacct, "cpuacct.usage")?,
        percpu_usage: read(cpuacct, "cpuacct.usage_percpu")?.split_whitespace().map(parse).collect(),
        kernel_usage: split.get("system").copied().unwrap_or(0) * TICK_NS,
        user_usage: split.get("user").copied().unwrap_or(0) * TICK_NS,
        periods: get("nr_periods"),
        throttled_periods: get("nr_throttled"),
        throttled_time: get("throttled_time"),
    })
}

const BLKIO_FILES: [(&str, &str); 2] = [
    ("io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive"),
    ("io_serviced_recursive", "blkio.throttle.io_serviced_recursive"),
];

/// Lines of `major:minor op value`; the last one is a total without a device.
fn blkio_entries(text: &str) -> Vec<BlkioEntry> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.split_whitespace();
            let (major, minor) = parts.next()?.split_once(':')?;
            Some(BlkioEntry {
                major: parse(major),
                minor: parse(minor),
                op: parts.next()?.to_owned(),
                value: parse(parts.next()?),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_blkio_lines() {
        let entries = blkio_entries("254:0 Read 4096\n254:0 Total 8192\nTotal 8192\n");
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].major, entries[0].op.as_str(), entries[0].value), (254, "Read", 4096));
    }
}
