//! Network devices of the host that a container takes over.

use crate::failure::{Context, Failure, Kind, Result};
use crate::spec::NetDevice;
use netlink::NetError;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::collections::BTreeMap;
use std::os::fd::AsFd;

/// Into the network namespace of the process, which has entered it. When one of them cannot be had those before it are gone
/// with the container, as the specification says: what the kernel has not made itself comes back when the namespace ends.
pub fn hand_over(pid: i32, devices: &BTreeMap<String, NetDevice>) -> Result<()> {
    let path = format!("/proc/{pid}/ns/net");
    let netns =
        openat(CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("open namespace", &path)?;
    for (name, device) in devices {
        let new_name = if device.name.is_empty() { name } else { &device.name };
        netlink::hand_over_link(name, new_name, netns.as_fd()).map_err(|error| told(name, &error))?;
    }
    Ok(())
}

fn told(name: &str, error: &NetError) -> Failure {
    let kind = match error {
        NetError::Conflict { .. } => Kind::Conflict,
        NetError::System { errno, .. } if *errno == rustix::io::Errno::NODEV => Kind::NotFound,
        _ => Kind::System,
    };
    let errno = error.errno().map(rustix::io::Errno::raw_os_error);
    let message = format!("/linux/netDevices/{name}: {error}");
    Failure { errno, ..Failure::new(kind, error.op(), message) }
}
