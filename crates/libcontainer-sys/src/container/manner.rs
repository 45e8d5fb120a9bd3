use crate::failure::{Failure, Kind, Result};
use crate::spec::NetDevice;
use std::collections::BTreeMap;

/// What callers of a runtime may ask for beside the specification, and what they bring.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Descriptors above stdio, from 3 on, that the program gets.
    pub preserved_fds: u32,
    /// The root is entered by chroot: for hosts whose own root cannot be pivoted away from (an initramfs).
    pub no_pivot: bool,
    /// The creator's session keyring stays.
    pub keep_keyring: bool,
    /// What carries out `/linux/netDevices`. The shim has nothing: its size is every container's.
    pub mover: Option<MoveDevices>,
}

/// Moves devices of the host, by their names, into the network namespace of the process.
pub type MoveDevices = fn(i32, &BTreeMap<String, NetDevice>) -> Result<()>;

impl Manner {
    pub fn move_devices(&self, pid: i32, devices: &BTreeMap<String, NetDevice>) -> Result<()> {
        match self.mover {
            Some(mover) => mover(pid, devices),
            None => Err(Failure::new(Kind::Unsupported, "config", "/linux/netDevices: not supported by the engine")),
        }
    }
}
