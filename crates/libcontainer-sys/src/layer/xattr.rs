//! Extended attributes of extracted and copied files.

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr, lgetxattr, llistxattr, lsetxattr, setxattr};
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
    let at = by_name(parent, name);
    set_all(xattrs, path, |name, value| lsetxattr(&at, name, value, XattrFlags::empty()))
}

/// By a path that leads to the thing itself, as /proc/self/fd/N does; a symlink at its end is followed.
pub(super) fn set_by_path(at: &[u8], xattrs: &Xattrs, path: &[u8]) -> Result<()> {
    set_all(xattrs, path, |name, value| setxattr(at, name, value, XattrFlags::empty()))
}

/// Bytes that a list takes while it waits.
pub(super) fn weight(xattrs: &Xattrs) -> usize {
    xattrs.iter().map(|(name, value)| name.len() + value.len()).sum()
}

fn by_name(parent: &OwnedFd, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat()
}

/// The attributes of an open file.
pub(super) fn of_fd(fd: &OwnedFd, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    read_all(path, allowed, |list| flistxattr(fd, list), |name, value| fgetxattr(fd, name, value))
}

/// The attributes of one name in a directory, not followed.
pub(super) fn of_name(parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let at = by_name(parent, name);
    read_all(path, allowed, |list| llistxattr(&at, list), |name, value| lgetxattr(&at, name, value))
}

/// With the host's own, but for its labels: those tell where a file lies.
pub(super) fn all_of_name(parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let at = by_name(parent, name);
    let wanted = |name: &[u8]| name != b"security.selinux";
    read_all(path, wanted, |list| llistxattr(&at, list), |name, value| lgetxattr(&at, name, value))
}

/// The kernel's limit for a list of names and for a value.
const MAX_BYTES: usize = 65_536;

fn read_all(
    path: &[u8],
    wanted: impl Fn(&[u8]) -> bool,
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut short = [0; 256];
    let mut long = Vec::new();
    let names = match list(&mut short) {
        // Most files have none, and few have more than fits.
        Err(Errno::RANGE) => {
            long.resize(MAX_BYTES, 0);
            list(&mut long).map(|count| &long[..count])
        }
        other => other.map(|count| &short[..count]),
    };
    let names = match names {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other.map_err(system("list the extended attributes of", path))?,
    };
    let mut xattrs = Vec::new();
    let mut value = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty() && wanted(name)) {
        value.resize(MAX_BYTES, 0);
        let count = get(name, &mut value).map_err(system("read an extended attribute of", path))?;
        xattrs.push((name.to_vec(), value[..count].to_vec()));
    }
    Ok(xattrs)
}
