//! Links: looked up, made, changed, deleted.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::advertise::stop_advertising;
use crate::error::{NetError, Result, invalid, system};
use crate::message::{Attrs, Message, attribute, text, u16_at, u32_at};
use crate::socket::{Event, Socket};
use crate::trunk;

pub const IFLA_ADDRESS: u16 = 1;
pub const IFLA_IFNAME: u16 = 3;
pub const IFLA_MTU: u16 = 4;
pub const IFLA_LINK: u16 = 5;
pub const IFLA_MASTER: u16 = 10;
pub const IFLA_LINKINFO: u16 = 18;
pub const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
pub const IFLA_IFALIAS: u16 = 20;
pub const IFLA_INFO_KIND: u16 = 1;
pub const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_INET6_CONF: u16 = 2;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const DEVCONF_DISABLE_IPV6: usize = 26;
/// Counters are most of what is told of a link.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_NO: u16 = 18;
const BR_STATE_FORWARDING: u8 = 3;
pub const IFINFOMSG_LEN: usize = 16;
const IFNAMSIZ: usize = 16;
/// Alias of devices of the host that are made here: of an administrator's own none is deleted, and no address is taken away.
pub const OURS: &str = "caisson";

/// Names end up in paths below /proc/sys and in rules: nothing but what a device may be called.
pub fn check_name(op: &'static str, name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'@');
    let valid = !name.is_empty() && name.len() < IFNAMSIZ && name.bytes().all(plain) && name != "." && name != "..";
    if valid { Ok(()) } else { Err(invalid(op, name, "not a name that a network device can have")) }
}

/// `struct ifinfomsg`; `up`: with IFF_UP set.
pub fn header(index: u32, up: bool) -> [u8; IFINFOMSG_LEN] {
    header_with(index, if up { libc::IFF_UP } else { 0 })
}

