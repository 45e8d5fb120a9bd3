//! Addresses of containers that flows have begun to by a published port, as the rules note them: of others nothing has to be
//! forgotten, and the kernel's flows, through all of which it looks for some, are not asked for.

use std::collections::HashSet;
use std::net::IpAddr;

use rustix::io::Errno;

use super::abi::*;
use super::batch::Table;
use super::conntrack::{self, End};
use super::elements::Element;
use crate::address::octets;
use crate::error::Result;
use crate::message::{Attrs, Message};
use crate::socket::Socket;

pub const REACHED: &str = "reached";
pub const REACHED_V6: &str = "reached_v6";

/// Of a table that begins with these ports: what came by them before is not known.
pub fn add_messages(table: &Table, ports: &[Element<'_>]) -> Result<Vec<Message>> {
    let ends = ports.iter().map(Element::end).collect::<Result<_>>()?;
    Ok(conntrack::addresses(&ends).into_iter().map(|address| message(table, NEWSETELEM, address)).collect())
}

/// Forgets the flows that these ends answer. To be called when none of their ports leads to them any more.
pub fn forget(socket: &mut Socket, table: &Table, ends: &HashSet<End>) -> Result<()> {
    let addresses: Vec<_> = conntrack::addresses(ends).into_iter().collect();
    let messages = addresses.iter().map(|address| message(table, GETSETELEM, *address));
    let found = socket.lookup(messages.collect(), Errno::NOENT)?;
    for (address, _) in addresses.into_iter().zip(found).filter(|(_, found)| found.is_some()) {
        // First: a flow by another port that begins meanwhile is noted anew.
        socket.batch(vec![message(table, DELSETELEM, address)])?;
        if conntrack::forget(socket, address, ends)? {
            socket.batch(vec![message(table, NEWSETELEM, address)])?;
        }
    }
    Ok(())
}

fn message(table: &Table, kind: u16, address: IpAddr) -> Message {
    let set = if address.is_ipv4() { REACHED } else { REACHED_V6 };
    let mut list = Attrs::default();
    list.nest(LIST_ELEM, |element| {
        element.nest(ELEM_KEY, |key| {
            key.attr(DATA_VALUE, &octets(address));
        });
    });
    table.elements(kind, set, &list)
}
