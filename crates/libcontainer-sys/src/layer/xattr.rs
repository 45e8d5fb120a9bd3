//! Extended attributes of extracted and copied files.

use rustix::fs::{XattrFlags, fsetxattr, lsetxattr};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, OwnedFd};

use super::error::{Result, system};

pub(super) type Xattrs = [(Vec<u8>, Vec<u8>)];

/// `trusted.*` is the host's: overlay reads its own state there (an image must not set a redirect), so archives may not
/// set it (containerd does the same).
fn allowed(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.")
}

/// A filesystem or host without such attributes, or a kind of file that cannot have them, is no reason to fail a pull;
/// Docker logs a warning.
fn forgiven(name: &[u8], errno: Errno) -> bool {
    errno == Errno::OPNOTSUPP || (errno == Errno::PERM && name.starts_with(b"user."))
}

fn set_all(xattrs: &Xattrs, path: &[u8], set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>) -> Result<()> {
    for (name, value) in xattrs.iter().filter(|(name, _)| allowed(name)) {
        if let Err(errno) = set(name, value)
            && !forgiven(name, errno)
        {
            let path = [path, b" (", name.as_slice(), b")"].concat();
            return Err(system("set extended attribute of", &path)(errno));
        }
    }
    Ok(())
}

pub(super) fn set_on_fd(fd: &OwnedFd, xattrs: &Xattrs, path: &[u8]) -> Result<()> {
    set_all(xattrs, path, |name, value| fsetxattr(fd, name, value, XattrFlags::empty()))
}

/// For what cannot be opened: symlinks, devices, FIFOs. The way leads through the parent's fd and one name that is not
/// followed (setxattrat(2) needs 6.13).
pub(super) fn set_on_name(parent: &OwnedFd, name: &[u8], xattrs: &Xattrs, path: &[u8]) -> Result<()> {
    if xattrs.is_empty() {
        return Ok(());
    }
    let at = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    let at = [at.as_slice(), name].concat();
    set_all(xattrs, path, |name, value| lsetxattr(&at, name, value, XattrFlags::empty()))
}

/// Bytes that a list takes while it waits.
pub(super) fn weight(xattrs: &Xattrs) -> usize {
    xattrs.iter().map(|(name, value)| name.len() + value.len()).sum()
}
