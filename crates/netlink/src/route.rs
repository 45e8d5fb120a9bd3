//! Routes, and whether the host forwards.

use std::net::Ipv4Addr;

use rustix::io::Errno;
use serde::Serialize;

use crate::error::{Result, system};
use crate::link;
use crate::message::{Message, attribute, attributes, u32_at};
use crate::socket::Socket;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;
const RTMSG_LEN: usize = 12;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteInfo {
    pub destination: String,
    pub device: String,
}

pub fn default_message(index: u32, gateway: Ipv4Addr, object: &str) -> Message {
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let mut message = Message::new(libc::RTM_NEWROUTE, flags, "add default route", format!("{gateway} {object}"));
    let mut header = [0; RTMSG_LEN];
    header[0] = libc::AF_INET as u8;
    header[4..8].copy_from_slice(&[RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST]);
    message.put(&header).attr(RTA_GATEWAY, &gateway.octets()).number(RTA_OIF, index);
    message
}

/// IPv4 routes of the main table.
pub fn list_routes() -> Result<Vec<RouteInfo>> {
    let mut socket = Socket::route()?;
    let names = link::names(&mut socket)?;
    let mut message = Message::new(libc::RTM_GETROUTE, 0, "list routes", "main");
    let mut header = [0; RTMSG_LEN];
    header[0] = libc::AF_INET as u8;
    message.put(&header);
    let replies = socket.dump(message)?;
    Ok(replies.iter().filter_map(|reply| route_of(&reply.payload, &names)).collect())
}

fn route_of(payload: &[u8], names: &[(u32, String)]) -> Option<RouteInfo> {
    let table = attribute(payload, RTMSG_LEN, RTA_TABLE).and_then(|value| u32_at(value, 0));
    if table.unwrap_or(u32::from(*payload.get(4)?)) != u32::from(RT_TABLE_MAIN) {
        return None;
    }
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let mut device = String::new();
    for (kind, value) in attributes(payload, RTMSG_LEN) {
        match kind {
            RTA_DST => destination = <[u8; 4]>::try_from(value).ok()?.into(),
            RTA_OIF => {
                let index = u32_at(value, 0)?;
                device = names.iter().find(|(one, _)| *one == index)?.1.clone();
            }
            _ => {}
        }
    }
    Some(RouteInfo { destination: format!("{destination}/{}", payload.get(1)?), device })
}

/// Switches IPv4 forwarding on if it is off; true when it was.
pub fn enable_forwarding() -> Result<bool> {
    let failed = |op| move |error: std::io::Error| system(op, FORWARDING)(errno(&error));
    if std::fs::read_to_string(FORWARDING).map_err(failed("read"))?.trim() != "0" {
        return Ok(false);
    }
    std::fs::write(FORWARDING, "1").map_err(failed("write"))?;
    Ok(true)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
