//! Flows that the kernel remembers. Nobody sees the end of a flow whose container is gone: a UDP client that keeps sending,
//! or a TCP connection that was open, goes to the container's address, past the maps, whoever has that address next.

use std::net::IpAddr;

use rustix::io::Errno;

use crate::address::from_octets;
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
const IP_V4_SOURCE: u16 = 1;
const IP_V6_SOURCE: u16 = 3;
const NESTED: u16 = 1 << 15;

/// Forgets the flows that these addresses answer, whatever their protocol.
pub fn forget(socket: &mut Socket, addresses: &[IpAddr]) -> Result<()> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        let of_family: Vec<_> =
            addresses.iter().filter(|address| address.is_ipv4() == (family == libc::AF_INET)).collect();
        if of_family.is_empty() {
            continue;
        }
        let flows = match socket.dump(message(GET, family, "list flows")) {
            // A kernel that does not show its flows (no NF_CT_NETLINK) has no way to forget one either.
            Err(error) if error.is(Errno::INVAL) || error.is(Errno::OPNOTSUPP) => return Ok(()),
            result => result?,
        };
        let stale = flows.iter().filter(|flow| answers_from(flow).is_some_and(|end| of_family.contains(&&end)));
        let deletions = stale.filter_map(|flow| {
            let original = attribute(&flow.payload, NFGENMSG_LEN, TUPLE_ORIGINAL)?;
            let mut message = message(DELETE, family, "forget flow");
            message.attr(TUPLE_ORIGINAL | NESTED, original);
            Some(message)
        });
        socket.lookup(deletions.collect(), Errno::NOENT)?;
    }
    Ok(())
}

/// The address that a flow's answers come from: the container's.
fn answers_from(flow: &Reply) -> Option<IpAddr> {
    let reply = attribute(&flow.payload, NFGENMSG_LEN, TUPLE_REPLY)?;
    let ip = attribute(reply, 0, TUPLE_IP)?;
    from_octets(attribute(ip, 0, IP_V4_SOURCE).or_else(|| attribute(ip, 0, IP_V6_SOURCE))?)
}

fn message(kind: u16, family: i32, op: &'static str) -> Message {
    let mut message = Message::new(SUBSYSTEM << 8 | kind, 0, op, "conntrack");
    message.put(&[family as u8, 0, 0, 0]);
    message
}
