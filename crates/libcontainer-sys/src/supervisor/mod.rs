//! The daemon's side of its shims: starting them, speaking with all of them from one thread, adopting those of an earlier
//! daemon, and clearing away what is left of one.

mod adopt;
mod destroy;
mod hub;
mod netns;
mod sockets;
mod spawn;

pub use adopt::adopt;
pub use destroy::{Doomed, destroy};
pub use hub::{Event, Hub, Reply};
pub use netns::netns;
pub use sockets::held_socket;
pub use spawn::{SpawnRequest, SpawnedPort, spawn};

pub use crate::shim::protocol::MAX_FDS;
