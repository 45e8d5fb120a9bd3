//! Names of processes that stay right when a pid is used again: pid and start time.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use crate::container::start_time;
use crate::failure::{Failure, Result};

/// `SpawnedContainer` of the contract, and the content of `shim.pid`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SpawnedContainer {
    pub shim_pid: i32,
    pub shim_start_time: u64,
    pub init_pid: i32,
    pub init_start_time: u64,
}

impl SpawnedContainer {
    pub fn read(state_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(state_dir.join("shim.pid")).ok()?).ok()
    }
}

/// A descriptor of exactly this process; `None` when it has ended and been reaped.
pub fn open(pid: i32, expected_start: u64) -> Result<Option<OwnedFd>> {
    let Some(raw) = Pid::from_raw(pid) else {
        return Err(Failure::invalid("pidfd_open", format!("{pid} is no process id")));
    };
    let pidfd = match rustix::process::pidfd_open(raw, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(Failure::io("pidfd_open", pid, error)),
    };
    // Compared after the descriptor was made: from here on it cannot become another process.
    match start_time(pid) {
        Ok(start) if start == expected_start => Ok(Some(pidfd)),
        Ok(_) => Ok(None),
        Err(failure) if matches!(failure.errno, Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_by_pid_and_start_time() {
        let own = std::process::id() as i32;
        let start = start_time(own).unwrap();
        assert!(open(own, start).unwrap().is_some());
        assert!(open(own, start + 1).unwrap().is_none());
    }
}
