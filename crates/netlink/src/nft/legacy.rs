//! iptables-legacy: tables beside nftables that no netlink message reaches. They are only looked at.

use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

use crate::sys::xtables;

/// Chains whose policy drops forwarded traffic. A table is not loaded by looking: the kernel lists those that are.
pub fn dropping() -> Vec<String> {
    let families = [
        (AddressFamily::INET, "/proc/thread-self/net/ip_tables_names", "iptables-legacy"),
        (AddressFamily::INET6, "/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy"),
    ];
    let drops = |family, names: &str| {
        let loaded = std::fs::read_to_string(names).is_ok_and(|names| names.lines().any(|name| name == "filter"));
        loaded && policy_drops(family).unwrap_or(false)
    };
    let found = families.iter().filter(|(family, names, _)| drops(*family, names));
    found.map(|(_, _, program)| format!("{program} filter FORWARD")).collect()
}

fn policy_drops(family: AddressFamily) -> Option<bool> {
    let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW)).ok()?;
    let is_v6 = family == AddressFamily::INET6;
    let info = xtables::info(socket.as_fd(), is_v6, "filter").ok()?;
    let table = xtables::entries(socket.as_fd(), is_v6, "filter", info.size).ok()?;
    verdict(&table, info.forward_policy as usize, is_v6).map(|verdict| verdict == DROPS)
}

/// A policy is the last entry of its chain: `-NF_DROP - 1`.
const DROPS: i32 = -1;
/// Behind `struct ipt_ip` or `struct ip6t_ip6` and a word.
const TARGET_OFFSET_V4: usize = 88;
const TARGET_OFFSET_V6: usize = 140;
const TARGET_LEN: usize = 32;

fn verdict(table: &[u8], entry: usize, is_v6: bool) -> Option<i32> {
    let at = entry + if is_v6 { TARGET_OFFSET_V6 } else { TARGET_OFFSET_V4 };
    let target = usize::from(u16::from_ne_bytes(table.get(at..at + 2)?.try_into().ok()?));
    let at = entry + target + TARGET_LEN;
    Some(i32::from_ne_bytes(table.get(at..at + 4)?.try_into().ok()?))
}
