//! After a restart of the daemon: a shim that lives is connected to, of one that ended its files are read.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};

use super::hub::Hub;
use crate::failure::{Context, Kind, Result};
use crate::shim::exit::ExitStatus;
use crate::shim::process::{self, SpawnedContainer};

/// `ContainerRuntimeState`. Blocks.
pub fn adopt(hub: &Arc<Hub>, id: &str, state_dir: &Path) -> Result<Value> {
    let names = SpawnedContainer::read(state_dir);
    if !hub.knows(id)
        && let Some(names) = names
        && let Some(pidfd) = process::open(names.shim_pid, names.shim_start_time)?
        && let Ok(socket) = connect(state_dir)
    {
        hub.add(id, socket, pidfd, None)?;
    }
    if hub.knows(id) {
        match hub.call(id, "state", Value::Null, &[]) {
            Ok(mut state) => {
                if state["status"] == "running" && is_frozen(state_dir) {
                    state["status"] = json!("paused");
                }
                acknowledge(hub, id, &state);
                return Ok(state);
            }
            // It has ended just now: its files tell.
            Err(failure) if failure.kind == Kind::Gone => {}
            Err(failure) => return Err(failure),
        }
    }
    let exit = ExitStatus::read(state_dir);
    let status = if exit.is_some() { "exited" } else { "lost" };
    let mut state = json!({ "status": status, "execs": [] });
    if let Some(names) = names {
        state["container"] = json!(names);
    }
    if let Some(exit) = exit {
        state["exit"] = json!(exit);
    }
    Ok(state)
}

/// What is told here needs not be told again. The ends of execs are acknowledged once they are written down.
fn acknowledge(hub: &Arc<Hub>, id: &str, state: &Value) {
    if state["status"] == "exited" {
        hub.request(id, "ack", json!({}), &[], Box::new(drop));
    }
}

fn connect(state_dir: &Path) -> Result<OwnedFd> {
    let directory = rustix::fs::open(state_dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .context("open", state_dir.display())?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context("socket", "shim")?;
    // sun_path holds 107 bytes, and the directory's path may be longer.
    let path = format!("/proc/self/fd/{}/shim.sock", directory.as_raw_fd());
    let address = SocketAddrUnix::new(path.as_str()).context("connect", &path)?;
    rustix::net::connect(&socket, &address).context("connect", state_dir.join("shim.sock").display())?;
    Ok(socket)
}

/// The daemon freezes by itself, so the shim does not know.
fn is_frozen(state_dir: &Path) -> bool {
    let config: Option<Value> =
        std::fs::read(state_dir.join("config.json")).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let Some(config) = config else { return false };
    let group = config["spec"]["linux"]["cgroupsPath"].as_str().unwrap_or_default();
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    read(format!("/sys/fs/cgroup/freezer{group}/freezer.state")).trim() == "FROZEN"
        || read(format!("/sys/fs/cgroup{group}/cgroup.freeze")).trim() == "1"
}
