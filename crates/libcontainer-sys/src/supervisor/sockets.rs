//! Sockets that a shim holds for the daemon: duplicated by the next daemon, so that what waits in them is not lost.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use serde_json::Value;

use super::hub::Hub;
use crate::failure::{Context, Failure, Kind, Result};

/// The descriptor of the port whose `proto` is this, as the shim was told at its start.
pub fn held_socket(hub: &Arc<Hub>, id: &str, state_dir: &Path, proto: &str) -> Result<OwnedFd> {
    let path = state_dir.join("config.json");
    let text = std::fs::read(&path).context("read", path.display())?;
    let config: Value = serde_json::from_slice(&text)
        .map_err(|error| Failure::invalid("config", format!("{}: {error}", path.display())))?;
    let ports = config["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let held = ports.iter().find(|port| port["proto"] == proto).and_then(|port| port["fd"].as_i64());
    let number = held.and_then(|fd| i32::try_from(fd).ok());
    let gone = |what: &str| Failure::new(Kind::Gone, "held socket", format!("container {id} has no {what}"));
    let number = number.ok_or_else(|| gone(proto))?;
    let shim = hub.pidfd(id).ok_or_else(|| gone("shim"))?;
    pidfd_getfd(shim, number, PidfdGetfdFlags::empty()).context("pidfd_getfd", proto)
}
