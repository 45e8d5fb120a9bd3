//! A new shim: its files, its process, and the wait for its container.

use std::ffi::CString;
use std::fs::{DirBuilder, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::{Value, json};

use super::destroy::{Doomed, destroy};
use super::hub::Hub;
use crate::failure::{Context, Failure, Kind, Result};
use crate::shim::exit::write_whole;
use crate::sys::spawn::{FIRST_FD, Program, spawn as clone_and_exec};

pub struct SpawnedPort {
    pub fd: OwnedFd,
    /// The rest of `PortSocket`.
    pub description: Value,
}

pub struct SpawnRequest {
    pub id: String,
    pub state_dir: PathBuf,
    pub cgroup: String,
    /// `ContainerConfig`.
    pub config: Value,
    pub netns: Option<OwnedFd>,
    pub ports: Vec<SpawnedPort>,
}

/// Returns when the container is built up to its program. When it fails, nothing is left. Blocks.
pub fn spawn(hub: &Arc<Hub>, mut request: SpawnRequest) -> Result<Value> {
    // Made before anything else: who comes second must not undo what the first one does.
    DirBuilder::new().mode(0o700).create(&request.state_dir).context("mkdir", request.state_dir.display())?;
    launch(hub, &mut request).map_err(|failure| {
        let complaint = complaint(&request.state_dir);
        let doomed =
            Doomed { id: request.id.clone(), state_dir: request.state_dir.clone(), cgroup: request.cgroup.clone() };
        // The first failure is the one to tell; the engine destroys again when it undoes its own steps.
        let _ = destroy(hub, &doomed);
        with_complaint(failure, &complaint)
    })
}

fn launch(hub: &Arc<Hub>, request: &mut SpawnRequest) -> Result<Value> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context("socketpair", "shim")?;
    let mut fds: Vec<BorrowedFd> = vec![theirs.as_fd()];
    let config = &mut request.config;
    if let Some(netns) = &request.netns {
        config["netnsFd"] = json!(FIRST_FD + fds.len() as i32);
        fds.push(netns.as_fd());
    }
    let mut ports = Vec::new();
    for port in &mut request.ports {
        let mut description = port.description.take();
        description["fd"] = json!(FIRST_FD + fds.len() as i32);
        fds.push(port.fd.as_fd());
        ports.push(description);
    }
    config["ports"] = Value::Array(ports);
    let path = request.state_dir.join("config.json");
    write_whole(&path, config.to_string().as_bytes()).context("write", path.display())?;
    let complaints = request.state_dir.join("shim.err");
    let stderr = OpenOptions::new().append(true).create(true).mode(0o600).open(&complaints);
    let stderr = stderr.context("open", complaints.display())?;
    let argument = CString::new(request.state_dir.as_os_str().as_bytes())
        .map_err(|_| Failure::invalid("spawn", format!("{:?}: a path cannot hold a NUL", request.state_dir)))?;
    let shim = clone_and_exec(&Program {
        binary: hub.binary(),
        args: &[c"caisson-shim".into(), argument],
        null: hub.null(),
        stderr: stderr.as_fd(),
        fds: &fds,
    })
    .context("exec", "caisson-shim")?;
    drop(theirs);
    let (built, wait) = sync_channel(1);
    hub.add(&request.id, ours, shim.pidfd, Some(Box::new(move |result| drop(built.send(result)))))?;
    wait.recv().unwrap_or_else(|_| Err(Failure::new(Kind::Gone, "create", "the shim has gone")))
}

/// What the shim itself wrote, for the case that it ended without an answer.
fn complaint(state_dir: &Path) -> String {
    std::fs::read_to_string(state_dir.join("shim.err")).unwrap_or_default().trim().to_owned()
}

fn with_complaint(mut failure: Failure, complaint: &str) -> Failure {
    if failure.kind == Kind::Gone && !complaint.is_empty() {
        failure.kind = Kind::System;
        failure.message = format!("{}: {complaint}", failure.message);
    }
    failure
}
