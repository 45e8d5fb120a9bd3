//! Unsolicited ARP and neighbour advertisements: others may still know an address by the MAC of a container that had it before.
//!
//! One thread sends what is due and ends when nothing is left. The sockets stand in the containers' namespaces and would keep
//! them: an endpoint that is taken away ends its advertisements.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::Deserialize;

use crate::address::Cidr;
use crate::error::{Result, system};
use crate::link::{self, Link};
use crate::socket::Socket;
use crate::sys;

/// A port of a bridge forwards once the kernel's worker has seen that its carrier is on.
const FORWARDS_SOON: Duration = Duration::from_millis(1);
const FORWARDS_AT_LAST: Duration = Duration::from_millis(200);

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const BROADCAST_MAC: [u8; 6] = [0xff; 6];
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Advertise {
    /// What `stop_advertising` knows it by: for a port of a bridge the name of the host's end.
    pub announcer: String,
    /// 0 for none.
    pub count: u32,
    pub interval_ms: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Frame {
    /// EtherType.
    protocol: u16,
    destination: [u8; 6],
    payload: Vec<u8>,
}

/// What a container's device says, from within its namespace.
pub struct Announcement {
    socket: OwnedFd,
    index: u32,
    frames: Vec<Frame>,
    options: Advertise,
}

impl Announcement {
    /// In the calling thread's network namespace. None where there is nothing to say.
    pub fn of(options: Option<&Advertise>, link: &Link, addresses: &[Cidr]) -> Result<Option<Self>> {
        let (Some(options), Some(mac)) = (options, link.mac.filter(|_| link.resolves)) else { return Ok(None) };
        if options.count == 0 || addresses.is_empty() {
            return Ok(None);
        }
        // Of no protocol: it only sends.
        let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .map_err(system("socket", "packet"))?;
        let frame = |cidr: &Cidr| match cidr.address {
            IpAddr::V4(address) => arp(mac, address),
            IpAddr::V6(address) => neighbour_advertisement(mac, address),
        };
        let frames = addresses.iter().map(frame).collect();
        Ok(Some(Self { socket, index: link.index, frames, options: options.clone() }))
    }

    /// `port`: the host's end of a port of a bridge, which is to forward first.
    pub fn start(self, port: Option<&str>) -> Result<()> {
        let now = Instant::now();
        let active = Arc::new(());
        let mut queue = queue();
        if !queue.is_served {
            let thread = std::thread::Builder::new().name("advertise".into()).stack_size(256 * 1024).spawn(serve);
            let failed =
                |error| system("start thread", "advertise")(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN));
            thread.map_err(failed)?;
            queue.is_served = true;
        }
        queue.active.insert(self.options.announcer.clone(), active.clone());
        queue.pending.push(Pending {
            active: Arc::downgrade(&active),
            due: now,
            port: port.map(|name| (name.into(), now + FORWARDS_AT_LAST)),
            left: self.options.count,
            announcement: self,
        });
        CHANGED.notify_one();
        Ok(())
    }

    /// False when the device is gone.
    fn send(&self) -> bool {
        let sent = |frame: &Frame| {
            sys::send_frame(&self.socket, self.index, frame.protocol, frame.destination, &frame.payload)
        };
        // A full queue loses one, as it may lose any.
        !self.frames.iter().any(|frame| matches!(sent(frame), Err(Errno::NXIO | Errno::NODEV)))
    }
}

struct Pending {
    announcement: Announcement,
    /// Gone once it is to end.
    active: Weak<()>,
    due: Instant,
    /// The host's end and until when its port is waited for; none from then on.
    port: Option<(String, Instant)>,
    left: u32,
}

struct Queue {
    /// By announcer.
    active: BTreeMap<String, Arc<()>>,
    pending: Vec<Pending>,
    is_served: bool,
}

/// Never held during a system call: Node's own thread asks for it.
static QUEUE: Mutex<Queue> = Mutex::new(Queue { active: BTreeMap::new(), pending: Vec::new(), is_served: false });
static CHANGED: Condvar = Condvar::new();

fn queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The endpoint goes.
pub fn stop_advertising(announcer: &str) {
    if queue().active.remove(announcer).is_some() {
        CHANGED.notify_one();
    }
}

