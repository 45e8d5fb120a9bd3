//! The table: which traffic may reach a container, and what its addresses are translated to.
//!
//! ```text
//! prerouting, output:  to an address of this host        → publish: look the port up, translate the destination
//! expected:            published, or an answer           → marked, for the routes of `lock` (tables that can be flushed)
//! forward:             within a bridge that allows it    → allow
//!                      in or out of an internal bridge   → drop
//!                      out to a bridge of ours           → inbound: established, published, open to all (direct);
//!                                                          else drop
//!                      in from a bridge of ours          → allow
//! allow:               marked, for foreign chains that drop; accept
//! begin, each flow's first packet: published, or to a published port of a bridge of ours → its address is noted (`reached`)
//! postrouting:         published, back into its own net  → masquerade (hairpin)
//!                      within its own net                → as it is
//!                      in from a bridge that asks for it → the source address that it names, or masquerade
//! ```
//! The rules never change: a bridge or a port is an element of sets. The address of a container is closed to everything
//! that is neither an answer nor translated by a published port, so a neighbour that routes to it directly gets nowhere,
//! whether the port is published or not.

use serde::{Deserialize, Serialize};

use super::abi::*;
use super::batch::{Hook, Set, Table};
use super::bridges::{
    self, BRIDGES, INTERNAL, MASQUERADED, PINGABLE, ROUTED, SIBLINGS, SOURCES, SOURCES_V6, SUBNETS, SUBNETS_V6,
    TRUSTED, UNPROTECTED,
};
use super::elements::{self, BY_ADDRESS, BY_ADDRESS_V6, BY_PORT, BY_PORT_V6, DIRECT, DIRECT_V6};
use super::expr::Expressions;
use super::reached::{self, REACHED, REACHED_V6};
use crate::address::Family;
use crate::error::Result;
use crate::message::Message;

const PUBLISH: &str = "publish";
const INBOUND: &str = "inbound";
const FORWARD: &str = "forward";
const ALLOW: &str = "allow";
/// Published ports by the container's own address.
const UNTRANSLATED: &str = "untranslated";
/// Their presence says that it was we who switched forwarding on, also to the next process.
pub const FOREIGN: [(Family, &str); 2] = [(Family::V4, "foreign"), (Family::V6, "foreign_v6")];
const PREROUTING: &str = "prerouting";
const EXPECTED: &str = "expected";
const OUTPUT: &str = "output";
const BEGIN: &str = "begin";
const POSTROUTING: &str = "postrouting";
/// Of the chains for addresses' translation, which see the first packet of a flow, the first: who translates ends their turn.
const BEGIN_PRIORITY: i32 = -199;
/// Behind the connection tracking, before others' chains: they see the mark.
const FORWARD_PRIORITY: i32 = -175;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedPort {
    pub owner: String,
    pub proto: Proto,
    pub host_ip: String,
    pub host_port: u16,
    pub container_ip: String,
    pub container_port: u16,
    /// May be reached by the container's own address: from everywhere in a routed network, else from trusted devices.
    #[serde(default)]
    pub direct: bool,
}

/// How a network's addresses are reached from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    #[default]
    Nat,
    /// As `nat`, and every port of a container is open.
    NatUnprotected,
    /// Published ports are open, and nothing is translated.
    Routed,
    /// The host has no address on the bridge.
    Isolated,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BridgeRules {
    pub bridge: String,
    /// One of each family that the network has.
    pub subnets: Vec<String>,
    /// Containers on it may talk to each other.
    pub icc: bool,
    pub masquerade: bool,
    /// Nothing leads in or out but from the host itself.
    #[serde(default)]
    pub internal: bool,
    #[serde(default)]
    pub mode_v4: GatewayMode,
    #[serde(default)]
    pub mode_v6: GatewayMode,
    /// Devices of the host by which published ports are reached at the containers' own addresses.
    #[serde(default)]
    pub trusted: Vec<String>,
    /// They are reached there by every device.
    #[serde(default)]
    pub direct: bool,
    /// Addresses of the host that traffic goes out with, of one family each; what is absent is masqueraded.
    #[serde(default)]
    pub sources: Vec<String>,
}

