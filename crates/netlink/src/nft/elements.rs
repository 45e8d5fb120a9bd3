//! Published ports as elements of the two maps: a port costs one element and never a rule.

use std::net::IpAddr;

use super::abi::*;
use super::batch::{Table, comment_bytes};
use super::ruleset::{Proto, PublishedPort};
use crate::address::{octets, parse_ip};
use crate::error::{Result, invalid};
use crate::message::{Attrs, Message};

/// Maps for ports of one host address, and maps for ports of all of them.
pub const BY_ADDRESS: &str = "ports_by_address";
pub const BY_PORT: &str = "ports";
pub const BY_ADDRESS_V6: &str = "ports_by_address_v6";
pub const BY_PORT_V6: &str = "ports_v6";
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
    fn new(port: &'a PublishedPort) -> Result<Option<Self>> {
        let op = "publish port";
        let host = parse_ip(op, &port.host_ip)?;
        let container = parse_ip(op, &port.container_ip)?;
        if port.owner.is_empty() || port.owner.len() > 128 {
            return Err(invalid(op, &port.owner, "the owner's id has 1 to 128 bytes"));
        }
        if host.is_loopback() || host.is_ipv4() != container.is_ipv4() {
            return Ok(None);
        }
        let mut key = if host.is_unspecified() { Vec::new() } else { octets(host) };
        key.extend_from_slice(&[port.proto.number(), 0, 0, 0]);
        key.extend_from_slice(&port_bytes(port.host_port));
        let mut data = octets(container);
        data.extend_from_slice(&port_bytes(port.container_port));
        Ok(Some(Self { map: map_of(host), key, data, port }))
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

fn map_of(host: IpAddr) -> &'static str {
    match (host.is_ipv4(), host.is_unspecified()) {
        (true, true) => BY_PORT,
        (true, false) => BY_ADDRESS,
        (false, true) => BY_PORT_V6,
        (false, false) => BY_ADDRESS_V6,
    }
}

pub fn elements(ports: &[PublishedPort]) -> Result<Vec<Element<'_>>> {
    ports.iter().filter_map(|port| Element::new(port).transpose()).collect()
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
    for map in [BY_ADDRESS, BY_PORT, BY_ADDRESS_V6, BY_PORT_V6] {
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
