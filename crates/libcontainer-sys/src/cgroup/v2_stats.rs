//! What the controllers of cgroup v2 have counted.

use super::values::{parse, read, read_map, read_u64};
use super::{BlkioEntry, CpuStats, MemoryStats, PidsStats, Stats};
use crate::failure::Result;
use std::path::Path;

/// What v1 shows for a group without a memory limit; clients know it.
const UNLIMITED: u64 = 0x7fff_ffff_ffff_f000;

pub fn stats(dir: &Path) -> Result<Stats> {
    let cpu = read_map(dir, "cpu.stat")?;
    let microseconds = |key: &str| cpu.get(key).copied().unwrap_or(0) * 1000;
    let count = |key: &str| cpu.get(key).copied().unwrap_or(0);
    let optional = |file: &str| read_u64(dir, file).unwrap_or(0);
    let events = read_map(dir, "memory.events").unwrap_or_default();
    let limit = read(dir, "memory.max").map_or(0, |text| text.trim().parse().unwrap_or(UNLIMITED));
    Ok(Stats {
        cpu: CpuStats {
            total_usage: microseconds("usage_usec"),
            percpu_usage: Vec::new(),
            kernel_usage: microseconds("system_usec"),
            user_usage: microseconds("user_usec"),
            periods: count("nr_periods"),
            throttled_periods: count("nr_throttled"),
            throttled_time: microseconds("throttled_usec"),
        },
        memory: MemoryStats {
            usage: optional("memory.current"),
            max_usage: optional("memory.peak"),
            limit,
            failcnt: events.get("max").copied().unwrap_or(0),
            stats: read_map(dir, "memory.stat").unwrap_or_default(),
        },
        pids: PidsStats {
            current: optional("pids.current"),
            limit: read(dir, "pids.max").map_or(0, |text| parse(&text)),
        },
        blkio: [("io_service_bytes_recursive", ["rbytes", "wbytes"]), ("io_serviced_recursive", ["rios", "wios"])]
            .into_iter()
            .map(|(name, keys)| (name.to_owned(), io_entries(&read(dir, "io.stat").unwrap_or_default(), keys)))
            .collect(),
    })
}

/// Lines of `8:0 rbytes=1 wbytes=2 rios=3 wios=4`.
fn io_entries(text: &str, keys: [&str; 2]) -> Vec<BlkioEntry> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        for word in words {
            let Some((key, value)) = word.split_once('=') else { continue };
            for (wanted, op) in keys.into_iter().zip(["read", "write"]) {
                if key == wanted {
                    let (major, minor) = (parse(major), parse(minor));
                    entries.push(BlkioEntry { major, minor, op: op.to_owned(), value: parse(value) });
                }
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_io_lines() {
        let entries = io_entries("8:0 rbytes=4096 wbytes=1 rios=2 wios=3\n", ["rios", "wios"]);
        assert_eq!(entries.iter().map(|e| (e.op.as_str(), e.value)).collect::<Vec<_>>(), [("read", 2), ("write", 3)]);
    }
}
