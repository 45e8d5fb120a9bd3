//! Network namespaces. A namespace belongs to a thread, so each is made and entered by a thread that ends with the work.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{NetError, Result, system};
use crate::link;
use crate::socket::Socket;
use crate::sys;

/// A new namespace with its lo up; the descriptor alone keeps it. IPv6 is off on every device but lo.
pub fn create_netns() -> Result<OwnedFd> {
    on_thread(|| {
        sys::unshare_network().map_err(system("unshare", "network namespace"))?;
        let namespace = current()?;
        link::set_ipv6("default", false)?;
        let mut socket = Socket::route()?;
        // lo is the first device of every namespace: index 1, always.
        socket.run(vec![link::set_message("set link up", "lo", 1, true)])?;
        Ok(namespace)
    })
}

/// Runs `work` on a thread inside the namespace.
pub fn in_netns<T: Send>(namespace: impl AsFd + Sync, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_thread(|| {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(system("setns", "network namespace"))?;
        work()
    })
}

fn current() -> Result<OwnedFd> {
    let path = "/proc/thread-self/ns/net";
    // File::open sets O_CLOEXEC.
    let file = File::open(path);
    Ok(file.map_err(|error| system("open", path)(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?.into())
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("netns".into()).stack_size(256 * 1024);
        let thread = builder.spawn_scoped(scope, work).map_err(|error| NetError::System {
            op: "start thread",
            object: "netns".into(),
            errno: Errno::from_io_error(&error).unwrap_or(Errno::AGAIN),
            detail: String::new(),
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
