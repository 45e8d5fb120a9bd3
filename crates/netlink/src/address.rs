//! IPv4 and MAC addresses: their text, and IPv4 addresses of links.

use std::net::Ipv4Addr;

use crate::error::{Result, invalid};
use crate::message::{Message, attributes, u32_at};
use crate::socket::Socket;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFADDRMSG_LEN: usize = 8;

/// `172.17.0.1/16`: an address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub address: Ipv4Addr,
    pub prefix: u8,
}

impl Cidr {
    pub fn parse(op: &'static str, text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(address, prefix)| {
            Some(Self { address: address.parse().ok()?, prefix: prefix.parse().ok().filter(|prefix| *prefix <= 32)? })
        });
        parts.ok_or_else(|| invalid(op, text, "not an IPv4 address with a prefix length, such as 172.17.0.1/16"))
    }

    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0))
    }

    pub fn network(self) -> Ipv4Addr {
        self.address & self.mask()
    }

    fn broadcast(self) -> Ipv4Addr {
        self.address | !self.mask()
    }
}

pub fn parse_ipv4(op: &'static str, text: &str) -> Result<Ipv4Addr> {
    text.parse().map_err(|_| invalid(op, text, "not an IPv4 address"))
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
    header[0] = libc::AF_INET as u8;
    header[1] = cidr.prefix;
    header[4..].copy_from_slice(&index.to_ne_bytes());
    message.put(&header).attr(IFA_LOCAL, &cidr.address.octets()).attr(IFA_ADDRESS, &cidr.address.octets());
    if cidr.prefix < 31 {
        message.attr(IFA_BROADCAST, &cidr.broadcast().octets());
    }
    message
}

pub fn add_message(index: u32, cidr: Cidr, object: &str) -> Message {
    address_message(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, index, cidr, object)
}

pub fn remove_message(index: u32, cidr: Cidr, object: &str) -> Message {
    address_message(libc::RTM_DELADDR, 0, index, cidr, object)
}

/// IPv4 addresses of a link.
pub fn list(socket: &mut Socket, index: u32, object: &str) -> Result<Vec<Cidr>> {
    let mut message = Message::new(libc::RTM_GETADDR, 0, "list addresses", object);
    message.put(&[libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0]);
    let replies = socket.dump(message)?;
    let of_link = replies.iter().filter(|reply| u32_at(&reply.payload, 4) == Some(index));
    let parsed = of_link.filter_map(|reply| {
        let (_, local) = attributes(&reply.payload, IFADDRMSG_LEN).find(|(kind, _)| *kind == IFA_LOCAL)?;
        let octets: [u8; 4] = local.try_into().ok()?;
        Some(Cidr { address: octets.into(), prefix: *reply.payload.get(1)? })
    });
    Ok(parsed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_networks() {
        let cidr = Cidr::parse("test", "172.17.5.9/16").unwrap();
        assert_eq!(cidr.network(), Ipv4Addr::new(172, 17, 0, 0));
        assert_eq!(cidr.broadcast(), Ipv4Addr::new(172, 17, 255, 255));
        assert_eq!(Cidr::parse("test", "10.0.0.1/0").unwrap().network(), Ipv4Addr::UNSPECIFIED);
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in ["172.17.0.1", "172.17.0.1/33", "172.17.0.256/16", "::1/64", "", "/16"] {
            assert!(Cidr::parse("test", text).is_err(), "{text}");
        }
        for text in ["02:42", "03:42:ac:11:00:02", "02:42:ac:11:00:zz", ""] {
            assert!(parse_mac("test", text).is_err(), "{text}");
        }
    }
}
