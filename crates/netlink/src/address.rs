//! IP and MAC addresses: their text, and the addresses of links.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{Result, invalid};
use crate::link;
use crate::message::{Message, attributes, u32_at};
use crate::socket::Socket;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFADDRMSG_LEN: usize = 8;
/// An address that we give is nobody else's: it can be used at once, without asking the neighbours first.
const IFA_F_NODAD: u8 = 2;
const SCOPE_LINK: u8 = 253;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// `172.17.0.1/16`, `fd00::1/64`: an address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Cidr {
    pub fn parse(op: &'static str, text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(address, prefix)| {
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            Some(Self { address, prefix: prefix.parse().ok().filter(|prefix| *prefix <= most)? })
        });
        parts.ok_or_else(|| invalid(op, text, "not an address with a prefix length, such as 172.17.0.1/16"))
    }

    /// The lowest address of the network.
    pub fn first(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => Ipv4Addr::from(address.to_bits() & !self.host_bits() as u32).into(),
            IpAddr::V6(address) => Ipv6Addr::from(address.to_bits() & !self.host_bits()).into(),
        }
    }

    /// The highest address of the network: of IPv4, the one that means everybody.
    pub fn last(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => Ipv4Addr::from(address.to_bits() | self.host_bits() as u32).into(),
            IpAddr::V6(address) => Ipv6Addr::from(address.to_bits() | self.host_bits()).into(),
        }
    }

    fn host_bits(self) -> u128 {
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        u128::MAX.checked_shr(128 - (width - u32::from(self.prefix))).unwrap_or(0)
    }
}

/// In network byte order.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The address family's number in headers of rtnetlink.
pub fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

pub fn parse_ip(op: &'static str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| invalid(op, text, "not an IP address"))
}

pub fn parse_mac(op: &'static str, text: &str) -> Result<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    let mac: Option<[u8; 6]> = bytes.and_then(|bytes| bytes.try_into().ok());
    // The lowest bit of the first byte marks a group address, which no interface can have.
    mac.filter(|mac| mac[0] & 1 == 0).ok_or_else(|| invalid(op, text, "not a unicast MAC address"))
}

fn address_message(kind: u16, flags: i32, index: u32, cidr: Cidr, object: &str) -> Message {
    let op = if kind == libc::RTM_NEWADDR { "add address" } else { "remove address" };
    let mut message = Message::new(kind, flags as u16, op, format!("{}/{} {object}", cidr.address, cidr.prefix));
    let mut header = [0; IFADDRMSG_LEN];
    header[0] = family(cidr.address);
    header[1] = cidr.prefix;
    header[2] = if cidr.address.is_ipv6() { IFA_F_NODAD } else { 0 };
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let bytes = octets(cidr.address);
    message.put(&header).attr(IFA_LOCAL, &bytes).attr(IFA_ADDRESS, &bytes);
    if cidr.address.is_ipv4() && cidr.prefix < 31 {
        message.attr(IFA_BROADCAST, &octets(cidr.last()));
    }
    message
}

pub fn add_message(index: u32, cidr: Cidr, object: &str) -> Message {
    address_message(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, index, cidr, object)
}

pub fn remove_message(index: u32, cidr: Cidr, object: &str) -> Message {
    address_message(libc::RTM_DELADDR, 0, index, cidr, object)
}

/// Addresses of a link, but for those that IPv6 makes for the link alone.
pub fn list(socket: &mut Socket, index: u32, object: &str) -> Result<Vec<Cidr>> {
    let all = list_all(socket, index, object)?.into_iter();
    Ok(all.filter(|(cidr, scope)| cidr.address.is_ipv4() || *scope != SCOPE_LINK).map(|(cidr, _)| cidr).collect())
}

/// All addresses of a link, with their prefix lengths. Kind `notFound` when there is no such link.
pub fn link_addresses(name: &str) -> Result<Vec<String>> {
    let mut socket = Socket::route()?;
    let index = link::index_of(&mut socket, name)?;
    let all = list_all(&mut socket, index, name)?.into_iter();
    Ok(all.map(|(Cidr { address, prefix }, _)| format!("{address}/{prefix}")).collect())
}

fn list_all(socket: &mut Socket, index: u32, object: &str) -> Result<Vec<(Cidr, u8)>> {
    let mut message = Message::new(libc::RTM_GETADDR, 0, "list addresses", object);
    message.put(&[libc::AF_UNSPEC as u8, 0, 0, 0, 0, 0, 0, 0]);
    let replies = socket.dump(message)?;
    let of_link = replies.iter().filter(|reply| u32_at(&reply.payload, 4) == Some(index));
    let parsed = of_link.filter_map(|reply| {
        let payload = &reply.payload;
        let get = |wanted| attributes(payload, IFADDRMSG_LEN).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        // IPv6 has no local address beside the address.
        let address = from_octets(get(IFA_LOCAL).or_else(|| get(IFA_ADDRESS))?)?;
        Some((Cidr { address, prefix: *payload.get(1)? }, *payload.get(3)?))
    });
    Ok(parsed.collect())
}

pub fn from_octets(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_networks() {
        let ends = |text: &str| {
            let cidr = Cidr::parse("test", text).unwrap();
            format!("{} {}", cidr.first(), cidr.last())
        };
        assert_eq!(ends("172.17.5.9/16"), "172.17.0.0 172.17.255.255");
        assert_eq!(ends("10.0.0.1/0"), "0.0.0.0 255.255.255.255");
        assert_eq!(ends("10.0.0.1/32"), "10.0.0.1 10.0.0.1");
        assert_eq!(ends("fd00:1::5/64"), "fd00:1:: fd00:1::ffff:ffff:ffff:ffff");
        assert_eq!(ends("::1/0"), ":: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in ["172.17.0.1", "172.17.0.1/33", "172.17.0.256/16", "::1/129", "", "/16"] {
            assert!(Cidr::parse("test", text).is_err(), "{text}");
        }
        for text in ["02:42", "03:42:ac:11:00:02", "02:42:ac:11:00:zz", ""] {
            assert!(parse_mac("test", text).is_err(), "{text}");
        }
    }
}
