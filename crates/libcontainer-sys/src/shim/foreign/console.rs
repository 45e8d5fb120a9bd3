//! `--console-socket`: where a runtime sends the master of the terminal that it has made in the container.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::failure::{Context, Failure, Kind, Result};

const NAME: &str = "console.sock";
/// The runtime has ended, so that it has sent what it sends.
const TIME: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

pub struct ConsoleSocket {
    /// An address holds 107 bytes: both sides name the socket through this descriptor.
    directory: OwnedFd,
    listener: OwnedFd,
}

impl ConsoleSocket {
    pub fn listen(directory: &Path) -> Result<Self> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty()).context("open", directory.display())?;
        let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .context("socket", "console")?;
        let made = Self { directory, listener };
        let address = SocketAddrUnix::new(made.address().as_str()).context("socket address", NAME)?;
        rustix::net::bind(&made.listener, &address).context("bind", NAME)?;
        rustix::net::listen(&made.listener, 1).context("listen", NAME)?;
        Ok(made)
    }

    pub fn address(&self) -> String {
        format!("/proc/{}/fd/{}/{NAME}", std::process::id(), self.directory.as_raw_fd())
    }

    pub fn receive(self) -> Result<OwnedFd> {
        let nothing = || Failure::new(Kind::System, "runtime", "the runtime has sent no terminal");
        let readable = |fd: &OwnedFd| poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&TIME)).is_ok_and(|n| n > 0);
        if !readable(&self.listener) {
            return Err(nothing());
        }
        let connection = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC).context("accept", "console")?;
        if !readable(&connection) {
            return Err(nothing());
        }
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        rustix::net::recvmsg(
            &connection,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        )
        .context("receive", "console")?;
        let sent = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let _ = rustix::fs::unlinkat(&self.directory, NAME, rustix::fs::AtFlags::empty());
        sent.ok_or_else(nothing)
    }
}
