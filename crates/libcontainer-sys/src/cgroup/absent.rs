//! What stands for a cgroup where the creator, an ordinary user, may make none: the container stays in the creator's own, without
//! limits.

use super::{Cgroup, Stats};
use crate::failure::{Failure, Kind, Result};
use crate::spec::Resources;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub struct Absent;

fn missing(op: &str) -> Failure {
    let message = format!("{op}: this container has no cgroup of its own: its creator may make none");
    Failure::new(Kind::Unsupported, "cgroup", message)
}

impl Cgroup for Absent {
    fn create(&self) -> Result<()> {
        Ok(())
    }

    /// Rules for devices are as good as met: a user cannot make a device.
    fn set(&self, resources: &Resources) -> Result<()> {
        if (Resources { devices: Vec::new(), ..resources.clone() }) == Resources::default() {
            return Ok(());
        }
        let message =
            "/linux/resources: rootless needs no limits + no cgrouppath when no permission is granted for cgroups";
        Err(Failure::new(Kind::Unsupported, "cgroup", message))
    }

    fn join_files(&self) -> Result<Vec<OwnedFd>> {
        Ok(Vec::new())
    }

    fn birthplace(&self) -> Result<Option<OwnedFd>> {
        Ok(None)
    }

    fn mounts(&self) -> Vec<(String, PathBuf)> {
        Vec::new()
    }

    fn freeze(&self, frozen: bool) -> Result<()> {
        Err(missing(if frozen { "pause" } else { "resume" }))
    }

    fn is_frozen(&self) -> Result<bool> {
        Ok(false)
    }

    /// None that are known; those of a pid namespace end with its init.
    fn pids(&self) -> Result<Vec<i32>> {
        Ok(Vec::new())
    }

    fn stats(&self) -> Result<Stats> {
        Err(missing("stats"))
    }

    fn oom_kills(&self) -> u64 {
        0
    }

    fn oom_event(&self) -> Result<Option<OwnedFd>> {
        Ok(None)
    }

    fn remove(&self) -> Result<()> {
        Ok(())
    }

    fn kill(&self, _signal: i32) -> Result<()> {
        Err(missing("kill --all"))
    }
}
