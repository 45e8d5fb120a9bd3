//! The socket between init (or a joining process) and its creator.

use super::notes::Level;
use crate::failure::{Context, Failure, Fix, Kind, Result};
use crate::sys::clone::{Cloned, clone3_sibling, exit_now};
use crate::sys::exec::place_fd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, accept_with, connect, recvmsg, sendmsg, socket_with, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// From a process on its way into a container to its creator.
#[derive(Serialize, Deserialize)]
pub(crate) enum Message {
    /// Of the process between: the one that stays, with its pidfd.
    Born {
        pid: i32,
    },
    /// Wants the user namespace's maps written; waits.
    MapIds,
    /// Wants the ids of the tree mapped that comes with it and that is the source of mount `at`; waits.
    MapMount {
        at: usize,
    },
    /// Wants the host's network devices that are to be the container's; waits.
    NetDevices,
    /// Wants the hooks of the runtime's namespace run; waits.
    RuntimeHooks,
    /// With the descriptor on which the seccomp filter asks.
    SeccompListener,
    /// With the terminal's master.
    Console,
    Note {
        level: Level,
        text: String,
    },
    Ready,
    Failed(Failure),
}

/// Of a message.
const MAX_BYTES: usize = 64 << 10;

/// Names out of a configuration may be of any length.
fn shortened(failure: &Failure) -> Failure {
    // the beginning says what, the end why
    let short = |text: &str| match text.char_indices().nth(500).zip(text.char_indices().nth_back(500)) {
        Some(((head, _), (tail, _))) if head < tail => format!("{} … {}", &text[..head], &text[tail..]),
        _ => text.to_owned(),
    };
    let fix = failure.fix.as_deref().map(|fix| Box::new(Fix { code: fix.code.clone(), hint: short(&fix.hint) }));
    Failure { message: short(&failure.message), path: failure.path.as_deref().map(short), fix, ..failure.clone() }
}

/// The socket between init and its creator. It is close-on-exec: that it ends says that the program runs.
pub(crate) struct Control(pub(super) OwnedFd);

impl Control {
    pub(super) fn pair() -> Result<(Self, Self)> {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map(|(a, b)| (Self(a), Self(b)))
            .context("socketpair", "")
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// A creator that has gone hears nothing; the child then ends by itself.
    pub(crate) fn send(&self, message: &Message, fd: Option<BorrowedFd>) {
        let Ok(mut bytes) = serde_json::to_vec(message) else { return };
        if let (true, Message::Failed(failure)) = (bytes.len() > MAX_BYTES, message) {
            bytes = serde_json::to_vec(&Message::Failed(shortened(failure))).unwrap_or_default();
        }
        match self.send_bytes(&bytes, fd) {
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {}
            // whoever waits for it would wait for ever
            Err(error) => {
                let failure = Failure::io("send a message to", "the creator", error);
                let _ = self.send_bytes(&serde_json::to_vec(&Message::Failed(failure)).unwrap_or_default(), None);
                exit_now(125)
            }
        }
    }

    fn send_bytes(&self, bytes: &[u8], fd: Option<BorrowedFd>) -> rustix::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if let Some(fd) = &fd {
            ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)));
        }
        match sendmsg(&self.0, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            // the container's seccomp filter may stand already and forbid the call
            Err(error) if fd.is_none() && !matches!(error, Errno::PIPE | Errno::CONNRESET) => {
                rustix::io::write(&self.0, bytes).map(drop)
            }
            sent => sent.map(drop),
        }
    }

    pub(crate) fn warn(&self, text: &str) {
        self.send(&Message::Note { level: Level::Warning, text: text.into() }, None);
    }

    pub(crate) fn debug(&self, wanted: bool, text: impl FnOnce() -> String) {
        if wanted {
            self.send(&Message::Note { level: Level::Debug, text: text() }, None);
        }
    }

    /// None: the other side has gone, or has become its program.
    pub(super) fn receive(&self) -> Result<Option<(Message, Option<OwnedFd>)>> {
        self.receive_with(RecvFlags::CMSG_CLOEXEC)
    }

    /// EAGAIN when there is nothing.
    pub(super) fn receive_now(&self) -> Result<Option<(Message, Option<OwnedFd>)>> {
        self.receive_with(RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
    }

    fn receive_with(&self, flags: RecvFlags) -> Result<Option<(Message, Option<OwnedFd>)>> {
        let mut bytes = vec![0; MAX_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                result => break result.context("receive from", "init")?,
            }
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let fd = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let message = serde_json::from_slice(&bytes[..received.bytes])
            .map_err(|error| Failure::new(Kind::System, "init", format!("unreadable message from init: {error}")))?;
        Ok(Some((message, fd)))
    }

    pub(super) fn go(&self) -> Result<()> {
        rustix::io::write(&self.0, b"g").context("release", "init")?;
        Ok(())
    }

    /// Sends what needs the creator, and waits until it is done.
    pub(crate) fn ask(&self, message: &Message) -> Result<()> {
        self.ask_with(message, None)
    }

    pub(crate) fn ask_with(&self, message: &Message, fd: Option<BorrowedFd>) -> Result<()> {
        self.send(message, fd);
        match self.wait_for_go()? {
            true => Ok(()),
            false => Err(Failure::new(Kind::Gone, "init", "the creator has gone")),
        }
    }

    /// The caller's child goes on as its creator's own; the caller ends. So the child can be born into namespaces that the
    /// caller has entered, and is seen there only when nothing of the host is left on it.
    pub(crate) fn continue_in_child(&self, flags: u64) -> Result<()> {
        let (wait, until) = pipe_with(PipeFlags::CLOEXEC).context("pipe", "")?;
        match clone3_sibling(flags).context("clone3", "into the container's namespaces")? {
            Cloned::Parent { pid, pidfd } => {
                self.send(&Message::Born { pid }, Some(pidfd.as_fd()));
                exit_now(0)
            }
            Cloned::Child => {
                // the creator hears of us before it hears us
                drop(until);
                let _ = rustix::io::read(&wait, &mut [0]);
                Ok(())
            }
        }
    }

    /// The creator may go; whoever connects to the listener takes its place, under the same number.
    pub(crate) fn hand_over(&self, listener: BorrowedFd) -> Result<()> {
        let next = accept_with(listener, SocketFlags::CLOEXEC).context("accept", "start")?;
        place_fd(next.as_fd(), self.0.as_raw_fd(), false).context("dup", "control socket")
    }

    /// False: the creator has gone. Plain read: recvmsg may already be forbidden by the container's seccomp filter.
    pub(crate) fn wait_for_go(&self) -> Result<bool> {
        let mut byte = [0];
        loop {
            match rustix::io::read(&self.0, &mut byte) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(false),
                // an end without a word would count as the program's
                result => return result.map(|count| count == 1).context("hear from", "the creator"),
            }
        }
    }
}

/// Gives a descriptor to whoever listens at `path`, with these bytes as the message.
pub fn send_to_socket(path: &Path, bytes: &[u8], fd: BorrowedFd) -> Result<()> {
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).context("socket", "")?;
    let (_dir, address) = super::short_address(path).context("socket address", path.display())?;
    connect(&socket, &address).context("connect to", path.display())?;
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(&socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
        .context("send a descriptor to", path.display())
        .map(drop)
}
