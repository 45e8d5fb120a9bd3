//! Netlink: one socket layer, links and addresses, nftables.
//!
//! Import direction: `napi` → topic modules → `socket`, `message` → `sys`, never upward.

mod address;
mod advertise;
mod bridge;
mod child;
mod endpoint;
mod error;
mod hand_over;
mod limits;
mod link;
mod message;
mod netns;
mod nft;
mod parent;
mod ports;
mod route;
mod socket;
mod sys;
mod sysctl;
mod trunk;

pub use address::{Family, link_addresses};
pub use advertise::{Advertise, stop_advertising};
pub use bridge::{BridgeOptions, ensure_bridge};
pub use child::{ChildKind, ChildOptions, create_child, delete_child};
pub use endpoint::{DeviceRoutes, EndpointOptions, create_endpoint, set_default_routes};
pub use error::{NetError, Result};
pub use hand_over::hand_over_link;
pub use link::{delete_link, delete_own_link};
pub use netns::{create_netns, in_netns};
pub use nft::firewall::Firewall;
pub use nft::resolver::{ResolverSockets, create_resolver_sockets};
pub use nft::ruleset::{BridgeRules, FirewallMode, GatewayMode, Proto, PublishedPort, Ruleset, RulesetReport};
pub use nft::watch::{Change, Watch};
pub use parent::ensure_parent;
pub use ports::{PortRequest, ReservedPort, reserve_ports};
pub use route::{RouteInfo, enable_forwarding, list_routes};
pub use sysctl::set_sysctls;

#[cfg(feature = "napi")]
pub mod napi;
