//! Who has a port: read from /proc, only after a conflict.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::nft::ruleset::Proto;

/// The name that the program has which holds sockets of ours. It is run from memory: its file has none.
const SHIM: &str = "caisson-shim";

pub struct Holder {
    pub pid: u32,
    pub command: String,
    /// A container of ours has the port, or will have it in a moment.
    pub ours: bool,
}

/// The process that has a socket on this port and address. None when it cannot be told, as for a socket of the kernel.
pub fn find(proto: Proto, wanted: SocketAddr) -> Option<Holder> {
    let inode = inode_of(proto, wanted)?;
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.into_iter().find(|pid| has_link(*pid, &link))?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned();
    let ours = pid == std::process::id() || command == SHIM;
    Some(Holder { pid, command, ours })
}

fn has_link(pid: u32, link: &str) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == link))
}

fn inode_of(proto: Proto, wanted: SocketAddr) -> Option<u64> {
    let name = proto.name();
    let tables = [format!("/proc/thread-self/net/{name}"), format!("/proc/thread-self/net/{name}6")];
    let lines = tables.iter().filter_map(|path| fs::read_to_string(path).ok());
    lines.flat_map(|table| table.lines().filter_map(|line| holding(line, proto, wanted)).collect::<Vec<_>>()).next()
}

/// The inode in a line of /proc/net/tcp and its like, if that socket stands in the way.
fn holding(line: &str, proto: Proto, wanted: SocketAddr) -> Option<u64> {
    let mut fields = line.split_whitespace();
    let (local, state) = (fields.nth(1)?, fields.nth(1)?);
    let (ip, port) = local.split_once(':')?;
    let listens = proto != Proto::Tcp || state == "0A";
    let ip = parse_ip(ip)?;
    let same = ip == wanted.ip() || ip.is_unspecified() || wanted.ip().is_unspecified();
    let inode = fields.nth(5)?.parse().ok()?;
    (listens && same && u16::from_str_radix(port, 16) == Ok(wanted.port())).then_some(inode)
}

/// Words in the host's byte order, printed as hexadecimal numbers.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let bytes: [u8; 16] = [word(0)?, word(8)?, word(16)?, word(24)?].concat().try_into().ok()?;
    Some(Ipv6Addr::from(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENING: &str = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0000000000000000 100 0 0 10 0";

    #[test]
    fn reads_a_line_of_the_table() {
        let at = |text: &str| holding(LISTENING, Proto::Tcp, text.parse().unwrap());
        assert_eq!(at("127.0.0.1:8080"), Some(4242));
        assert_eq!(at("0.0.0.0:8080"), Some(4242));
        assert_eq!(at("127.0.0.1:8081"), None);
        assert_eq!(at("127.0.0.2:8080"), None);
    }

    #[test]
    fn reads_ipv6() {
        assert_eq!(parse_ip("00000000000000000000000001000000"), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(parse_ip("0000"), None);
    }
}
