//! A device of the host is given to another network namespace: its attributes stay, and so do the addresses that are not
//! the place's.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::address::{self, Cidr};
use crate::error::{NetError, Result, system};
use crate::link::{self, IFLA_IFNAME, IFLA_NET_NS_FD};
use crate::message::{Message, attributes, u32_at};
use crate::netns::in_netns;
use crate::socket::Socket;

const OP: &str = "move network device";
const IFADDRMSG_LEN: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
const RT_SCOPE_UNIVERSE: u8 = 0;

/// Moves `name` of the calling thread's namespace into `netns`, where it is called `new_name` and is set up. Kind `notFound`
/// without the device, `conflict` where the name is taken; the device is then as it was. Addresses that an administrator has
/// given and that are valid everywhere go with it; those that routers and DHCP have given do not.
pub fn hand_over_link(name: &str, new_name: &str, netns: BorrowedFd<'_>) -> Result<()> {
    let mut host = Socket::route()?;
    let index = link::index_of(&mut host, name).map_err(|error| match error.is(Errno::NODEV) {
        true => system(OP, name)(Errno::NODEV),
        false => error,
    })?;
    // before the kernel takes it down, by which it loses those of IPv6
    let addresses = lasting_addresses(&mut host, index, name)?;
    in_netns(netns, || {
        // the kernel moves first and names afterwards
        let taken = link::find(&mut Socket::route()?, new_name)?.is_some();
        if taken { Err(taken_there(name, new_name)) } else { Ok(()) }
    })?;
    let mut message = Message::new(libc::RTM_NEWLINK, 0, OP, name);
    message.put(&link::header(index, false)).string(IFLA_IFNAME, new_name);
    message.attr(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
    host.run(vec![message])?;
    in_netns(netns, || {
        let mut inside = Socket::route()?;
        // its index may be another's there
        let index = link::index_of(&mut inside, new_name)?;
        let given = addresses.iter().map(|cidr| address::add_message(index, *cidr, new_name));
        inside.run(given.chain([link::set_message("set link up", new_name, index, true)]).collect())
    })
}

fn taken_there(name: &str, new_name: &str) -> NetError {
    let reason = format!("{OP} '{name}': the container's network namespace has a device '{new_name}' already");
    NetError::Conflict { op: OP, object: name.into(), errno: Errno::EXIST, reason }
}

fn lasting_addresses(socket: &mut Socket, index: u32, object: &str) -> Result<Vec<Cidr>> {
    let mut message = Message::new(libc::RTM_GETADDR, 0, "list addresses", object);
    message.put(&[libc::AF_UNSPEC as u8, 0, 0, 0, 0, 0, 0, 0]);
    let replies = socket.dump(message)?;
    Ok(replies.iter().filter_map(|reply| lasting_address(&reply.payload, index)).collect())
}

/// `struct ifaddrmsg` { family, prefix, flags, scope: u8; index: u32 } and its attributes.
fn lasting_address(payload: &[u8], of: u32) -> Option<Cidr> {
    let get = |wanted| attributes(payload, IFADDRMSG_LEN).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let [_, prefix, flags, scope, ..] = *payload else { return None };
    let flags = get(IFA_FLAGS).and_then(|value| u32_at(value, 0)).unwrap_or(flags.into());
    if u32_at(payload, 4) != Some(of) || scope != RT_SCOPE_UNIVERSE || flags & IFA_F_PERMANENT == 0 {
        return None;
    }
    let address = address::from_octets(get(IFA_LOCAL).or_else(|| get(IFA_ADDRESS))?)?;
    Some(Cidr { address, prefix })
}
