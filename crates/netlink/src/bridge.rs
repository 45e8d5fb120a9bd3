//! The bridge that containers' links are ports of.

use rustix::io::Errno;
use serde::Deserialize;

use crate::address::{self, Cidr, octets};
use crate::error::{NetError, Result};
use crate::link::{self, IFLA_ADDRESS, IFLA_IFALIAS, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU, OURS};
use crate::message::{Attrs, Message};
use crate::socket::Socket;

const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BridgeOptions {
    pub name: String,
    /// The host's own, each with a prefix length: the gateway's of each family, or none.
    pub addresses: Vec<String>,
    #[serde(default)]
    pub mtu: Option<u32>,
}

/// Makes the bridge, or brings one that was made here to these settings. One of somebody else's gets the addresses that it
/// lacks and the MTU, and keeps what it has: its spanning tree may be what keeps the network below it from looping. True when it
/// was not there.
pub fn ensure_bridge(options: &BridgeOptions) -> Result<bool> {
    let name = options.name.as_str();
    link::check_name("create bridge", name)?;
    let addresses =
        options.addresses.iter().map(|text| Cidr::parse("create bridge", text)).collect::<Result<Vec<_>>>()?;
    let mut socket = Socket::route()?;
    let created = match socket.run(vec![create_message(name, &addresses)]) {
        Err(error) if error.is(Errno::EXIST) => false,
        result => result.map(|()| true)?,
    };
    let Some(found) = link::find(&mut socket, name)? else {
        return Err(NetError::System {
            op: "create bridge",
            object: name.into(),
            errno: Errno::NODEV,
            detail: String::new(),
        });
    };
    if found.kind != "bridge" {
        let reason = format!("the link '{name}' exists and is not a bridge");
        return Err(NetError::Conflict { op: "create bridge", object: name.into(), errno: Errno::EXIST, reason });
    }
    let ours = created || found.alias == OURS;
    let ipv6 = addresses.iter().any(|cidr| cidr.address.is_ipv6());
    if ours || ipv6 {
        link::set_ipv6(name, ipv6)?;
    }
    // A new one has none: to ask would list those of every device of the host.
    let present = if created { Vec::new() } else { address::list(&mut socket, found.index, name)? };
    let mut messages = changes(&present, found.index, &addresses, ours, name);
    let mut up = link::set_message("set bridge up", name, found.index, true);
    if ours {
        up.nest(IFLA_LINKINFO, |info| {
            info.string(IFLA_INFO_KIND, "bridge").nest(IFLA_INFO_DATA, settings);
        });
    }
    if let Some(mtu) = options.mtu.filter(|mtu| *mtu > 0) {
        up.number(IFLA_MTU, mtu);
    }
    if created {
        up.string(IFLA_IFALIAS, OURS);
    }
    messages.push(up);
    socket.run(messages).map(|()| created)
}

fn settings(data: &mut Attrs) {
    // Without the spanning tree protocol a port forwards at once; snooping only delays traffic on so small a segment.
    data.number(IFLA_BR_STP_STATE, 0).attr(IFLA_BR_MCAST_SNOOPING, &[0]);
}

fn create_message(name: &str, addresses: &[Cidr]) -> Message {
    let mut message = link::create_message("create bridge", name, "bridge", settings);
    // A bridge without an address of its own takes its lowest port's, which changes as containers come and go and
    // leaves the others with a stale ARP entry for their gateway.
    let bytes = addresses.first().map_or_else(|| random().to_vec(), |cidr| octets(cidr.address));
    let mut mac = vec![0x02, 0x42];
    mac.extend_from_slice(&bytes[bytes.len() - 4..]);
    message.attr(IFLA_ADDRESS, &mac);
    message
}

fn random() -> [u8; 4] {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(0) as u32).to_ne_bytes()
}

/// The messages that give the bridge its addresses and, when it is ours, take others away.
fn changes(present: &[Cidr], index: u32, wanted: &[Cidr], ours: bool, name: &str) -> Vec<Message> {
    let stale = present.iter().filter(|other| ours && !wanted.contains(other));
    let mut messages: Vec<_> = stale.map(|other| address::remove_message(index, *other, name)).collect();
    let missing = wanted.iter().filter(|cidr| !present.contains(cidr));
    messages.extend(missing.map(|cidr| address::add_message(index, *cidr, name)));
    messages
}
