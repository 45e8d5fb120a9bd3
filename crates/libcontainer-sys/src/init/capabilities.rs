//! The five capability sets.

use crate::failure::{Context, Result, reason};
use crate::spec::Capabilities;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// In the order of linux/capability.h: the index is the number.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

pub struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
    /// Names that are no capability, or none that the creator has: the specification has the rest given all the same.
    pub left_out: Vec<String>,
}

impl Sets {
    /// None: no capability at all.
    pub fn parse(capabilities: Option<&Capabilities>) -> Result<Self> {
        let empty = Capabilities::default();
        let capabilities = capabilities.unwrap_or(&empty);
        let own = rustix::thread::capabilities(None).context("capget", "")?.permitted.bits();
        let mut left_out = Vec::new();
        let mut mask = |names: &[String]| names.iter().fold(0, |mask, name| mask | bit(name, own, &mut left_out));
        Ok(Self {
            bounding: mask(&capabilities.bounding),
            effective: mask(&capabilities.effective),
            permitted: mask(&capabilities.permitted),
            inheritable: mask(&capabilities.inheritable),
            ambient: mask(&capabilities.ambient),
            left_out,
        })
    }

    pub fn drop_bounding(&self) -> Result<()> {
        for (number, name) in NAMES.iter().enumerate() {
            let bit = CapabilitySet::from_bits_retain(1 << number);
            if self.bounding & (1 << number) == 0 && rustix::thread::capability_is_in_bounding_set(bit).unwrap_or(false)
            {
                remove_capability_from_bounding_set(bit).context("drop from bounding set", name)?;
            }
        }
        Ok(())
    }

    /// Gives the ambient ones that could not be raised: those that are not permitted and inheritable too. Podman asks for all of
    /// them with nothing inheritable, and takes the first line that it hears for the error of a process that does not start.
    pub fn apply(&self) -> Result<Vec<String>> {
        let sets = CapabilitySets {
            effective: CapabilitySet::from_bits_retain(self.effective),
            permitted: CapabilitySet::from_bits_retain(self.permitted),
            inheritable: CapabilitySet::from_bits_retain(self.inheritable),
        };
        set_capabilities(None, sets).context("capset", "")?;
        clear_ambient_capability_set().context("clear ambient capabilities", "")?;
        let mut refused = Vec::new();
        if self.inheritable == 0 {
            return Ok(refused);
        }
        for (number, name) in NAMES.iter().enumerate().filter(|(number, _)| self.ambient & (1 << number) != 0) {
            let bit = CapabilitySet::from_bits_retain(1 << number);
            if let Err(error) = configure_capability_in_ambient_set(bit, true) {
                refused.push(format!("can't raise ambient capability CAP_{name}: {}", reason(&error.into())));
            }
        }
        Ok(refused)
    }
}

fn bit(name: &str, own: u64, left_out: &mut Vec<String>) -> u64 {
    let short = name.strip_prefix("CAP_").unwrap_or(name);
    let known = NAMES.iter().position(|known| *known == short).map(|number| 1 << number);
    let given = known.filter(|bit| bit & own != 0);
    if given.is_none() && !left_out.iter().any(|other| other == name) {
        left_out.push(name.to_owned());
    }
    given.unwrap_or(0)
}
