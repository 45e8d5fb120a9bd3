//! Published ports as elements of the two maps: a port costs one element and never a rule.

use std::collections::HashSet;
use std::net::IpAddr;

use super::abi::*;
use super::batch::{Table, comment_bytes};
use super::conntrack::End;
use super::ruleset::{Proto, PublishedPort};
use crate::address::{octets, parse_ip};
use crate::error::{Result, invalid};
use crate::message::{Attrs, Message};

/// Maps for ports of one host address, and maps for ports of all of them.
pub const BY_ADDRESS: &str = "ports_by_address";
pub const BY_PORT: &str = "ports";
pub const BY_ADDRESS_V6: &str = "ports_by_address_v6";
pub const BY_PORT_V6: &str = "ports_v6";
/// Ports of containers that may be reached without translation.
pub const DIRECT: &str = "direct";
pub const DIRECT_V6: &str = "direct_v6";
/// An attribute's length has 16 bits; an element with its comment takes some 160 bytes.
const PER_MESSAGE: usize = 200;

/// A port with its addresses read.
pub struct Element<'a> {
    pub map: &'static str,
    pub key: Vec<u8>,
    data: Vec<u8>,
    pub port: &'a PublishedPort,
}

impl<'a> Element<'a> {
    /// None for what the sockets that reserve the ports serve: loopback, which is never routed outward, and an address
    /// of a family that the container has no address of.
    fn new(port: &'a PublishedPort, host: IpAddr, container: IpAddr) -> Option<Self> {
        if host.is_loopback() || host.is_ipv4() != container.is_ipv4() || port.host_port == 0 {
            return None;
        }
        let address = if host.is_unspecified() { Vec::new() } else { octets(host) };
        let key = key(address, port.proto, port.host_port);
        let mut data = octets(container);
        data.extend_from_slice(&port_bytes(port.container_port));
        Some(Self { map: map_of(host), key, data, port })
    }

    /// A member of a set: reached without translation.
    fn direct(port: &'a PublishedPort, container: IpAddr) -> Option<Self> {
        let map = if container.is_ipv4() { DIRECT } else { DIRECT_V6 };
        let key = key(octets(container), port.proto, port.container_port);
        port.direct.then_some(Self { map, key, data: Vec::new(), port })
    }

    /// Where it leads.
    pub fn end(&self) -> Result<End> {
        let address = parse_ip("forget flows", &self.port.container_ip)?;
        Ok((address, self.port.proto.number(), self.port.container_port))
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
            if !self.data.is_empty() {
                element.nest(ELEM_DATA, |data| {
                    data.attr(DATA_VALUE, &self.data);
                });
            }
            element.attr(ELEM_USERDATA, &comment_bytes(&self.port.owner));
        });
    }
}

fn map_of(host: IpAddr) -> &'static str {
    match (host.is_ipv4(), host.is_unspecified()) {
        (true, true) => BY_PORT,
        (true, false) => BY_ADDRESS,
        (false, true) => BY_PORT_V6,
        (false, false) => BY_ADDRESS_V6,
    }
}

/// Each once: a port of a container that is published twice is one in the set of those that are reached directly.
pub fn elements(ports: &[PublishedPort]) -> Result<Vec<Element<'_>>> {
    let op = "publish port";
    let mut elements = Vec::new();
    let mut seen = HashSet::new();
    for port in ports {
        let host = parse_ip(op, &port.host_ip)?;
        let container = parse_ip(op, &port.container_ip)?;
        if port.owner.is_empty() || port.owner.len() > 128 {
            return Err(invalid(op, &port.owner, "the owner's id has 1 to 128 bytes"));
        }
        let both = [Element::new(port, host, container), Element::direct(port, container)];
        elements
            .extend(both.into_iter().flatten().filter(|one| seen.insert((one.map, one.key.clone(), one.data.clone()))));
    }
    Ok(elements)
}

fn key(mut address: Vec<u8>, proto: Proto, port: u16) -> Vec<u8> {
    address.extend_from_slice(&[proto.number(), 0, 0, 0]);
    address.extend_from_slice(&port_bytes(port));
    address
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
    for map in [BY_ADDRESS, BY_PORT, BY_ADDRESS_V6, BY_PORT_V6, DIRECT, DIRECT_V6] {
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
