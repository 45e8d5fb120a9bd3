//! Syscall numbers by name, from the kernel's own tables.

use super::Architecture;
use std::collections::HashMap;

pub fn syscalls(architecture: Architecture) -> HashMap<&'static str, u32> {
    let table = match architecture {
        Architecture::X86_64 => include_str!("x86_64.tbl"),
        Architecture::Aarch64 => include_str!("aarch64.tbl"),
        Architecture::I386 => include_str!("i386.tbl"),
        Architecture::Arm => include_str!("arm.tbl"),
    };
    table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, number)| Some((name, number.parse().ok()?)))
        .collect()
}
