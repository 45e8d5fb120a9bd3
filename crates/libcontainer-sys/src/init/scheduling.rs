//! When and where a process runs: scheduling policy, I/O priority, CPUs, the nodes of its memory; and what the kernel takes itself
//! for (personality).

use crate::failure::{Context, Failure, Result};
use crate::spec::{Linux, MemoryPolicy, Personality, Process, Scheduler};
use crate::sys::scheduling;
use std::ops::RangeInclusive;

const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

const CLASSES: [(&str, i32); 3] = [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

const MEMORY_MODES: [(&str, i32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

const MEMORY_FLAGS: [(&str, i32); 3] =
    [("MPOL_F_NUMA_BALANCING", 1 << 13), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_STATIC_NODES", 1 << 15)];

/// `linux`: of the container.
pub fn apply(process: &Process, linux: &Linux) -> Result<()> {
    linux.memory_policy.as_ref().map_or(Ok(()), set_memory_policy)?;
    let pinned = !linux.resources.cpu.cpus.is_empty();
    if let Some(scheduler) = &process.scheduler {
        scheduling::set_policy(&attributes(scheduler)?).map_err(|error| {
            let failure = Failure::io("sched_setattr", &scheduler.policy, error);
            match failure.errno {
                // a deadline is kept on all CPUs or none
                Some(libc::EPERM) if pinned => {
                    let message = format!("process scheduler can't be used together with AllowedCPUs: {failure}");
                    Failure { message, ..failure }
                }
                _ => failure,
            }
        })?;
    }
    if let Some(io) = &process.io_priority {
        let class = known(&CLASSES, &io.class, "/process/ioPriority/class")?;
        if !(0..8).contains(&io.priority) {
            return Err(invalid(format!("/process/ioPriority/priority: {} is not between 0 and 7", io.priority)));
        }
        scheduling::set_io_priority(class << 13 | io.priority).context("ioprio_set", &io.class)?;
    }
    Ok(())
}

fn set_memory_policy(policy: &MemoryPolicy) -> Result<()> {
    let mut mode = known(&MEMORY_MODES, &policy.mode, "/linux/memoryPolicy/mode")?;
    for flag in &policy.flags {
        mode |= known(&MEMORY_FLAGS, flag, "/linux/memoryPolicy/flags")?;
    }
    let mut nodes = scheduling::Nodes::default();
    if !policy.nodes.is_empty() {
        for range in ranges(&policy.nodes, scheduling::MAX_NODES) {
            let range = range.ok_or_else(|| {
                invalid(format!("/linux/memoryPolicy/nodes: {:?} is not a list of memory nodes", policy.nodes))
            })?;
            range.for_each(|node| nodes[node / 64] |= 1 << (node % 64));
        }
    }
    scheduling::set_memory_policy(mode, &nodes).map_err(|error| {
        let asked = format!("/linux/memoryPolicy: {} of nodes {:?}", policy.mode, policy.nodes);
        Failure::io("set_mempolicy", asked, error)
    })
}

fn attributes(scheduler: &Scheduler) -> Result<scheduling::Attributes> {
    let mut flags = 0;
    for flag in &scheduler.flags {
        flags |= known(&FLAGS, flag, "/process/scheduler/flags")?;
    }
    let priority = u32::try_from(scheduler.priority)
        .map_err(|_| invalid(format!("/process/scheduler/priority: {} is negative", scheduler.priority)))?;
    Ok(scheduling::Attributes {
        policy: known(&POLICIES, &scheduler.policy, "/process/scheduler/policy")?,
        flags,
        nice: scheduler.nice,
        priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
        ..scheduling::Attributes::default()
    })
}

/// All CPUs that the cgroup allows: what the creator was pinned to is nothing for its containers.
pub fn reset_affinity() {
    let mut all = rustix::thread::CpuSet::new();
    (0..rustix::thread::CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    // a wish: the kernel takes what there is
    let _ = rustix::thread::sched_setaffinity(None, &all);
}

/// Of the first 64 CPUs those that the caller may run on.
pub fn affinity_mask() -> u64 {
    let cpus = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    (0..64).filter(|cpu| cpus.is_set(*cpu)).fold(0, |mask, cpu| mask | 1 << cpu)
}

/// A list as `0-3,7`.
pub fn set_affinity(list: &str, pointer: &str) -> Result<()> {
    let unreadable = || invalid(format!("{pointer}: {list:?} is not a list of CPUs"));
    let mut cpus = rustix::thread::CpuSet::new();
    for range in ranges(list, rustix::thread::CpuSet::MAX_CPU) {
        range.ok_or_else(unreadable)?.for_each(|cpu| cpus.set(cpu));
    }
    rustix::thread::sched_setaffinity(None, &cpus).context("sched_setaffinity", list)
}

/// The parts of a list as `0-3,7` of numbers below `limit`; None for what is none.
fn ranges(list: &str, limit: usize) -> impl Iterator<Item = Option<RangeInclusive<usize>>> {
    list.split(',').map(move |part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |word: &str| word.trim().parse::<usize>().ok().filter(|number| *number < limit);
        let range = number(first)?..=number(last)?;
        Some(range).filter(|range| !range.is_empty())
    })
}

pub fn set_personality(personality: &Personality) -> Result<()> {
    if let Some(flag) = personality.flags.first() {
        return Err(invalid(format!("/linux/personality/flags: {flag:?} is not supported, as no flag is")));
    }
    let domain = known(&[("LINUX", 0), ("LINUX32", 8)], &personality.domain, "/linux/personality/domain")?;
    scheduling::set_personality(domain).context("personality", &personality.domain)
}

fn known<T: Copy>(table: &[(&str, T)], word: &str, pointer: &str) -> Result<T> {
    let found = table.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    found.ok_or_else(|| invalid(format!("{pointer}: {word:?} is not known")))
}

fn invalid(message: String) -> Failure {
    Failure::invalid("scheduling", message)
}