fn header_with(index: u32, flags: libc::c_int) -> [u8; IFINFOMSG_LEN] {
    let mut bytes = [0; IFINFOMSG_LEN];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

pub fn create_message(op: &'static str, name: &str, kind: &str, fill: impl FnOnce(&mut Attrs)) -> Message {
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let mut message = Message::new(libc::RTM_NEWLINK, flags, op, name);
    message.put(&header(0, false)).string(IFLA_IFNAME, name);
    message.nest(IFLA_LINKINFO, |info| {
        info.string(IFLA_INFO_KIND, kind).nest(IFLA_INFO_DATA, fill);
    });
    message
}

const VETH_INFO_PEER: u16 = 1;

/// Both ends of a veth pair in one message, the nearer one by its name. The number of queues is said, since the kernel
/// otherwise makes one for each processor, uses one of them, and waits for a grace period when it puts the others aside.
pub fn pair_message(op: &'static str, name: &str, fill_peer: impl FnOnce(&mut Attrs)) -> Message {
    let mut message = create_message(op, name, "veth", |data| {
        data.nest(VETH_INFO_PEER, |peer| {
            peer.put(&header(0, false)).number(IFLA_NUM_TX_QUEUES, 1).number(IFLA_NUM_RX_QUEUES, 1);
            fill_peer(peer);
        });
    });
    message.number(IFLA_NUM_TX_QUEUES, 1).number(IFLA_NUM_RX_QUEUES, 1);
    message
}

/// A port of a bridge: what came by it may leave by it, as a container that reaches its own published port.
pub fn hairpin_port(message: &mut Message) {
    message.nest(IFLA_LINKINFO, |info| {
        info.string(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, |port| {
            port.attr(IFLA_BRPORT_MODE, &[1]);
        });
    });
}

/// Changes a link that exists, named by its index.
pub fn set_message(op: &'static str, name: &str, index: u32, up: bool) -> Message {
    flags_message(op, name, index, if up { libc::IFF_UP } else { 0 })
}

/// With these flags set; others stay.
pub fn flags_message(op: &'static str, name: &str, index: u32, flags: libc::c_int) -> Message {
    let mut message = Message::new(libc::RTM_NEWLINK, 0, op, name);
    message.put(&header_with(index, flags));
    message
}

/// What is known of a link.
pub struct Link {
    pub index: u32,
    /// None where it is not an Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Its neighbours ask for addresses.
    pub resolves: bool,
    pub kind: String,
    pub alias: String,
    /// As port of a bridge.
    pub forwards: bool,
    /// Its number as such; 0 where it is none.
    pub port: u16,
    /// Whether IPv6 is on; none where there is none.
    pub ipv6: Option<bool>,
}

pub fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let mut message = Message::new(libc::RTM_GETLINK, 0, "look up link", name);
    message.put(&header(0, false)).string(IFLA_IFNAME, name).number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    let answers = socket.lookup(vec![message], Errno::NODEV)?;
    Ok(answers.into_iter().flatten().next().map(|reply| {
        let info = attribute(&reply.payload, IFINFOMSG_LEN, IFLA_LINKINFO).unwrap_or_default();
        let alias = attribute(&reply.payload, IFINFOMSG_LEN, IFLA_IFALIAS).unwrap_or_default();
        let port = attribute(info, 0, IFLA_INFO_SLAVE_DATA).unwrap_or_default();
        Link {
            index: u32_at(&reply.payload, 4).unwrap_or(0),
            mac: attribute(&reply.payload, IFINFOMSG_LEN, IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
            resolves: u32_at(&reply.payload, 8).unwrap_or(0) & libc::IFF_NOARP.cast_unsigned() == 0,
            kind: text(attribute(info, 0, IFLA_INFO_KIND).unwrap_or_default()),
            alias: text(alias),
            forwards: attribute(port, 0, IFLA_BRPORT_STATE) == Some(&[BR_STATE_FORWARDING]),
            port: attribute(port, 0, IFLA_BRPORT_NO).and_then(|value| u16_at(value, 0)).unwrap_or(0),
            ipv6: ipv6_of(&reply.payload),
        }
    }))
}

/// The kernel tells it of every link.
fn ipv6_of(payload: &[u8]) -> Option<bool> {
    let families = attribute(payload, IFINFOMSG_LEN, IFLA_AF_SPEC)?;
    let settings = attribute(attribute(families, 0, libc::AF_INET6 as u16)?, 0, IFLA_INET6_CONF)?;
    u32_at(settings, DEVCONF_DISABLE_IPV6 * 4).map(|disabled| disabled == 0)
}

/// To be sent before the link is up: it never has an IPv6 address of its own, and says nothing in that family. For what only
/// passes frames on, in place of `set_ipv6`: to find the file of a setting the kernel goes through the directories of every
/// network namespace that has been looked into.
pub fn mute_message(name: &str, index: u32) -> Message {
    let mut message = Message::new(libc::RTM_NEWLINK, 0, "set address generation", name);
    message.put(&header_with(index, 0));
    message.nest(IFLA_AF_SPEC, |families| {
        families.nest(libc::AF_INET6 as u16, |ipv6| {
            ipv6.attr(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
        });
    });
    message
}

pub fn index_of(socket: &mut Socket, name: &str) -> Result<u32> {
    let link = find(socket, name)?;
    link.map(|link| link.index).ok_or_else(|| system("look up link", name)(Errno::NODEV))
}

/// Kind `notFound` when there is none. Answers once the kernel has begun, with its network lock held until nobody finds the
/// link any more. It goes on by waiting for those who may still read the link's memory: 15 ms and more that nobody sees.
pub fn delete_link(name: &str) -> Result<()> {
    check_name("delete link", name)?;
    stop_advertising(name);
    let mut socket = Socket::route()?;
    let Link { index, kind, .. } = find(&mut socket, name)?.ok_or_else(|| system("delete link", name)(Errno::NODEV))?;
    let mut events = Socket::link_events()?;
    let mut message = Message::new(libc::RTM_DELLINK, 0, "delete link", name);
    message.put(&header(index, false));
    let (ended, running) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(system("pipe", name))?;
    let work = move || {
        // Closed with the thread, which whoever waits for its end sees.
        let _running = running;
        if kind == "bridge" {
            socket.lookup(vec![trunk::remove_message(index)], Errno::NODEV)?;
        }
        socket.run(vec![message])
    };
    let builder = std::thread::Builder::new().name("delete-link".into()).stack_size(256 * 1024);
    let failed = |error| system("start thread", name)(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN));
    let thread = builder.spawn(work).map_err(failed)?;
    loop {
        let mut ready = [PollFd::new(&events, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
        match poll(&mut ready, None) {
            Err(Errno::INTR) => continue,
            result => result.map_err(system("poll", name))?,
        };
        if !ready[1].revents().is_empty() {
            return thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        if events.events()?.is_some_and(|events| events.iter().any(|event| goes_down(event, index))) {
            return Ok(());
        }
    }
}

/// Deletes it when it was made here, and leaves what is somebody else's.
pub fn delete_own_link(name: &str) -> Result<()> {
    let found = find(&mut Socket::route()?, name)?;
    if found.is_some_and(|link| link.alias == OURS) { delete_link(name) } else { Ok(()) }
}

/// A link that is deleted is taken down first.
fn goes_down(event: &Event, index: u32) -> bool {
    u32_at(&event.payload, 4) == Some(index)
        && u32_at(&event.payload, 8).is_some_and(|flags| flags & libc::IFF_UP as u32 == 0)
}

/// Switches IPv6 off or on for one link, before it is up, in the calling thread's network namespace. Our addresses are
/// given, so the link neither asks its neighbours about them nor takes others from a router.
pub fn set_ipv6(name: &str, enabled: bool) -> Result<()> {
    // Looked up once: it takes the longer the more network namespaces there are.
    let path = format!("/proc/sys/net/ipv6/conf/{name}");
    let settings = match open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) if !enabled => return Ok(()),
        Err(Errno::NOENT) => {
            return Err(NetError::Unsupported {
                op: "enable IPv6",
                object: name.into(),
                reason: "this kernel has no IPv6".into(),
            });
        }
        result => result.map_err(system("open", path.as_str()))?,
    };
    let wanted: &[_] = match enabled {
        false => &[("disable_ipv6", b"1")],
        true => &[("disable_ipv6", b"0"), ("accept_dad", b"0"), ("accept_ra", b"0")],
    };
    for (setting, value) in wanted {
        write_setting(&settings, setting, value).map_err(system("write", format!("{path}/{setting}")))?;
    }
    Ok(())
}

fn write_setting(settings: &OwnedFd, name: &str, value: &[u8; 1]) -> rustix::io::Result<()> {
    let file = |access| openat(settings, name, access | OFlags::CLOEXEC, Mode::empty());
    let mut present = [0; 2];
    // Reading costs nothing; a write takes the kernel's network lock.
    rustix::io::read(file(OFlags::RDONLY)?, &mut present)?;
    if present == [value[0], b'\n'] { Ok(()) } else { rustix::io::write(file(OFlags::WRONLY)?, value).map(|_| ()) }
}
