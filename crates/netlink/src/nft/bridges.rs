//! Bridges of ours as elements of sets: a network costs a handful of them and never a rule.

use rustix::io::Errno;

use super::abi::*;
use super::batch::Table;
use super::expr::device;
use super::ruleset::{BridgeRules, GatewayMode};
use crate::address::{Cidr, Family, octets, parse_ip};
use crate::error::{NetError, Result};
use crate::link;
use crate::message::{Attrs, Message};
use crate::socket::Socket;

pub const BRIDGES: &str = "bridges";
/// A bridge beside itself: what comes in and goes out by it is traffic among its containers.
pub const SIBLINGS: &str = "siblings";
pub const INTERNAL: &str = "internal";
/// A bridge and a family whose addresses are hidden.
pub const MASQUERADED: &str = "masqueraded";
/// A bridge and a family all of whose ports are open.
pub const UNPROTECTED: &str = "unprotected";
/// A bridge and a family whose published ports are open at the containers' own addresses.
pub const ROUTED: &str = "routed";
/// A bridge and one of the two protocols of ICMP: containers of a routed network answer.
pub const PINGABLE: &str = "pingable";
/// A device of the host beside a bridge that it leads to directly.
pub const TRUSTED: &str = "trusted";
/// A bridge and the address of the host that its traffic goes out with.
pub const SOURCES: &str = "sources";
pub const SOURCES_V6: &str = "sources_v6";
/// A network's addresses and its bridge.
pub const SUBNETS: &str = "subnets";
pub const SUBNETS_V6: &str = "subnets_v6";

#[derive(Default)]
struct Element {
    set: &'static str,
    key: Vec<u8>,
    /// The end of an interval.
    end: Option<Vec<u8>>,
    /// What the key stands for in a map.
    data: Option<Vec<u8>>,
}

impl Element {
    fn list(&self) -> Attrs {
        let mut list = Attrs::default();
        list.nest(LIST_ELEM, |element| {
            element.nest(ELEM_KEY, |key| {
                key.attr(DATA_VALUE, &self.key);
            });
            if let Some(end) = &self.end {
                element.nest(ELEM_KEY_END, |key| {
                    key.attr(DATA_VALUE, end);
                });
            }
            if let Some(data) = &self.data {
                element.nest(ELEM_DATA, |value| {
                    value.attr(DATA_VALUE, data);
                });
            }
        });
        list
    }
}

pub fn subnets(op: &'static str, rules: &BridgeRules) -> Result<Vec<Cidr>> {
    rules.subnets.iter().map(|text| Cidr::parse(op, text)).collect()
}

fn elements(rules: &BridgeRules) -> Result<Vec<Element>> {
    let op = "add bridge to firewall";
    link::check_name(op, &rules.bridge)?;
    let name = device(&rules.bridge).to_vec();
    let plain = |set, key| Element { set, key, ..Element::default() };
    let mut elements = vec![plain(BRIDGES, name.clone())];
    if rules.icc {
        elements.push(plain(SIBLINGS, [name.clone(), name.clone()].concat()));
    }
    if rules.internal {
        elements.push(plain(INTERNAL, name.clone()));
    }
    for family in [Family::V4, Family::V6] {
        let beside = |number: u8| [&name[..], &[number, 0, 0, 0]].concat();
        let mode = rules.mode(family);
        if rules.masquerade && !rules.internal && mode != GatewayMode::Routed {
            elements.push(plain(MASQUERADED, beside(family.protocol())));
        }
        if mode == GatewayMode::NatUnprotected {
            elements.push(plain(UNPROTECTED, beside(family.protocol())));
        }
        if mode == GatewayMode::Routed || rules.direct {
            elements.push(plain(ROUTED, beside(family.protocol())));
        }
        if mode == GatewayMode::Routed {
            let icmp = if family == Family::V4 { libc::IPPROTO_ICMP } else { libc::IPPROTO_ICMPV6 };
            elements.push(plain(PINGABLE, beside(icmp as u8)));
        }
    }
    for device_name in &rules.trusted {
        link::check_name(op, device_name)?;
        elements.push(plain(TRUSTED, [device(device_name).to_vec(), name.clone()].concat()));
    }
    for subnet in subnets(op, rules)? {
        let edge = |address| [octets(address), name.clone()].concat();
        let set = if subnet.address.is_ipv4() { SUBNETS } else { SUBNETS_V6 };
        elements.push(Element { set, key: edge(subnet.first()), end: Some(edge(subnet.last())), data: None });
    }
    if rules.masquerade && !rules.internal {
        for text in &rules.sources {
            let address = parse_ip(op, text)?;
            let set = if address.is_ipv4() { SOURCES } else { SOURCES_V6 };
            elements.push(Element { data: Some(octets(address)), ..plain(set, name.clone()) });
        }
    }
    Ok(elements)
}

pub fn add_messages(table: &Table, bridges: &[BridgeRules]) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    for rules in bridges {
        check_icc(rules)?;
        let elements = elements(rules)?;
        messages.extend(elements.iter().map(|element| table.elements(NEWSETELEM, element.set, &element.list())));
    }
    Ok(messages)
}

/// Looked up first: one that is not there would end the whole transaction, and each transaction
/// waits for the end of the one before.
pub fn remove(socket: &mut Socket, table: &Table, rules: &BridgeRules) -> Result<()> {
    let elements = elements(rules)?;
    let messages = |kind| elements.iter().map(move |element| table.elements(kind, element.set, &element.list()));
    let found = socket.lookup(messages(GETSETELEM).collect(), Errno::NOENT)?;
    let present: Vec<_> =
        messages(DELSETELEM).zip(found).filter_map(|(message, found)| found.map(|_| message)).collect();
    if present.is_empty() { Ok(()) } else { socket.batch(present) }
}

fn check_icc(rules: &BridgeRules) -> Result<()> {
    if rules.icc || bridged_packets_are_filtered() {
        return Ok(());
    }
    Err(NetError::Unsupported {
        op: "apply ruleset",
        object: rules.bridge.clone(),
        reason: "icc=false needs the kernel to pass bridged packets to the firewall: load br_netfilter and set \
                 net.bridge.bridge-nf-call-iptables to 1"
            .into(),
    })
}

fn bridged_packets_are_filtered() -> bool {
    std::fs::read("/proc/sys/net/bridge/bridge-nf-call-iptables").is_ok_and(|value| value.starts_with(b"1"))
}