fn serve() {
    let mut host = None;
    let mut held = queue();
    loop {
        let Queue { pending, is_served, .. } = &mut *held;
        let mut over: Vec<_> = pending.extract_if(.., |one| one.active.strong_count() == 0).collect();
        let now = Instant::now();
        let due: Vec<_> = pending.extract_if(.., |one| one.due <= now).collect();
        if due.is_empty() && over.is_empty() {
            let Some(next) = pending.iter().map(|one| one.due).min() else {
                *is_served = false;
                return;
            };
            held = CHANGED.wait_timeout(held, next - now).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        drop(held);
        let mut further = Vec::new();
        for mut one in due {
            let list = if step(&mut one, &mut host) { &mut further } else { &mut over };
            list.push(one);
        }
        let ended: Vec<_> =
            over.iter().map(|one| (one.announcement.options.announcer.clone(), one.active.clone())).collect();
        if !over.is_empty() {
            // To close one waits for an RCU grace period, which others' turns are not to wait for.
            let _ = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || drop(over));
        }
        held = queue();
        held.pending.extend(further);
        for (announcer, active) in ended {
            // It may have begun anew.
            if active.strong_count() > 0 {
                held.active.remove(&announcer);
            }
        }
    }
}

/// False when all is said.
fn step(pending: &mut Pending, host: &mut Option<Socket>) -> bool {
    let now = Instant::now();
    if pending.port.as_ref().is_some_and(|(name, last)| now < *last && !forwards(name, host)) {
        pending.due = now + FORWARDS_SOON;
        return true;
    }
    pending.port = None;
    pending.left -= 1;
    pending.due = now + Duration::from_millis(pending.announcement.options.interval_ms);
    pending.announcement.send() && pending.left > 0
}

fn forwards(name: &str, host: &mut Option<Socket>) -> bool {
    let mut ask = || -> Result<bool> {
        let socket = match host {
            Some(socket) => socket,
            None => host.insert(Socket::route()?),
        };
        Ok(link::find(socket, name)?.is_none_or(|link| link.forwards))
    };
    // The advertisement itself will meet what is wrong.
    ask().unwrap_or(true)
}

/// A request that asks for its own sender: RFC 5227, "ARP announcement".
fn arp(mac: [u8; 6], address: Ipv4Addr) -> Frame {
    let mut payload = vec![0, 1, 8, 0, 6, 4, 0, 1];
    payload.extend(mac);
    payload.extend(address.octets());
    payload.extend([0; 6]);
    payload.extend(address.octets());
    Frame { protocol: libc::ETH_P_ARP as u16, destination: BROADCAST_MAC, payload }
}

/// RFC 4861, 4.4: with its IPv6 header, since a packet socket adds the frame's alone.
fn neighbour_advertisement(mac: [u8; 6], address: Ipv6Addr) -> Frame {
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(address.octets());
    message.extend([TARGET_LINK_LAYER_ADDRESS, 1]);
    message.extend(mac);
    let length = (message.len() as u16).to_be_bytes();
    let next = libc::IPPROTO_ICMPV6 as u8;
    let ends = [address.octets(), ALL_NODES.octets()].concat();
    let pseudo = [&ends[..], &[0, 0], &length, &[0, 0, 0, next], &message].concat();
    message[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    // Version 6; a hop limit of 255 says that no router has passed it on.
    let payload = [&[0x60, 0, 0, 0], &length[..], &[next, 255], &ends, &message].concat();
    Frame { protocol: libc::ETH_P_IPV6 as u16, destination: ALL_NODES_MAC, payload }
}

/// Of the Internet, over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0x42, 0xac, 0x11, 0, 2];

    #[test]
    fn an_announcement_asks_for_its_sender() {
        let frame = arp(MAC, Ipv4Addr::new(10, 1, 2, 3));
        let wanted = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0x42, 0xac, 0x11, 0, 2, 10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 10, 1, 2, 3];
        assert_eq!((frame.protocol, frame.destination, &frame.payload[..]), (0x806, BROADCAST_MAC, &wanted[..]));
    }

    #[test]
    fn a_neighbour_advertisement_sums_up_to_nothing() {
        let frame = neighbour_advertisement(MAC, "fd00::2".parse().unwrap());
        assert_eq!((frame.payload.len(), frame.payload[6], frame.payload[7]), (72, 58, 255));
        let (header, message) = frame.payload.split_at(40);
        let pseudo = [&header[8..40], &[0, 0, 0, 32, 0, 0, 0, 58], message].concat();
        assert_eq!(checksum(&pseudo), 0);
        assert_eq!(message[26..], MAC);
    }
}
