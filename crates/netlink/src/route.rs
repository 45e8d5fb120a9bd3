//! Routes, and whether the host forwards.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::Serialize;

use crate::address::{self, Cidr, Family};
use crate::error::{Result, system};
use crate::message::{Message, attribute, attributes, u32_at};
use crate::socket::{Reply, Socket};

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;
const RTMSG_LEN: usize = 12;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
const RTN_UNREACHABLE: u8 = 7;
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const CONF6: &str = "/proc/sys/net/ipv6/conf";
const FORWARDING6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteInfo {
    pub destination: String,
    pub device: String,
}

/// `0.0.0.0` and `::` stand for the device alone, whose driver finds the way.
pub fn default_message(index: u32, gateway: IpAddr, object: &str) -> Message {
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let mut message = Message::new(libc::RTM_NEWROUTE, flags, "add default route", format!("{gateway} {object}"));
    let mut header = [0; RTMSG_LEN];
    header[0] = address::family(gateway);
    let scope = if gateway == Ipv4Addr::UNSPECIFIED { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE };
    header[4..8].copy_from_slice(&[RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST]);
    message.put(&header).number(RTA_OIF, index);
    if !gateway.is_unspecified() {
        message.attr(RTA_GATEWAY, &address::octets(gateway));
    }
    message
}

/// Takes the default routes of the calling thread's namespace away, of both families.
pub fn remove_defaults(socket: &mut Socket) -> Result<()> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        for reply in dump(socket, family as u8)? {
            if !is_default(&reply.payload) {
                continue;
            }
            let mut message = Message::new(libc::RTM_DELROUTE, 0, "remove default route", "");
            message.put(&reply.payload);
            socket.lookup(vec![message], Errno::SRCH)?;
        }
    }
    Ok(())
}

/// Of the main table, to everywhere, by a device: IPv6 keeps one of its own that leads nowhere.
fn is_default(payload: &[u8]) -> bool {
    payload.get(1) == Some(&0)
        && payload.get(4) == Some(&RT_TABLE_MAIN)
        && payload.get(7) == Some(&RTN_UNICAST)
        && attribute(payload, RTMSG_LEN, RTA_OIF).is_some()
}

fn dump(socket: &mut Socket, family: u8) -> Result<Vec<Reply>> {
    let mut message = Message::new(libc::RTM_GETROUTE, 0, "list routes", "main");
    let mut header = [0; RTMSG_LEN];
    header[0] = family;
    message.put(&header);
    match socket.dump(message) {
        // A kernel without IPv6.
        Err(error) if error.is(Errno::OPNOTSUPP) || error.is(Errno::AFNOSUPPORT) => Ok(Vec::new()),
        result => result,
    }
}

/// "Nobody lives there", for a network, in a table of our own.
pub fn unreachable_message(kind: u16, network: Cidr, table: u32) -> Message {
    let add = kind == libc::RTM_NEWROUTE;
    let flags = if add { (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16 } else { 0 };
    let object = format!("{}/{} table {table}", network.first(), network.prefix);
    let mut message = Message::new(kind, flags, if add { "add route" } else { "remove route" }, object);
    let mut header = [0; RTMSG_LEN];
    header[0] = address::family(network.address);
    header[1] = network.prefix;
    header[5..8].copy_from_slice(&[RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNREACHABLE]);
    message.put(&header).attr(RTA_DST, &address::octets(network.first())).number(RTA_TABLE, table);
    message
}

/// Networks that a table of our own says to be unreachable.
pub fn unreachable(socket: &mut Socket, table: u32) -> Result<Vec<Cidr>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for reply in dump(socket, family as u8)? {
            let payload = &reply.payload;
            let of_table = attribute(payload, RTMSG_LEN, RTA_TABLE).and_then(|value| u32_at(value, 0)) == Some(table);
            let network = attribute(payload, RTMSG_LEN, RTA_DST).and_then(address::from_octets);
            if let (true, Some(address), Some(prefix)) = (of_table, network, payload.get(1)) {
                found.push(Cidr { address, prefix: *prefix });
            }
        }
    }
    Ok(found)
}

/// Routes of the main table, of both families.
pub fn list_routes() -> Result<Vec<RouteInfo>> {
    let mut socket = Socket::route()?;
    let mut names = Names::open()?;
    let mut replies = dump(&mut socket, libc::AF_INET as u8)?;
    replies.extend(dump(&mut socket, libc::AF_INET6 as u8)?);
    Ok(replies.iter().filter_map(|reply| route_of(&reply.payload, &mut names)).collect())
}

/// Names of devices, each asked for once: to list all of them would wait for the kernel's network lock.
struct Names {
    socket: OwnedFd,
    known: BTreeMap<u32, Option<String>>,
}

impl Names {
    fn open() -> Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None);
        Ok(Self { socket: socket.map_err(system("socket", "names of links"))?, known: BTreeMap::new() })
    }

    /// None for one that has gone meanwhile.
    fn of(&mut self, index: u32) -> Option<String> {
        let ask = || rustix::net::netdevice::index_to_name(&self.socket, index).ok();
        self.known.entry(index).or_insert_with(ask).clone()
    }
}

fn route_of(payload: &[u8], names: &mut Names) -> Option<RouteInfo> {
    let table = attribute(payload, RTMSG_LEN, RTA_TABLE).and_then(|value| u32_at(value, 0));
    if table.unwrap_or(u32::from(*payload.get(4)?)) != u32::from(RT_TABLE_MAIN) {
        return None;
    }
    let mut destination = if i32::from(*payload.first()?) == libc::AF_INET {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let mut device = String::new();
    for (kind, value) in attributes(payload, RTMSG_LEN) {
        match kind {
            RTA_DST => destination = address::from_octets(value)?,
            RTA_OIF => {
                device = names.of(u32_at(value, 0)?)?;
            }
            _ => {}
        }
    }
    Some(RouteInfo { destination: format!("{destination}/{}", payload.get(1)?), device })
}

/// Switches forwarding of a family on if it is off; true when it was. Where the kernel has no IPv6 there is nothing to do.
pub fn enable_forwarding(family: Family) -> Result<bool> {
    if family == Family::V4 {
        return switch_on(FORWARDING);
    }
    if !std::fs::exists(FORWARDING6).unwrap_or(false) {
        return Ok(false);
    }
    keep_announcements();
    switch_on(FORWARDING6)
}

/// A host that forwards does not take its own default route from a router's announcements any more, unless told so. A
/// device that cannot be told is lost to nobody who is there to say it to: its route lasts until it expires.
fn keep_announcements() {
    for device in std::fs::read_dir(CONF6).into_iter().flatten().flatten() {
        let path = device.path().join("accept_ra");
        if std::fs::read(&path).is_ok_and(|value| value.starts_with(b"1")) {
            let _ = std::fs::write(&path, "2");
        }
    }
}

fn switch_on(path: &str) -> Result<bool> {
    let failed = |op| move |error: std::io::Error| system(op, path)(errno(&error));
    if std::fs::read_to_string(path).map_err(failed("read"))?.trim() != "0" {
        return Ok(false);
    }
    std::fs::write(path, "1").map_err(failed("write"))?;
    Ok(true)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
