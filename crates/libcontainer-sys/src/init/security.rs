//! Labels of the security modules, which take effect at the execve that follows.

use crate::failure::{Context, Failure, Kind, Result};
use crate::spec::Process;

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
    let path = |file: &&str| format!("/proc/thread-self/attr/{file}");
    let file = files.iter().map(path).find(|path| std::fs::exists(path).unwrap_or(false));
    let file = file.ok_or_else(|| Failure::new(Kind::System, "label", "/proc/thread-self/attr is not there"))?;
    std::fs::write(&file, value).context(&format!("write {value:?} to"), file)
}
