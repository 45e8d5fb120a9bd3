//! Flows that the kernel remembers. A UDP flow has no end that anybody could see: while its client keeps sending, packets
//! go to the address of a container that is gone, past the maps.

use rustix::io::Errno;

use super::ruleset::{Proto, PublishedPort};
use crate::address::parse_ipv4;
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
const IP_V4_SOURCE: u16 = 1;
const PROTO_NUMBER: u16 = 1;
const PROTO_SOURCE_PORT: u16 = 2;
const NESTED: u16 = 1 << 15;

/// Forgets the UDP flows that these published ports translate.
pub fn forget(socket: &mut Socket, ports: &[&PublishedPort]) -> Result<()> {
    let mut answering = Vec::new();
    for port in ports.iter().filter(|port| port.proto == Proto::Udp) {
        let address = parse_ipv4("forget flows", &port.container_ip)?;
        answering.push((address.octets(), port.container_port.to_be_bytes()));
    }
    if answering.is_empty() {
        return Ok(());
    }
    let flows = match socket.dump(message(GET, "list flows")) {
        // A kernel that does not show its flows (no NF_CT_NETLINK) has no way to forget one either.
        Err(error) if error.is(Errno::INVAL) || error.is(Errno::OPNOTSUPP) => return Ok(()),
        result => result?,
    };
    let stale = flows.iter().filter(|flow| answers_from(flow).is_some_and(|end| answering.contains(&end)));
    let deletions = stale.filter_map(|flow| {
        let original = attribute(&flow.payload, NFGENMSG_LEN, TUPLE_ORIGINAL)?;
        let mut message = message(DELETE, "forget flow");
        message.attr(TUPLE_ORIGINAL | NESTED, original);
        Some(message)
    });
    socket.lookup(deletions.collect(), Errno::NOENT).map(|_| ())
}

/// Address and port that a UDP flow's answers come from: the container's.
fn answers_from(flow: &Reply) -> Option<([u8; 4], [u8; 2])> {
    let reply = attribute(&flow.payload, NFGENMSG_LEN, TUPLE_REPLY)?;
    let source = attribute(attribute(reply, 0, TUPLE_IP)?, 0, IP_V4_SOURCE)?;
    let proto = attribute(reply, 0, TUPLE_PROTO)?;
    if *attribute(proto, 0, PROTO_NUMBER)? != [libc::IPPROTO_UDP as u8] {
        return None;
    }
    Some((source.try_into().ok()?, attribute(proto, 0, PROTO_SOURCE_PORT)?.try_into().ok()?))
}

fn message(kind: u16, op: &'static str) -> Message {
    let mut message = Message::new(SUBSYSTEM << 8 | kind, 0, op, "conntrack");
    message.put(&[libc::AF_INET as u8, 0, 0, 0]);
    message
}
