//! More containers on a bridge than the kernel gives it ports for, which are 1,023: further ones share one of the ports, as
//! macvlan devices on the far end of a veth pair. Towards the bridge, its addresses and the firewall they are what the others
//! are: everything that leaves the pair passes the bridge.
//!
//! ```text
//! container ── veth ─────┐
//! container ── veth ─────┤ bridge
//! container ── macvlan ─┐│
//! container ── macvlan ─┴┘ trunk7c ── trunk7      (7: the bridge's index)
//! ```
//! The pair is made while there is still a port for it.

use rustix::io::Errno;

use crate::error::Result;
use crate::link::{self, IFLA_IFNAME, IFLA_MASTER, IFLA_MTU};
use crate::message::Message;
use crate::socket::Socket;

/// The lowest number that is free is given to a port: this one says that the bridge is almost full. What is left is for
/// endpoints that are made at the same time.
const ALMOST_FULL: u16 = 960;

fn port_name(bridge: u32) -> String {
    format!("trunk{bridge}")
}

fn device_name(bridge: u32) -> String {
    format!("trunk{bridge}c")
}

/// To be called with the number of each port that is made.
pub fn prepare(socket: &mut Socket, bridge: u32, port: u16, mtu: Option<u32>) -> Result<()> {
    if port < ALMOST_FULL {
        return Ok(());
    }
    match socket.run(vec![pair_message(bridge, mtu)]) {
        Err(error) if error.is(Errno::EXIST) => return Ok(()),
        result => result?,
    }
    let (port, device) = (port_name(bridge), device_name(bridge));
    for name in [&port, &device] {
        link::set_ipv6(name, false)?;
    }
    let mut up = link::set_message("set trunk up", &port, link::index_of(socket, &port)?, true);
    link::hairpin_port(&mut up);
    // The host hears what is sent to everybody: it must not answer for its bridge with this device's MAC.
    let flags = libc::IFF_UP | libc::IFF_NOARP;
    let device_up = link::flags_message("set trunk up", &device, link::index_of(socket, &device)?, flags);
    socket.run(vec![up, device_up])
}

fn pair_message(bridge: u32, mtu: Option<u32>) -> Message {
    let mut message = link::pair_message("create trunk", &port_name(bridge), |peer| {
        peer.string(IFLA_IFNAME, &device_name(bridge));
        if let Some(mtu) = mtu {
            peer.number(IFLA_MTU, mtu);
        }
    });
    message.number(IFLA_MASTER, bridge);
    if let Some(mtu) = mtu {
        message.number(IFLA_MTU, mtu);
    }
    message
}

/// The device that further containers are children of; none where there is no pair.
pub fn device(socket: &mut Socket, bridge: u32) -> Result<Option<String>> {
    let name = device_name(bridge);
    Ok(link::find(socket, &name)?.map(|_| name))
}

/// With the bridge.
pub fn remove_message(bridge: u32) -> Message {
    let name = port_name(bridge);
    let mut message = Message::new(libc::RTM_DELLINK, 0, "delete trunk", name.as_str());
    message.put(&link::header(0, false)).string(IFLA_IFNAME, &name);
    message
}
