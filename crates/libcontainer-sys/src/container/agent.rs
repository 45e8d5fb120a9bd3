//! The far end of a seccomp filter that asks.

use super::control;
use crate::failure::{Failure, Kind, Result};
use crate::seccomp::{Filter, Listener};
use crate::spec::Identity;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Whoever answers for the container's seccomp filter, and what it is told.
pub struct Agent {
    pub listener: Listener,
    pub identity: Identity,
    pub pid: i32,
    pub container: i32,
    pub joins: bool,
}

impl Agent {
    pub fn of(filter: Option<&Filter>, identity: &Identity) -> Option<Self> {
        let listener = filter?.listener.clone()?;
        Some(Self { listener, identity: identity.clone(), pid: 0, container: 0, joins: false })
    }

    pub fn tell(agent: Option<&Self>, fd: Option<OwnedFd>) -> Result<()> {
        let (Some(agent), Some(fd)) = (agent, fd) else {
            return Err(Failure::new(Kind::System, "seccomp", "a listener that nobody asked for"));
        };
        let state = serde_json::json!({
            "ociVersion": crate::spec::VERSION,
            "fds": ["seccompFd"],
            "pid": agent.pid,
            "metadata": agent.listener.metadata,
            "state": agent.identity.state(if agent.joins { "running" } else { "creating" }, agent.container),
        });
        control::send_to_socket(Path::new(&agent.listener.path), state.to_string().as_bytes(), fd.as_fd()).map_err(
            |why| {
                let message = format!("failed to connect with seccomp agent: /linux/seccomp/listenerPath: {why}");
                Failure { message, ..why }
            },
        )
    }
}
