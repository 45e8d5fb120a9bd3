//! Labels of the security modules, which take effect at the execve that follows.

use crate::failure::{Context, Failure, Kind, Result};
use crate::rootfs::procfs;
use crate::spec::Process;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::os::fd::AsFd;

/// Whether the modules are there was asked before anything was made (`Process::check`).
pub fn set_exec_label(process: &Process) -> Result<()> {
    if !process.apparmor_profile.is_empty() {
        let value = format!("exec {}", process.apparmor_profile);
        write_attribute(&["apparmor/exec", "exec"], &value).map_err(|failure| match failure.errno {
            Some(libc::ENOENT) => {
                let message = format!("/process/apparmorProfile: {:?} is not loaded", process.apparmor_profile);
                Failure { message, kind: Kind::Invalid, ..failure }
            }
            _ => failure,
        })?;
    }
    if !process.selinux_label.is_empty() {
        write_attribute(&["exec"], &process.selinux_label)?;
    }
    Ok(())
}

/// The first of the files that this kernel has.
fn write_attribute(files: &[&str], value: &str) -> Result<()> {
    let root = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("open", "/")?;
    let open = |file: &&str| procfs::open(root.as_fd(), &format!("thread-self/attr/{file}"), OFlags::WRONLY);
    let found = files.iter().map(open).find(|opened| !matches!(opened, Err(failure) if is_absent(failure)));
    let absent = || Err(Failure::new(Kind::System, "label", "/proc/thread-self/attr is not there"));
    let file = found.unwrap_or_else(absent)?;
    rustix::io::write(&file, value.as_bytes()).context(&format!("write {value:?} to"), "/proc/thread-self/attr")?;
    Ok(())
}

fn is_absent(failure: &Failure) -> bool {
    failure.errno == Some(libc::ENOENT)
}
