use std::os::fd::OwnedFd;

use super::{CreateOptions, Error, Result, StartError};

/// A container whose init is parked.
#[derive(Debug)]
pub struct Created {
    /// In the caller's pid namespace.
    pub pid: u32,
    pub pidfd: OwnedFd,
    /// Field 22 of /proc/pid/stat.
    pub start_time: u64,
    /// The master of the container's terminal, with `Stdio::Terminal`.
    pub console: Option<OwnedFd>,
    /// Compiled seccomp filter of the container, for `ExecOptions::seccomp`.
    pub seccomp: Option<Vec<u8>>,
    control: OwnedFd,
    cgroup: String,
}

/// Builds a container and parks its init. On failure nothing is left: no process, no cgroup.
pub fn create(options: CreateOptions) -> Result<Created> {
    Err(Error::unsupported(options.id, "not built yet"))
}

impl Created {
    /// Releases init (with `Park::Here`); returns when its execve has succeeded or has not. After an error init has ended
    /// and is to be reaped; the cgroup is still there.
    pub fn start(&self) -> std::result::Result<(), StartError> {
        super::report::release(&self.control)
    }

    /// Kills init, reaps it and removes the cgroup.
    pub fn abort(self) -> Result<()> {
        let _ = self.cgroup;
        Ok(())
    }
}
