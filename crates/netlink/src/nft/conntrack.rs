//! Flows that the kernel remembers. Nobody sees the end of a flow whose container is gone: a UDP client that keeps sending,
//! or a TCP connection that was open, goes to the container's address, past the maps, whoever has that address next.

use std::collections::HashSet;
use std::net::IpAddr;

use rustix::io::Errno;

use crate::address::{family, from_octets, octets};
use crate::error::Result;
use crate::message::{Message, attribute};
use crate::socket::{Reply, Socket};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const NFGENMSG_LEN: usize = 4;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const PROTO_NUMBER: u16 = 1;
const PROTO_SOURCE_PORT: u16 = 2;
const IP_V4_SOURCE: u16 = 1;
const IP_V6_SOURCE: u16 = 3;
const NESTED: u16 = 1 << 15;
const FILTER: u16 = 25;
const FILTER_REPLY: u16 = 2;
const FILTER_IP_SOURCE: u32 = 1;

/// What answers: address, protocol, port.
pub type End = (IpAddr, u8, u16);

pub fn addresses(ends: &HashSet<End>) -> HashSet<IpAddr> {
    ends.iter().map(|(address, ..)| *address).collect()
}

/// Forgets the flows that these ends answer, those of one address: the kernel tells of its flows alone, since a busy host has
/// tens of thousands of others, but it looks through all of them, 5 ms of an idle host. True when the address has more.
pub fn forget(socket: &mut Socket, address: IpAddr, ends: &HashSet<End>) -> Result<bool> {
    let flows = match socket.dump(list_message(address)) {
        // A kernel that does not show its flows (no NF_CT_NETLINK) has no way to forget one either.
        Err(error) if error.is(Errno::INVAL) || error.is(Errno::OPNOTSUPP) => return Ok(false),
        result => result?,
    };
    let stale: Vec<_> = flows.iter().filter(|flow| answers_from(flow).is_some_and(|end| ends.contains(&end))).collect();
    let deletions = stale.iter().filter_map(|flow| {
        let original = attribute(&flow.payload, NFGENMSG_LEN, TUPLE_ORIGINAL)?;
        let mut message = message(DELETE, address, "forget flow");
        message.attr(TUPLE_ORIGINAL | NESTED, original);
        Some(message)
    });
    socket.lookup(deletions.collect(), Errno::NOENT)?;
    Ok(stale.len() < flows.len())
}

/// Of flows whose answers come from this address.
fn list_message(address: IpAddr) -> Message {
    let mut message = message(GET, address, "list flows");
    let source = if address.is_ipv4() { IP_V4_SOURCE } else { IP_V6_SOURCE };
    message.nest(TUPLE_REPLY, |tuple| {
        tuple.nest(TUPLE_IP, |ip| {
            ip.attr(source, &octets(address));
        });
    });
    message.nest(FILTER, |filter| {
        filter.number(FILTER_REPLY, FILTER_IP_SOURCE);
    });
    message
}

/// Where a flow's answers come from: the container.
fn answers_from(flow: &Reply) -> Option<End> {
    let reply = attribute(&flow.payload, NFGENMSG_LEN, TUPLE_REPLY)?;
    let ip = attribute(reply, 0, TUPLE_IP)?;
    let address = from_octets(attribute(ip, 0, IP_V4_SOURCE).or_else(|| attribute(ip, 0, IP_V6_SOURCE))?)?;
    let proto = attribute(reply, 0, TUPLE_PROTO)?;
    let port = attribute(proto, 0, PROTO_SOURCE_PORT)?.try_into().ok()?;
    Some((address, *attribute(proto, 0, PROTO_NUMBER)?.first()?, u16::from_be_bytes(port)))
}

fn message(kind: u16, address: IpAddr, op: &'static str) -> Message {
    let mut message = Message::new(SUBSYSTEM << 8 | kind, 0, op, "conntrack");
    message.put(&[family(address), 0, 0, 0]);
    message
}