impl BridgeRules {
    pub fn mode(&self, family: Family) -> GatewayMode {
        if family == Family::V4 { self.mode_v4 } else { self.mode_v6 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirewallMode {
    Open,
    Respect,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ruleset {
    pub table: String,
    pub bridges: Vec<BridgeRules>,
    pub ports: Vec<PublishedPort>,
    pub firewall: FirewallMode,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RulesetReport {
    /// The table is owned and persistent: a foreign flush leaves it alone.
    pub owned: bool,
    /// Foreign chains that drop forwarded traffic, as `family table chain`.
    pub dropped_by: Vec<String>,
    /// The same of iptables-legacy, which nobody but its own program can change.
    pub legacy_dropped_by: Vec<String>,
}

const SETS: [Set; 20] = [
    set(BRIDGES, &[TYPE_IFNAME]),
    set(SIBLINGS, &[TYPE_IFNAME, TYPE_IFNAME]),
    set(INTERNAL, &[TYPE_IFNAME]),
    set(MASQUERADED, &[TYPE_IFNAME, TYPE_NF_PROTO]),
    set(UNPROTECTED, &[TYPE_IFNAME, TYPE_NF_PROTO]),
    set(ROUTED, &[TYPE_IFNAME, TYPE_NF_PROTO]),
    set(PINGABLE, &[TYPE_IFNAME, TYPE_INET_PROTOCOL]),
    set(TRUSTED, &[TYPE_IFNAME, TYPE_IFNAME]),
    set(DIRECT, &[TYPE_IPADDR, TYPE_INET_PROTOCOL, TYPE_INET_SERVICE]),
    set(DIRECT_V6, &[TYPE_IP6ADDR, TYPE_INET_PROTOCOL, TYPE_INET_SERVICE]),
    Set { dynamic: true, ..set(REACHED, &[TYPE_IPADDR]) },
    Set { dynamic: true, ..set(REACHED_V6, &[TYPE_IP6ADDR]) },
    Set { interval: true, ..set(SUBNETS, &[TYPE_IPADDR, TYPE_IFNAME]) },
    Set { interval: true, ..set(SUBNETS_V6, &[TYPE_IP6ADDR, TYPE_IFNAME]) },
    map(SOURCES, &[TYPE_IFNAME], &[TYPE_IPADDR]),
    map(SOURCES_V6, &[TYPE_IFNAME], &[TYPE_IP6ADDR]),
    map(BY_ADDRESS, &[TYPE_IPADDR, TYPE_INET_PROTOCOL, TYPE_INET_SERVICE], &[TYPE_IPADDR, TYPE_INET_SERVICE]),
    map(BY_PORT, &[TYPE_INET_PROTOCOL, TYPE_INET_SERVICE], &[TYPE_IPADDR, TYPE_INET_SERVICE]),
    map(BY_ADDRESS_V6, &[TYPE_IP6ADDR, TYPE_INET_PROTOCOL, TYPE_INET_SERVICE], &[TYPE_IP6ADDR, TYPE_INET_SERVICE]),
    map(BY_PORT_V6, &[TYPE_INET_PROTOCOL, TYPE_INET_SERVICE], &[TYPE_IP6ADDR, TYPE_INET_SERVICE]),
];

const fn set(name: &'static str, key: &'static [u32]) -> Set {
    map(name, key, &[])
}

const fn map(name: &'static str, key: &'static [u32], data: &'static [u32]) -> Set {
    Set { name, key, data, interval: false, dynamic: false }
}

/// What the host, not the user, decides about the table.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    /// It was we who switched forwarding on, of IPv4 and of IPv6.
    pub drop_foreign: [bool; 2],
    /// The table cannot be owned.
    pub locked: bool,
}

/// Everything in the table, in an order that the kernel takes: sets and chains before the rules that name them.
pub fn messages(table: &Table, ruleset: &Ruleset, situation: Situation) -> Result<Vec<Message>> {
    let mut messages: Vec<_> = (1..).zip(&SETS).map(|(id, set)| table.set(set, id)).collect();
    messages.extend(chains(table));
    messages.extend(publish_rules(table));
    messages.extend(forward_rules(table));
    messages.extend(begin_rules(table));
    messages.extend(postrouting_rules(table));
    for ((family, chain), dropped) in FOREIGN.into_iter().zip(situation.drop_foreign) {
        if dropped {
            messages.extend(foreign_rules(table, family, chain));
        }
    }
    if situation.locked {
        messages.extend(expected_rules(table));
    }
    messages.extend(bridges::add_messages(table, &ruleset.bridges)?);
    let ports = elements::elements(&ruleset.ports)?;
    messages.extend(elements::add_messages(table, &ports));
    messages.extend(reached::add_messages(table, &ports)?);
    Ok(messages)
}

fn hook(kind: &'static str, number: u32, priority: i32) -> Hook {
    Hook { kind, number, priority }
}

fn chains(table: &Table) -> Vec<Message> {
    vec![
        table.chain(PUBLISH, None),
        table.chain(INBOUND, None),
        table.chain(UNTRANSLATED, None),
        table.chain(ALLOW, None),
        table.chain(FORWARD, Some(&hook("filter", INET_FORWARD, FORWARD_PRIORITY))),
        table.chain(PREROUTING, Some(&hook("nat", INET_PRE_ROUTING, -100))),
        table.chain(OUTPUT, Some(&hook("nat", INET_LOCAL_OUT, -100))),
        table.chain(BEGIN, Some(&hook("nat", INET_POST_ROUTING, BEGIN_PRIORITY))),
        table.chain(POSTROUTING, Some(&hook("nat", INET_POST_ROUTING, 100))),
    ]
}

/// Forwarding was off before we switched it on: the host does not become a router between its neighbours by that. What
/// one end of is a bridge is left alone: it belongs to an engine or a hypervisor.
fn foreign_rules(table: &Table, family: Family, chain: &str) -> Vec<Message> {
    let drop = Expressions::new().family(family).between_plain_devices().drop();
    vec![
        table.chain(chain, None),
        table.append_rule(FORWARD, &Expressions::new().jump(chain)),
        table.append_rule(chain, &drop),
    ]
}

fn publish_rules(table: &Table) -> Vec<Message> {
    let to_host = || Expressions::new().local_destination();
    // A packet that was sent to loopback can't leave by another device: the socket that reserves the port takes it.
    let from_host = |family| Expressions::new().not_to_loopback(family).local_destination();
    vec![
        table.append_rule(PREROUTING, &to_host().jump(PUBLISH)),
        table.append_rule(OUTPUT, &from_host(Family::V4).jump(PUBLISH)),
        table.append_rule(OUTPUT, &from_host(Family::V6).jump(PUBLISH)),
        table.append_rule(PUBLISH, &Expressions::new().dnat_by_address(Family::V4, BY_ADDRESS)),
        table.append_rule(PUBLISH, &Expressions::new().dnat_by_port(Family::V4, BY_PORT)),
        table.append_rule(PUBLISH, &Expressions::new().dnat_by_address(Family::V6, BY_ADDRESS_V6)),
        table.append_rule(PUBLISH, &Expressions::new().dnat_by_port(Family::V6, BY_PORT_V6)),
    ]
}

fn forward_rules(table: &Table) -> Vec<Message> {
    vec![
        // Within a bridge: seen here only where bridged packets are passed to the IP firewall (br_netfilter).
        table.append_rule(FORWARD, &Expressions::new().devices_in(SIBLINGS).jump(ALLOW)),
        table.append_rule(FORWARD, &Expressions::new().in_device_of(INTERNAL).drop()),
        table.append_rule(FORWARD, &Expressions::new().out_device_of(INTERNAL).drop()),
        table.append_rule(FORWARD, &Expressions::new().out_device_of(BRIDGES).jump(INBOUND)),
        table.append_rule(FORWARD, &Expressions::new().in_device_of(BRIDGES).jump(ALLOW)),
        table.append_rule(INBOUND, &Expressions::new().established().jump(ALLOW)),
        table.append_rule(INBOUND, &Expressions::new().published().jump(ALLOW)),
        table.append_rule(INBOUND, &Expressions::new().out_family_of(UNPROTECTED).jump(ALLOW)),
        table.append_rule(INBOUND, &Expressions::new().out_family_of(ROUTED).jump(UNTRANSLATED)),
        table.append_rule(INBOUND, &Expressions::new().devices_in(TRUSTED).jump(UNTRANSLATED)),
        table.append_rule(INBOUND, &Expressions::new().out_protocol_of(PINGABLE).jump(ALLOW)),
        table.append_rule(INBOUND, &Expressions::new().drop()),
        table.append_rule(UNTRANSLATED, &Expressions::new().destined_in(Family::V4, DIRECT).jump(ALLOW)),
        table.append_rule(UNTRANSLATED, &Expressions::new().destined_in(Family::V6, DIRECT_V6).jump(ALLOW)),
        table.append_rule(ALLOW, &Expressions::new().set_mark(MARK_ALLOWED).accept()),
    ]
}

fn begin_rules(table: &Table) -> Vec<Message> {
    let to_bridge = || Expressions::new().out_device_of(BRIDGES);
    let both = [(Family::V4, REACHED, DIRECT), (Family::V6, REACHED_V6, DIRECT_V6)];
    let rules = both.into_iter().flat_map(|(family, reached, direct)| {
        [to_bridge().family(family).published(), to_bridge().destined_in(family, direct)]
            .map(|rule| table.append_rule(BEGIN, &rule.note_destination(family, reached)))
    });
    rules.collect()
}

fn postrouting_rules(table: &Table) -> Vec<Message> {
    let mut messages = Vec::new();
    for (family, subnets) in [(Family::V4, SUBNETS), (Family::V6, SUBNETS_V6)] {
        // The answer must come back through this host to have its source put right.
        let hairpin = Expressions::new().published().stays_in(family, subnets).masquerade();
        messages.push(table.append_rule(POSTROUTING, &hairpin));
        messages.push(table.append_rule(POSTROUTING, &Expressions::new().stays_in(family, subnets).accept()));
    }
    for (family, sources) in [(Family::V4, SOURCES), (Family::V6, SOURCES_V6)] {
        messages.push(table.append_rule(POSTROUTING, &Expressions::new().snat_by_device(family, sources)));
    }
    messages.push(table.append_rule(POSTROUTING, &Expressions::new().in_family_of(MASQUERADED).masquerade()));
    messages
}

/// Behind the translation, before the route is looked up.
fn expected_rules(table: &Table) -> Vec<Message> {
    vec![
        table.chain(EXPECTED, Some(&hook("filter", INET_PRE_ROUTING, -90))),
        table.append_rule(EXPECTED, &Expressions::new().published().set_mark(MARK_EXPECTED)),
        table.append_rule(EXPECTED, &Expressions::new().established().set_mark(MARK_EXPECTED)),
    ]
}
