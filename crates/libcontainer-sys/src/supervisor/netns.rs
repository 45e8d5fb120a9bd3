//! The way into a running container's network namespace.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use serde_json::Value;

use super::hub::Hub;
use crate::failure::{Context, Failure, Kind, Result};
use crate::shim::process::{self, SpawnedContainer};

/// Blocks.
pub fn netns(hub: &Arc<Hub>, id: &str) -> Result<OwnedFd> {
    let mut state = hub.call(id, "state", Value::Null, &[])?;
    let gone = || Failure::new(Kind::Gone, "netns", format!("container {id} is not running"));
    let names: SpawnedContainer = serde_json::from_value(state["container"].take()).map_err(|_| gone())?;
    let path = format!("/proc/{}/ns/net", names.init_pid);
    let namespace = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    // Looked at after the file was opened: while init still lives, the pid was its own.
    process::open(names.init_pid, names.init_start_time)?.ok_or_else(gone)?;
    namespace.context("open", path)
}
