//! Ports that tables of other daemons still lead elsewhere. A daemon that was killed leaves its table, so that its containers
//! go on; one of them that ends meanwhile leaves its port there. Whoever holds the socket of a port has the port: what leads
//! it away is taken out.

use std::collections::HashSet;
use std::net::IpAddr;

use rustix::io::Errno;

use super::abi::*;
use super::batch::{Table, message};
use super::conntrack::{self, End};
use super::elements::{BY_ADDRESS, BY_ADDRESS_V6, BY_PORT, BY_PORT_V6, Element};
use crate::address::from_octets;
use crate::error::Result;
use crate::message::{Attrs, Message, attribute, attributes, text};
use crate::socket::{Reply, Socket};

const NFGENMSG_LEN: usize = 4;
/// Protocol and port, a register each, at the end of every key.
const PORT_LEN: usize = 8;

/// To be called with the ports' sockets held. Tables whose daemon lives are its own business.
pub fn claim(socket: &mut Socket, ours: &Table, ports: &[Element<'_>]) -> Result<()> {
    for table in others(socket, ours)? {
        let mut gone = Vec::new();
        let mut ends = HashSet::new();
        for map in [BY_ADDRESS, BY_PORT, BY_ADDRESS_V6, BY_PORT_V6] {
            for stale in
                entries(socket, &table, map)?.into_iter().filter(|stale| ports.iter().any(|port| stale.takes(port)))
            {
                ends.extend(stale.end());
                gone.push(stale.remove_message(&table));
            }
        }
        if gone.is_empty() {
            continue;
        }
        match socket.batch(gone) {
            // Its daemon lives, or was faster.
            Err(error) if error.is(Errno::PERM) || error.is(Errno::NOENT) => {}
            result => {
                result?;
                for address in conntrack::addresses(&ends) {
                    conntrack::forget(socket, address, &ends)?;
                }
            }
        }
    }
    Ok(())
}

/// Tables of other daemons of ours.
fn others(socket: &mut Socket, ours: &Table) -> Result<Vec<Table>> {
    let replies = socket.dump(message(GETTABLE, 0, NFPROTO_INET, "list tables", "inet".into()))?;
    let names = replies.iter().filter_map(|reply| Some(text(attribute(&reply.payload, NFGENMSG_LEN, TABLE_NAME)?)));
    let is_other = |name: &String| *name != ours.name && (name == "caisson" || name.starts_with("caisson_"));
    Ok(names.filter(is_other).map(|name| Table::inet(&name)).collect())
}

struct Entry {
    map: &'static str,
    key: Vec<u8>,
    data: Vec<u8>,
}

fn entries(socket: &mut Socket, table: &Table, map: &'static str) -> Result<Vec<Entry>> {
    let mut request = message(GETSETELEM, 0, NFPROTO_INET, "list elements", format!("{} {map}", table.name));
    request.string(ELEM_LIST_TABLE, &table.name).string(ELEM_LIST_SET, map);
    let replies = match socket.dump(request) {
        // A table of another version, or one that went while we looked.
        Err(error) if error.is(Errno::NOENT) => return Ok(Vec::new()),
        result => result?,
    };
    Ok(replies.iter().flat_map(|reply| entries_of(reply, map)).collect())
}

fn entries_of(reply: &Reply, map: &'static str) -> Vec<Entry> {
    let list = attribute(&reply.payload, NFGENMSG_LEN, ELEM_LIST_ELEMENTS).unwrap_or_default();
    let value = |element, kind| Some(attribute(attribute(element, 0, kind)?, 0, DATA_VALUE)?.to_vec());
    let entry = |element| Some(Entry { map, key: value(element, ELEM_KEY)?, data: value(element, ELEM_DATA)? });
    attributes(list, 0).filter_map(|(_, element)| entry(element)).collect()
}

impl Entry {
    /// It leads away what is sent to this port: the same number, and the same address or every one.
    fn takes(&self, port: &Element<'_>) -> bool {
        let is_v6 = |map| matches!(map, BY_ADDRESS_V6 | BY_PORT_V6);
        let is_any = |map| matches!(map, BY_PORT | BY_PORT_V6);
        let number = |key: &[u8]| key.len().checked_sub(PORT_LEN).map(|at| key[at..].to_vec());
        is_v6(self.map) == is_v6(port.map)
            && number(&self.key) == number(&port.key)
            && (is_any(self.map) || is_any(port.map) || self.key == port.key)
    }

    fn end(&self) -> Option<End> {
        let (address, port) = self.data.split_at_checked(self.data.len().checked_sub(4)?)?;
        let address: IpAddr = from_octets(address)?;
        let protocol = *self.key.get(self.key.len().checked_sub(PORT_LEN)?)?;
        Some((address, protocol, u16::from_be_bytes([*port.first()?, *port.get(1)?])))
    }

    fn remove_message(&self, table: &Table) -> Message {
        let mut list = Attrs::default();
        list.nest(LIST_ELEM, |element| {
            element.nest(ELEM_KEY, |key| {
                key.attr(DATA_VALUE, &self.key);
            });
        });
        table.elements(DELSETELEM, self.map, &list)
    }
}
