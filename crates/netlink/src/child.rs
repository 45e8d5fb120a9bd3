//! A container's attachment to a device of the host without a bridge: macvlan and ipvlan.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use serde::Deserialize;

use crate::address::{Cidr, parse_mac};
use crate::advertise::{Advertise, Announcement};
use crate::endpoint::{bring_up, parse_gateways};
use crate::error::{NetError, Result, invalid};
use crate::link::{
    self, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO, IFLA_MTU, IFLA_NET_NS_FD,
};
use crate::message::Message;
use crate::netns::in_netns;
use crate::socket::Socket;
use crate::sysctl;

const MACVLAN_MODE: u16 = 1;
const IPVLAN_MODE: u16 = 1;
const IPVLAN_FLAGS: u16 = 2;
const OP: &str = "create endpoint";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChildKind {
    Macvlan,
    Ipvlan,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChildOptions {
    pub kind: ChildKind,
    /// The host's device.
    pub parent: String,
    /// macvlan: bridge, private, vepa, passthru; ipvlan: l2, l3, l3s.
    pub mode: String,
    /// ipvlan: bridge, private, vepa.
    #[serde(default)]
    pub flag: String,
    pub container_name: String,
    pub mac: String,
    pub addresses: Vec<String>,
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

/// Kind `notFound` without the parent, `unsupported` where the kernel has no such driver. The device dies with the
/// namespace.
pub fn create_child(options: &ChildOptions, netns: BorrowedFd<'_>) -> Result<()> {
    for name in [&options.parent, &options.container_name] {
        link::check_name(OP, name)?;
    }
    let addresses = options.addresses.iter().map(|text| Cidr::parse(OP, text)).collect::<Result<Vec<_>>>()?;
    let gateways = parse_gateways(OP, &options.gateways)?;
    let mut host = Socket::route()?;
    create_device(options, &mut host, netns)?;
    let announcement = in_netns(netns, || {
        let link = bring_up(&options.container_name, &addresses, &gateways)?;
        sysctl::write(&options.sysctls)?;
        Announcement::of(options.advertise.as_ref(), &link, &addresses)
    });
    announcement.and_then(|one| one.map_or(Ok(()), |one| one.start(None))).inspect_err(|_| {
        // The failure that counts is the first.
        let _ = delete_child(netns, &options.container_name);
    })
}

/// Neither up nor with an address.
pub fn create_device(options: &ChildOptions, host: &mut Socket, netns: BorrowedFd<'_>) -> Result<()> {
    let parent = link::index_of(host, &options.parent)?;
    host.run(vec![message(options, parent, netns)?]).map_err(|error| explain(error, options))
}

/// Takes a device of a container away, from within.
pub fn delete_child(netns: BorrowedFd<'_>, name: &str) -> Result<()> {
    in_netns(netns, || link::delete_link(name))
}

fn message(options: &ChildOptions, parent: u32, netns: BorrowedFd<'_>) -> Result<Message> {
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let mut message = Message::new(libc::RTM_NEWLINK, flags, OP, options.parent.as_str());
    message.put(&link::header(0, false)).string(IFLA_IFNAME, &options.container_name);
    message.number(IFLA_LINK, parent).attr(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
    if let Some(mtu) = options.mtu.filter(|mtu| *mtu > 0) {
        message.number(IFLA_MTU, mtu);
    }
    let (kind, mode, flag) = numbers(options)?;
    if options.kind == ChildKind::Macvlan {
        message.attr(IFLA_ADDRESS, &parse_mac(OP, &options.mac)?);
    }
    message.nest(IFLA_LINKINFO, |info| {
        info.string(IFLA_INFO_KIND, kind).nest(IFLA_INFO_DATA, |data| {
            if options.kind == ChildKind::Macvlan {
                data.number(MACVLAN_MODE, mode);
            } else {
                data.attr(IPVLAN_MODE, &(mode as u16).to_ne_bytes()).attr(IPVLAN_FLAGS, &flag.to_ne_bytes());
            }
        });
    });
    Ok(message)
}

/// Kind, mode and flags as the kernel counts them.
fn numbers(options: &ChildOptions) -> Result<(&'static str, u32, u16)> {
    let unknown = |what: &str| invalid(OP, what, "not a mode of this driver");
    if options.kind == ChildKind::Macvlan {
        let mode = match options.mode.as_str() {
            "private" => 1,
            "vepa" => 2,
            "bridge" => 4,
            "passthru" => 8,
            other => return Err(unknown(other)),
        };
        return Ok(("macvlan", mode, 0));
    }
    let mode = ["l2", "l3", "l3s"].iter().position(|mode| *mode == options.mode);
    let flag = match options.flag.as_str() {
        "" | "bridge" => 0,
        "private" => 1,
        "vepa" => 2,
        other => return Err(unknown(other)),
    };
    Ok(("ipvlan", mode.ok_or_else(|| unknown(&options.mode))? as u32, flag))
}

fn explain(error: NetError, options: &ChildOptions) -> NetError {
    if !error.is(Errno::OPNOTSUPP) {
        return error;
    }
    let name = if options.kind == ChildKind::Macvlan { "macvlan" } else { "ipvlan" };
    let reason = format!("this kernel has no {name}");
    NetError::Unsupported { op: OP, object: options.parent.clone(), reason }
}
