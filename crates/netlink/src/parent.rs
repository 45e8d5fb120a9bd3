//! The host's device below those of macvlan and ipvlan networks, where it is made for them: a VLAN of another device
//! (`eth0.10`), or one that leads nowhere.

use rustix::io::Errno;

use crate::error::{NetError, Result, system};
use crate::link::{self, IFLA_IFALIAS, IFLA_LINK, OURS};
use crate::message::Message;
use crate::socket::Socket;

const IFLA_VLAN_ID: u16 = 1;
const OP: &str = "create parent device";

/// The device is there and up when this returns. One that exists is taken as it is; of those that do not, `eth0.10` is VLAN
/// 10 of eth0, and a `dummy` joins the containers of one network with nobody else. Kind `notFound` for another name.
pub fn ensure_parent(name: &str, dummy: bool) -> Result<()> {
    link::check_name(OP, name)?;
    let mut socket = Socket::route()?;
    if link::find(&mut socket, name)?.is_some() {
        return Ok(());
    }
    let kind = if dummy { "dummy" } else { "vlan" };
    let message = if dummy { link::create_message(OP, name, kind, |_| {}) } else { vlan(&mut socket, name)? };
    match socket.run(vec![message]) {
        // Another network was faster.
        Err(error) if error.is(Errno::EXIST) => (),
        result => result.map_err(|error| explain(error, name, kind))?,
    }
    let index = link::index_of(&mut socket, name)?;
    let mut up = link::set_message(OP, name, index, true);
    // The kernel takes it of a link that exists, not of one that is made.
    up.string(IFLA_IFALIAS, OURS);
    socket.run(vec![up])
}

fn vlan(socket: &mut Socket, name: &str) -> Result<Message> {
    let of = name.rsplit_once('.').and_then(|(device, id)| Some((device, id.parse::<u16>().ok()?)));
    let (device, id) = of.filter(|(_, id)| (1..4095).contains(id)).ok_or_else(|| system(OP, name)(Errno::NODEV))?;
    let below = link::index_of(socket, device)?;
    let mut message = link::create_message(OP, name, "vlan", |data| {
        data.attr(IFLA_VLAN_ID, &id.to_ne_bytes());
    });
    message.number(IFLA_LINK, below);
    Ok(message)
}

fn explain(error: NetError, name: &str, kind: &str) -> NetError {
    if !error.is(Errno::OPNOTSUPP) {
        return error;
    }
    NetError::Unsupported { op: OP, object: name.into(), reason: format!("this kernel has no {kind} devices") }
}
