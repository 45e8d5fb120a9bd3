//! Settings of a network namespace and of devices in it, as files below /proc/sys/net.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::error::{NetError, Result, invalid};
use crate::netns::in_netns;

const OP: &str = "set sysctl";

/// All in order of their names. Kind `invalid` for one that is not there, or that does not take the value.
pub fn set_sysctls(netns: BorrowedFd<'_>, sysctls: &BTreeMap<String, String>) -> Result<()> {
    in_netns(netns, || write(sysctls))
}

/// In the calling thread's namespace.
pub fn write(sysctls: &BTreeMap<String, String>) -> Result<()> {
    sysctls.iter().try_for_each(|(name, value)| set(name, value))
}

fn set(name: &str, value: &str) -> Result<()> {
    let path =
        path_of(name).ok_or_else(|| invalid(OP, name, format!("the sysctl '{name}' is not one of the network")))?;
    // The kernel's network lock is taken by writes alone.
    if std::fs::read_to_string(&path).is_ok_and(|present| present.trim() == value) {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(|error| match error.kind() {
        ErrorKind::NotFound => invalid(OP, name, format!("{path} is not a sysctl file: this kernel has no {name}")),
        ErrorKind::InvalidInput => invalid(OP, name, format!("the kernel does not take '{value}' for {name}")),
        _ => NetError::System {
            op: OP,
            object: name.into(),
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
            detail: String::new(),
        },
    })
}

/// Dots between words. A slash stands for a dot in a device's name, as `sysctl` has it.
fn path_of(name: &str) -> Option<String> {
    let words: Vec<_> = name.split('.').map(|word| word.replace('/', ".")).collect();
    let plain = |word: &String| !word.is_empty() && word != "." && word != ".." && !word.contains('\0');
    let valid = words.len() > 2 && words[0] == "net" && words.iter().all(plain);
    valid.then(|| format!("/proc/sys/{}", words.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_below_net() {
        assert_eq!(
            path_of("net.ipv4.conf.eth0.forwarding").as_deref(),
            Some("/proc/sys/net/ipv4/conf/eth0/forwarding")
        );
        assert_eq!(path_of("net.ipv4.conf.eth0/1.tag").as_deref(), Some("/proc/sys/net/ipv4/conf/eth0.1/tag"));
        for name in ["kernel.domainname", "net", "net.ipv4", "net..core.x", "net.//.conf.x", "net.ipv4./.tag"] {
            assert_eq!(path_of(name), None, "{name}");
        }
    }
}
