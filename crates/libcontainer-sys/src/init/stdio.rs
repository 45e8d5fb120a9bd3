//! What a process has as its descriptors 0, 1 and 2.

use super::user::Identity;
use crate::failure::{Context, Failure, Result};
use crate::rootfs;
use crate::spec::Process;
use crate::sys::{exec, prctl};
use std::os::fd::{AsFd, BorrowedFd, RawFd};

/// A pipe belongs to whoever writes into it, so that /dev/stdout can be opened again by a user other than root. Nothing
/// else changes hands: the host's /dev/null would (runc had that), or a file somebody redirected to.
fn give_pipe(fd: BorrowedFd, uid: u32) {
    let kind = rustix::fs::fstat(fd).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
    if matches!(kind, Ok(rustix::fs::FileType::Fifo | rustix::fs::FileType::Socket)) {
        let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None);
    }
}

/// Descriptors 0, 1 and 2.
pub fn place(
    stdio: Option<[BorrowedFd; 3]>,
    console: Option<rootfs::Console>,
    process: &Process,
    identity: &Identity,
) -> Result<()> {
    let Some(console) = console else {
        let stdio = stdio.ok_or_else(|| Failure::invalid("stdio", "neither a terminal nor descriptors were given"))?;
        for (number, fd) in stdio.into_iter().enumerate() {
            give_pipe(fd, identity.uid);
            exec::place_fd(fd, number as RawFd, true).context("dup", "stdio")?;
        }
        return Ok(());
    };
    for number in 0..3 {
        exec::place_fd(console.peer.as_fd(), number, true).context("dup", "terminal")?;
    }
    prctl::set_controlling_terminal(0).context("set controlling terminal", "")?;
    rustix::fs::fchown(&console.peer, Some(rustix::fs::Uid::from_raw(identity.uid)), None)
        .context("chown", "terminal")?;
    if let Some(size) = process.console_size {
        let size = rustix::termios::Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&console.master, size).context("set terminal size", "")?;
    }
    Ok(())
}
