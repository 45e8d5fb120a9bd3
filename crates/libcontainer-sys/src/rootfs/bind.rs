//! The attributes of a bind, beside those that its source has.

use super::options::MountOptions;
use crate::sys::mount::{
    ATIME, MountAttr, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY, STRICTATIME, mount_setattr,
};
use rustix::fs::{StatVfsMountFlags, fstatvfs};
use std::io;
use std::os::fd::BorrowedFd;

const LOCKABLE: u64 = RDONLY | NOSUID | NODEV | NOEXEC;
const TIMES: u64 = ATIME | NODIRATIME;

/// As runc has it: exactly those hold that are asked for. With `remount` the rest of the source's stays, as with mount(8).
///
/// `locked`: what the source's mount denies is the host's word to a user namespace. It stays, and to ask for its end is EPERM.
pub fn set_attributes(source: BorrowedFd, options: &MountOptions, locked: bool) -> io::Result<()> {
    let asked = match options.atime_asked {
        true => MountAttr { clear: options.attr.clear | (TIMES & !options.attr.set) | ATIME, ..options.attr },
        // "atime" alone changes nothing
        false => MountAttr { clear: options.attr.clear & !TIMES, ..options.attr },
    };
    let implied = match (options.remount, locked) {
        (true, _) => 0,
        (false, true) => NOSYMFOLLOW,
        (false, false) => LOCKABLE | NOSYMFOLLOW,
    };
    if locked {
        let have = attributes(source)?;
        let times = (have ^ asked.set) & TIMES != 0 && options.atime_asked;
        if times || have & asked.clear & LOCKABLE != 0 {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
    }
    mount_setattr(source, false, &MountAttr { clear: asked.clear | (implied & !asked.set), ..asked })
}

/// Of a mount, in the words of mount_setattr.
fn attributes(mount: BorrowedFd) -> io::Result<u64> {
    let flags = fstatvfs(mount)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::RDONLY, RDONLY),
        (StatVfsMountFlags::NOSUID, NOSUID),
        (StatVfsMountFlags::NODEV, NODEV),
        (StatVfsMountFlags::NOEXEC, NOEXEC),
        (StatVfsMountFlags::NOATIME, NOATIME),
        (StatVfsMountFlags::NODIRATIME, NODIRATIME),
    ];
    let strict = !flags.intersects(StatVfsMountFlags::NOATIME | StatVfsMountFlags::RELATIME);
    let first = if strict { STRICTATIME } else { 0 };
    Ok(pairs.into_iter().filter(|(flag, _)| flags.contains(*flag)).fold(first, |sum, (_, attribute)| sum | attribute))
}
