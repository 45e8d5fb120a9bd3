//! Resource limits of a process and its standing with the OOM killer.

use crate::failure::{Context, Failure, Result};
use crate::spec::Rlimit;
use rustix::process::{Resource, Rlimit as KernelRlimit, getrlimit, setrlimit};

/// Docker's containers get 1024:524288 from systemd, whatever the daemon itself was started with: so do ours.
const NOFILE: (u64, u64) = (1024, 524_288);

pub fn set_rlimits(limits: &[Rlimit]) -> Result<()> {
    for limit in limits {
        let resource = resource(&limit.kind)?;
        let value = KernelRlimit { current: finite(limit.soft), maximum: finite(limit.hard) };
        setrlimit(resource, value).context("set limit", format!("{} {}:{}", limit.kind, limit.soft, limit.hard))?;
    }
    if !limits.iter().any(|limit| limit.kind == "RLIMIT_NOFILE") {
        // a host that grants less than the default keeps its own ceiling
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(NOFILE.1).min(NOFILE.1);
        let value = KernelRlimit { current: Some(NOFILE.0.min(hard)), maximum: Some(hard) };
        setrlimit(Resource::Nofile, value).context("set limit", "RLIMIT_NOFILE")?;
    }
    Ok(())
}

/// The hard limits alone, while the process still may raise them: in a user namespace it may not.
pub fn raise_rlimits(limits: &[Rlimit]) -> Result<()> {
    for limit in limits {
        let resource = resource(&limit.kind)?;
        let now = getrlimit(resource);
        if now.maximum.is_some_and(|maximum| limit.hard > maximum) {
            let value = KernelRlimit { current: now.current, maximum: finite(limit.hard) };
            setrlimit(resource, value).context("set limit", format!("{} {}:{}", limit.kind, limit.soft, limit.hard))?;
        }
    }
    Ok(())
}

fn finite(value: u64) -> Option<u64> {
    (value != u64::MAX).then_some(value)
}

pub fn is_known(name: &str) -> bool {
    resource(name).is_ok()
}

fn resource(name: &str) -> Result<Resource> {
    Ok(match name {
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_STACK" => Resource::Stack,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        other => return Err(Failure::invalid("limits", format!("unknown limit {other:?}"))),
    })
}

/// Lowering it needs CAP_SYS_RESOURCE. 0 is everybody's default, applied where it can be; anything else was asked for.
pub fn set_oom_score_adj(value: Option<i32>) -> Result<()> {
    // not asked for is 0 all the same: the shim's own value, low so that it survives, is nothing for its container
    let value = value.unwrap_or(0);
    match std::fs::write("/proc/self/oom_score_adj", value.to_string()) {
        Err(error) if value != 0 => Err(Failure::io("write oom_score_adj", value, error)),
        _ => Ok(()),
    }
}
