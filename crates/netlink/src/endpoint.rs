//! A container's attachment to a bridge: both ends of a veth pair, addresses, routes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;
use serde::Deserialize;

use crate::address::{self, Cidr, parse_ip, parse_mac};
use crate::advertise::{Advertise, Announcement};
use crate::child::{self, ChildKind, ChildOptions, delete_child};
use crate::error::{NetError, Result, system};
use crate::limits;
use crate::link::{self, IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_MTU, IFLA_NET_NS_FD, Link};
use crate::message::Message;
use crate::netns::in_netns;
use crate::route;
use crate::socket::Socket;
use crate::sysctl;
use crate::trunk;

const OP: &str = "create endpoint";

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointOptions {
    pub bridge: String,
    /// Containers on it do not talk to each other.
    #[serde(default)]
    pub isolated: bool,
    pub host_name: String,
    pub container_name: String,
    pub mac: String,
    /// With prefix lengths: one of each family that the network has.
    pub addresses: Vec<String>,
    /// Where the default routes lead, `0.0.0.0` and `::` for the device alone; empty when another endpoint has them.
    #[serde(default)]
    pub gateways: Vec<String>,
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Of this device, set last.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    #[serde(default)]
    pub advertise: Option<Advertise>,
}

struct Plan<'a> {
    options: &'a EndpointOptions,
    mac: [u8; 6],
    addresses: Vec<Cidr>,
    gateways: Vec<IpAddr>,
    mtu: Option<u32>,
}

/// Kind `conflict` when the host's end cannot have its name because another link has it. Leaves nothing behind
/// on failure. On a bridge without a free port the container shares one: it has no end on the host then.
pub fn create_endpoint(options: &EndpointOptions, netns: BorrowedFd<'_>) -> Result<()> {
    for name in [&options.bridge, &options.host_name, &options.container_name] {
        link::check_name(OP, name)?;
    }
    let plan = Plan {
        options,
        mac: parse_mac(OP, &options.mac)?,
        addresses: options.addresses.iter().map(|text| Cidr::parse(OP, text)).collect::<Result<_>>()?,
        gateways: parse_gateways(OP, &options.gateways)?,
        mtu: options.mtu.filter(|mtu| *mtu > 0),
    };
    let mut host = Socket::route()?;
    let bridge = link::index_of(&mut host, &options.bridge)?;
    match host.run(vec![pair_message(&plan, bridge, netns)]) {
        Err(error) if error.is(Errno::XFULL) => return share_port(&plan, &mut host, bridge, netns),
        result => result?,
    }
    configure(&plan, &mut host, bridge, netns).inspect_err(|_| {
        // The failure that counts is the first; deleting one end deletes the other.
        let _ = link::delete_link(&options.host_name);
    })
}

/// The bridge has no port left.
fn share_port(plan: &Plan, host: &mut Socket, bridge: u32, netns: BorrowedFd<'_>) -> Result<()> {
    let EndpointOptions { bridge: name, container_name, isolated, .. } = plan.options;
    let Some(parent) = trunk::device(host, bridge)? else {
        let reason = format!(
            "the bridge '{name}' has 1023 ports, the most that Linux allows on one, and no containers of ours to share \
             one with: connect further ones to another network"
        );
        return Err(NetError::Conflict { op: OP, object: name.into(), errno: Errno::XFULL, reason });
    };
    let options = ChildOptions {
        kind: ChildKind::Macvlan,
        parent,
        mode: if *isolated { "private" } else { "bridge" }.into(),
        flag: String::new(),
        container_name: container_name.clone(),
        mac: plan.options.mac.clone(),
        addresses: Vec::new(),
        gateways: Vec::new(),
        mtu: plan.mtu,
        sysctls: BTreeMap::new(),
        advertise: None,
    };
    child::create_device(&options, host, netns)?;
    finish(plan, netns).inspect_err(|_| {
        let _ = delete_child(netns, container_name);
    })
}

