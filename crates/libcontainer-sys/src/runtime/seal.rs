//! The program that enters containers is a sealed copy in memory: whatever a container writes to through /proc/<pid>/exe, it
//! is not the file on the host (CVE-2019-5736).

use crate::failure::{Context, Failure, Result};
use crate::sys::exec::{CStrings, execve};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create, openat};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

const OWN: &str = "/proc/self/exe";
const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// Of the environment, what this program itself goes by.
const OWN_VARIABLES: [&str; 2] = ["LISTEN_FDS", "XDG_RUNTIME_DIR"];

/// Goes on in the copy; returns at once when this is it. What enters a running container brings no environment of its caller's: it
/// could be read there. Hooks of a new one may want it.
pub fn enter_copy(with_environment: bool) -> Result<()> {
    let own = openat(CWD, OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("open", OWN)?;
    // only a memfd has seals
    if fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SEALS)) {
        let _ = rustix::thread::set_name(c"caisson-runtime");
        return Ok(());
    }
    let copy = copy(own)?;
    let words: Vec<String> = std::env::args().collect();
    let variables: Vec<String> = std::env::vars_os()
        .filter(|(name, _)| with_environment || OWN_VARIABLES.iter().any(|own| name == own))
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value.to_str()?)))
        .collect();
    let strings = |list: &[String]| CStrings::new(list).context("copy", "arguments");
    let path = CString::new(format!("/proc/self/fd/{}", copy.as_raw_fd())).context("copy", "path")?;
    let error = execve(&path, &strings(&words)?, &strings(&variables)?);
    Err(Failure::io("execute the copy of", OWN, error))
}

fn copy(own: OwnedFd) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = memfd_create("caisson-runtime", flags).context("memfd_create", OWN)?;
    let mut to = std::fs::File::from(copy);
    std::io::copy(&mut std::fs::File::from(own), &mut to).context("copy", OWN)?;
    let copy = OwnedFd::from(to);
    fcntl_add_seals(&copy, SEALS).context("seal the copy of", OWN)?;
    Ok(copy)
}
