//! The five capability sets.

use crate::failure::{Context, Failure, Result};
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
}

impl Sets {
    /// None: no capability at all. What the creator itself has not got cannot be given and is left out, as runc does.
    pub fn parse(capabilities: Option<&Capabilities>) -> Result<Self> {
        let empty = Capabilities::default();
        let capabilities = capabilities.unwrap_or(&empty);
        let own = rustix::thread::capabilities(None).context("capget", "")?.permitted.bits();
        Ok(Self {
            bounding: mask(&capabilities.bounding)? & own,
            effective: mask(&capabilities.effective)? & own,
            permitted: mask(&capabilities.permitted)? & own,
            inheritable: mask(&capabilities.inheritable)? & own,
            // the kernel takes only what is permitted and inheritable too; runc passes over the rest as well
            ambient: mask(&capabilities.ambient)?
                & mask(&capabilities.inheritable)?
                & mask(&capabilities.permitted)?
                & own,
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

    pub fn apply(&self) -> Result<()> {
        let sets = CapabilitySets {
            effective: CapabilitySet::from_bits_retain(self.effective),
            permitted: CapabilitySet::from_bits_retain(self.permitted),
            inheritable: CapabilitySet::from_bits_retain(self.inheritable),
        };
        set_capabilities(None, sets).context("capset", "")?;
        clear_ambient_capability_set().context("clear ambient capabilities", "")?;
        for (number, name) in NAMES.iter().enumerate() {
            if self.ambient & (1 << number) != 0 {
                configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)
                    .context("raise ambient capability", name)?;
            }
        }
        Ok(())
    }
}

fn mask(names: &[String]) -> Result<u64> {
    names.iter().try_fold(0, |mask, name| {
        let short = name.strip_prefix("CAP_").unwrap_or(name);
        match NAMES.iter().position(|known| *known == short) {
            Some(number) => Ok(mask | 1 << number),
            None => Err(Failure::invalid("capabilities", format!("unknown capability {name:?}"))),
        }
    })
}
