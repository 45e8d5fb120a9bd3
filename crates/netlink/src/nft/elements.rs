//! Published ports as elements of the two maps: a port costs one element and never a rule.

use std::net::{IpAddr, Ipv4Addr};

use super::abi::*;
use super::batch::{Table, comment_bytes};
use super::ruleset::{Proto, PublishedPort};
use crate::address::parse_ipv4;
use crate::error::{Result, invalid};
use crate::message::{Attrs, Message};

/// Map for ports of one host address, and map for ports of all of them.
pub const BY_ADDRESS: &str = "ports_by_address";
pub const BY_PORT: &str = "ports";
/// An attribute's length has 16 bits; an element with its comment takes some 150 bytes.
const PER_MESSAGE: usize = 200;

/// A port with its addresses read.
pub struct Element<'a> {
    pub map: &'static str,
    pub key: Vec<u8>,
    data: [u8; 8],
    pub port: &'a PublishedPort,
}

impl<'a> Element<'a> {
    pub fn new(port: &'a PublishedPort) -> Result<Self> {
        let op = "publish port";
        let host = parse_ipv4(op, &port.host_ip)?;
        let container = parse_ipv4(op, &port.container_ip)?;
        if port.owner.is_empty() || port.owner.len() > 128 {
            return Err(invalid(op, &port.owner, "the owner's id has 1 to 128 bytes"));
        }
        let mut key = Vec::with_capacity(12);
        if host != Ipv4Addr::UNSPECIFIED {
            key.extend_from_slice(&host.octets());
        }
        key.extend_from_slice(&[port.proto.number(), 0, 0, 0]);
        key.extend_from_slice(&port_bytes(port.host_port));
        let map = if host == Ipv4Addr::UNSPECIFIED { BY_PORT } else { BY_ADDRESS };
        let mut data = [0; 8];
        data[..4].copy_from_slice(&container.octets());
        data[4..].copy_from_slice(&port_bytes(port.container_port));
        Ok(Self { map, key, data, port })
    }

    fn write_key(&self, list: &mut Attrs) {
        list.nest(LIST_ELEM, |element| {
            element.nest(ELEM_KEY, |key| {
                key.attr(DATA_VALUE, &self.key);
            });
        });
    }

    fn write(&self, list: &mut Attrs) {
        list.nest(LIST_ELEM, |element| {
            element.nest(ELEM_KEY, |key| {
                key.attr(DATA_VALUE, &self.key);
            });
            element.nest(ELEM_DATA, |data| {
                data.attr(DATA_VALUE, &self.data);
            });
            element.attr(ELEM_USERDATA, &comment_bytes(&self.port.owner));
        });
    }
}

/// Loopback and IPv6 are the business of the sockets that reserve the ports, and have no element: 127.0.0.1 is never
/// routed outward, and containers have no IPv6 address that could be translated to.
pub fn elements(ports: &[PublishedPort]) -> Result<Vec<Element<'_>>> {
    let by_socket = |port: &&PublishedPort| match port.host_ip.parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback(),
        Ok(IpAddr::V6(_)) => true,
        Err(_) => false,
    };
    ports.iter().filter(|port| !by_socket(port)).map(Element::new).collect()
}

pub fn add_messages(table: &Table, elements: &[Element<'_>]) -> Vec<Message> {
    messages(table, NEWSETELEM, &elements.iter().collect::<Vec<_>>(), |element, list| element.write(list))
}

pub fn remove_messages(table: &Table, elements: &[&Element<'_>]) -> Vec<Message> {
    messages(table, DELSETELEM, elements, |element, list| element.write_key(list))
}

/// One message each: the kernel stops at the first element of a list that is not there.
pub fn get_messages(table: &Table, elements: &[Element<'_>]) -> Vec<Message> {
    let message = |element: &Element<'_>| {
        let mut list = Attrs::default();
        element.write_key(&mut list);
        table.elements(GETSETELEM, element.map, &list)
    };
    elements.iter().map(message).collect()
}

fn messages(table: &Table, kind: u16, elements: &[&Element], write: fn(&Element, &mut Attrs)) -> Vec<Message> {
    let mut messages = Vec::new();
    for map in [BY_ADDRESS, BY_PORT] {
        let of_map: Vec<_> = elements.iter().filter(|element| element.map == map).collect();
        for some in of_map.chunks(PER_MESSAGE) {
            let mut list = Attrs::default();
            for element in some {
                write(element, &mut list);
            }
            messages.push(table.elements(kind, map, &list));
        }
    }
    messages
}

/// Big-endian and padded to a register.
fn port_bytes(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

impl Proto {
    fn number(self) -> u8 {
        match self {
            Self::Tcp => libc::IPPROTO_TCP as u8,
            Self::Udp => libc::IPPROTO_UDP as u8,
            Self::Sctp => libc::IPPROTO_SCTP as u8,
        }
    }
}
