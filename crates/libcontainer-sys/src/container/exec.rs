use std::os::fd::OwnedFd;

use super::{Error, ExecOptions, Result};

#[derive(Debug)]
pub struct ExecProcess {
    /// In the caller's pid namespace; a child of the caller.
    pub pid: u32,
    pub pidfd: OwnedFd,
    /// The master of the terminal, with `Stdio::Terminal`.
    pub console: Option<OwnedFd>,
}

/// Starts a process in a running container. Returns when its execve has succeeded; `Error::Exec` when that failed (the
/// child is reaped already).
pub fn exec(options: ExecOptions) -> Result<ExecProcess> {
    Err(Error::unsupported(options.cgroup, "not built yet"))
}