/// One message makes both ends where they belong. Moving an end into its namespace afterwards would wait for an RCU grace
/// period with the kernel's network lock held, 20 ms and more.
fn pair_message(plan: &Plan, bridge: u32, netns: BorrowedFd<'_>) -> Message {
    let mut message = link::pair_message("create veth", &plan.options.host_name, |peer| {
        peer.string(IFLA_IFNAME, &plan.options.container_name);
        peer.attr(IFLA_ADDRESS, &plan.mac).attr(IFLA_NET_NS_FD, &netns.as_fd().as_raw_fd().to_ne_bytes());
        if let Some(mtu) = plan.mtu {
            peer.number(IFLA_MTU, mtu);
        }
    });
    message.number(IFLA_MASTER, bridge);
    if let Some(mtu) = plan.mtu {
        message.number(IFLA_MTU, mtu);
    }
    message
}

fn configure(plan: &Plan, host: &mut Socket, bridge: u32, netns: BorrowedFd<'_>) -> Result<()> {
    let name = plan.options.host_name.as_str();
    let link = link::find(host, name)?.ok_or_else(|| system(OP, name)(Errno::NODEV))?;
    let mut up = link::set_message("set veth up", name, link.index, true);
    link::hairpin_port(&mut up);
    let mute = link.ipv6.is_some_and(|on| on).then(|| link::mute_message(name, link.index));
    host.run(mute.into_iter().chain([up]).collect())?;
    limits::raise(link.port);
    trunk::prepare(host, bridge, link.port, plan.mtu)?;
    finish(plan, netns)
}

/// The container's end.
fn finish(plan: &Plan, netns: BorrowedFd<'_>) -> Result<()> {
    let EndpointOptions { container_name, host_name, sysctls, advertise, .. } = plan.options;
    let announcement = in_netns(netns, || {
        let link = bring_up(container_name, &plan.addresses, &plan.gateways)?;
        sysctl::write(sysctls)?;
        Announcement::of(advertise.as_ref(), &link, &plan.addresses)
    })?;
    announcement.map_or(Ok(()), |one| one.start(Some(host_name)))
}

/// Addresses, link up and default routes, in one go: the kernel takes them in this order.
pub fn bring_up(name: &str, addresses: &[Cidr], gateways: &[IpAddr]) -> Result<Link> {
    let mut socket = Socket::route()?;
    let link = link::find(&mut socket, name)?.ok_or_else(|| system(OP, name)(Errno::NODEV))?;
    let ipv6 = addresses.iter().any(|cidr| cidr.address.is_ipv6());
    // It is born without, unless the container's default is another.
    if ipv6 || link.ipv6 == Some(true) {
        link::set_ipv6(name, ipv6)?;
    }
    let index = link.index;
    let mut messages: Vec<_> = addresses.iter().map(|cidr| address::add_message(index, *cidr, name)).collect();
    messages.push(link::set_message("set link up", name, index, true));
    messages.extend(gateways.iter().map(|gateway| route::default_message(index, *gateway, name)));
    socket.run(messages)?;
    Ok(link)
}

pub fn parse_gateways(op: &'static str, texts: &[String]) -> Result<Vec<IpAddr>> {
    texts.iter().map(|text| parse_ip(op, text)).collect()
}

/// What leads out by one device.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceRoutes {
    pub device: String,
    /// At most one of each family.
    pub gateways: Vec<String>,
}

/// Makes these the default routes, in place of whichever were: an endpoint has come or gone.
pub fn set_default_routes(netns: BorrowedFd<'_>, routes: &[DeviceRoutes]) -> Result<()> {
    let op = "set default route";
    in_netns(netns, || {
        let mut socket = Socket::route()?;
        let mut messages = Vec::new();
        for DeviceRoutes { device, gateways } in routes {
            link::check_name(op, device)?;
            let index = link::index_of(&mut socket, device)?;
            let gateways = parse_gateways(op, gateways)?;
            messages.extend(gateways.into_iter().map(|gateway| route::default_message(index, gateway, device)));
        }
        route::remove_defaults(&mut socket)?;
        socket.run(messages)
    })
}
