//! What is left of a container taken away: processes, cgroups, state directory. Idempotent, from any state.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal};

use super::hub::Hub;
use crate::cgroup::{self, Cgroup};
use crate::failure::{Context, Failure, Kind, Result};
use crate::shim::process::{self, SpawnedContainer};

/// A shim whose container has ended still serves its clients for a while, then ends by itself.
const SHIM_TIME: Duration = Duration::from_secs(12);
/// After SIGKILL a process may still be in the kernel.
const KILL_TIME: Duration = Duration::from_secs(10);

pub struct Doomed {
    pub id: String,
    pub state_dir: PathBuf,
    pub cgroup: String,
}

/// Blocks until all of it is gone.
pub fn destroy(hub: &Arc<Hub>, doomed: &Doomed) -> Result<()> {
    let names = SpawnedContainer::read(&doomed.state_dir);
    let known = hub.abandon(&doomed.id);
    let shim = match (known, names) {
        (Some(pidfd), _) => Some(pidfd),
        (None, Some(names)) => process::open(names.shim_pid, names.shim_start_time)?,
        (None, None) => None,
    };
    if let Some(names) = names
        && let Some(init) = process::open(names.init_pid, names.init_start_time)?
    {
        kill(&init);
    }
    let group = cgroup::open(&doomed.cgroup)?;
    // A frozen group would keep its killed processes; one that was never made cannot be thawed.
    let _ = group.freeze(false);
    group.kill(libc::SIGKILL)?;
    if let Some(shim) = shim
        && !wait(&shim, SHIM_TIME)
    {
        kill(&shim);
        if !wait(&shim, KILL_TIME) {
            let message = format!("the shim of {} does not end after SIGKILL", doomed.id);
            return Err(Failure::new(Kind::System, "destroy", message));
        }
    }
    empty(group.as_ref(), &doomed.cgroup)?;
    group.remove()?;
    match std::fs::remove_dir_all(&doomed.state_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("remove", doomed.state_dir.display())
        }
        _ => Ok(()),
    }
}

/// Kills until nothing is left in the group: a process may have been born while the others were killed.
fn empty(group: &dyn Cgroup, path: &str) -> Result<()> {
    let deadline = Instant::now() + KILL_TIME;
    loop {
        let pids = group.pids()?;
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let message = format!("{path}: processes {pids:?} do not end after SIGKILL");
            return Err(Failure::new(Kind::System, "destroy", message));
        }
        group.kill(libc::SIGKILL)?;
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn kill(pidfd: &OwnedFd) {
    // It may have ended meanwhile.
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
}

/// True when the process has ended; it is reaped where it is our child.
fn wait(pidfd: &OwnedFd, time: Duration) -> bool {
    let deadline = Instant::now() + time;
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: i64::from(rest.subsec_nanos()) };
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => break,
            Err(_) => {}
        }
    }
    // The hub's thread may have been faster; one of an earlier daemon is not our child.
    let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    true
}
