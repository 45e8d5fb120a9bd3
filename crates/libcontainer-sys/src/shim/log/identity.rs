//! Which file of a log one is, however often it was renamed, and compressed or not: number and birth of the inode that was
//! written. The number alone is given to the next file as soon as the last name has gone.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Statx, StatxFlags, statx};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    inode: u64,
    /// Zero where the filesystem does not keep it.
    born_ns: u64,
}

impl Identity {
    pub fn of(file: impl AsFd) -> Option<Self> {
        Self::from(statx(file, c"", AtFlags::EMPTY_PATH, Self::WANTED))
    }

    /// The same of the file at a path, without opening it.
    #[cfg(feature = "layer")]
    pub fn at(path: &std::path::Path) -> Option<Self> {
        Self::from(statx(rustix::fs::CWD, path, AtFlags::empty(), Self::WANTED))
    }

    // by the system call: std has no times of birth on musl, which the shim is linked with
    const WANTED: StatxFlags = StatxFlags::INO.union(StatxFlags::BTIME);

    fn from(found: rustix::io::Result<Statx>) -> Option<Self> {
        let found = found.ok()?;
        let born = (found.stx_btime.tv_sec as u64).wrapping_mul(1_000_000_000) + u64::from(found.stx_btime.tv_nsec);
        let has_birth = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        Some(Self { inode: found.stx_ino, born_ns: if has_birth { born } else { 0 } })
    }

    /// As it stands in the header of a compressed file.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.inode.to_le_bytes());
        bytes[8..].copy_from_slice(&self.born_ns.to_le_bytes());
        bytes
    }

    /// None without a birth: the file has gone, and its number may be another's by now.
    #[cfg(feature = "layer")]
    pub fn from_header(bytes: [u8; 16]) -> Option<Self> {
        let identity = Self::from_bytes(bytes);
        (identity.born_ns != 0).then_some(identity)
    }

    #[cfg(feature = "layer")]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let [inode, born_ns] = [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index])));
        Self { inode, born_ns }
    }
}
