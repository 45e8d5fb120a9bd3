//! The table: which traffic may reach a container, and what its addresses are translated to.
//!
//! ```text
//! prerouting, output:  to an address of this host        → publish: look the port up, translate the destination
//! forward:             out to a bridge of ours           → inbound: established, published, same bridge if allowed; else drop
//!                      in from a bridge of ours          → accept
//! postrouting:         from a subnet to elsewhere        → masquerade
//!                      published, back into its own net  → masquerade (hairpin)
//! ```
//! The address of a container is closed to everything that is neither an answer nor translated by a published port, so
//! a neighbour that routes to it directly gets nowhere, whether the port is published or not.

use serde::{Deserialize, Serialize};

use super::abi::*;
use super::batch::{Hook, Set, Table};
use super::elements::{self, BY_ADDRESS, BY_PORT};
use super::expr::{Expressions, device};
use crate::address::Cidr;
use crate::error::{NetError, Result};
use crate::link;
use crate::message::{Attrs, Message};

const BRIDGES: &str = "bridges";
const PUBLISH: &str = "publish";
const INBOUND: &str = "inbound";
const FORWARD: &str = "forward";
/// Its presence says that it was we who switched forwarding on, also to the next process.
pub const FOREIGN: &str = "foreign";
const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const POSTROUTING: &str = "postrouting";

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
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BridgeRules {
    pub bridge: String,
    pub subnet: String,
    pub icc: bool,
    pub masquerade: bool,
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
    pub owned: bool,
    pub dropped_by: Vec<String>,
}

const SETS: [Set; 3] = [
    Set { name: BRIDGES, key: &[TYPE_IFNAME], data: &[] },
    Set {
        name: BY_ADDRESS,
        key: &[TYPE_IPADDR, TYPE_INET_PROTOCOL, TYPE_INET_SERVICE],
        data: &[TYPE_IPADDR, TYPE_INET_SERVICE],
    },
    Set { name: BY_PORT, key: &[TYPE_INET_PROTOCOL, TYPE_INET_SERVICE], data: &[TYPE_IPADDR, TYPE_INET_SERVICE] },
];

/// Everything in the table, in an order that the kernel takes: sets and chains before the rules that name them.
pub fn messages(table: &Table, ruleset: &Ruleset, drop_foreign: bool) -> Result<Vec<Message>> {
    let mut messages: Vec<_> = (1..).zip(&SETS).map(|(id, set)| table.set(set, id)).collect();
    messages.extend(chains(table));
    messages.extend(publish_rules(table));
    messages.push(table.append_rule(FORWARD, &Expressions::new().out_device_of(BRIDGES).jump(INBOUND)));
    messages.push(table.append_rule(FORWARD, &Expressions::new().in_device_of(BRIDGES).accept()));
    messages.push(table.append_rule(INBOUND, &Expressions::new().established().accept()));
    messages.push(table.append_rule(INBOUND, &Expressions::new().published().accept()));
    for bridge in &ruleset.bridges {
        messages.extend(bridge_rules(table, bridge)?);
    }
    messages.push(table.append_rule(INBOUND, &Expressions::new().drop()));
    if drop_foreign {
        messages.extend(foreign_rules(table));
    }
    if !ruleset.bridges.is_empty() {
        messages.push(table.elements(NEWSETELEM, BRIDGES, &bridge_elements(&ruleset.bridges)));
    }
    messages.extend(elements::add_messages(table, &elements::elements(&ruleset.ports)?));
    Ok(messages)
}

fn chains(table: &Table) -> Vec<Message> {
    let hook = |kind, number, priority| Hook { kind, number, priority };
    vec![
        table.chain(PUBLISH, None),
        table.chain(INBOUND, None),
        table.chain(FORWARD, Some(&hook("filter", INET_FORWARD, 0))),
        table.chain(PREROUTING, Some(&hook("nat", INET_PRE_ROUTING, -100))),
        table.chain(OUTPUT, Some(&hook("nat", INET_LOCAL_OUT, -100))),
        table.chain(POSTROUTING, Some(&hook("nat", INET_POST_ROUTING, 100))),
    ]
}

/// Forwarding was off before we switched it on: the host does not become a router between its neighbours by that. What
/// has to do with a bridge is left to whoever made the bridge, another engine or a hypervisor.
fn foreign_rules(table: &Table) -> Vec<Message> {
    let drop = Expressions::new().between_plain_devices().drop();
    vec![
        table.chain(FOREIGN, None),
        table.append_rule(FORWARD, &Expressions::new().jump(FOREIGN)),
        table.append_rule(FOREIGN, &drop),
    ]
}

fn publish_rules(table: &Table) -> Vec<Message> {
    let to_host = || Expressions::new().ipv4().local_destination();
    vec![
        table.append_rule(PREROUTING, &to_host().jump(PUBLISH)),
        // A packet that was sent to 127.0.0.0/8 can't leave by another device: the socket that reserves the port takes it.
        table.append_rule(OUTPUT, &to_host().not_to_loopback().jump(PUBLISH)),
        table.append_rule(PUBLISH, &Expressions::new().ipv4().dnat_by_address(BY_ADDRESS)),
        table.append_rule(PUBLISH, &Expressions::new().ipv4().dnat_by_port(BY_PORT)),
    ]
}

fn bridge_rules(table: &Table, rules: &BridgeRules) -> Result<Vec<Message>> {
    let op = "apply ruleset";
    let name = rules.bridge.as_str();
    link::check_name(op, name)?;
    let subnet = Cidr::parse(op, &rules.subnet)?;
    let from_subnet = || Expressions::new().ipv4().source_in(subnet.network(), subnet.mask());
    let mut messages = Vec::new();
    if !rules.icc && !bridged_packets_are_filtered() {
        return Err(NetError::Unsupported {
            op,
            object: name.into(),
            reason: "icc=false needs the kernel to pass bridged packets to the firewall: load br_netfilter and set \
                     net.bridge.bridge-nf-call-iptables to 1"
                .into(),
        });
    }
    if rules.icc {
        // Seen here only where bridged packets are passed to the IP firewall (br_netfilter).
        messages.push(table.append_rule(INBOUND, &Expressions::new().in_device(name).out_device(name).accept()));
    }
    if rules.masquerade {
        messages.push(table.append_rule(POSTROUTING, &from_subnet().out_device_other_than(name).masquerade()));
    }
    // The answer must come back through this host to have its source put right.
    messages.push(table.append_rule(POSTROUTING, &from_subnet().out_device(name).published().masquerade()));
    Ok(messages)
}

fn bridged_packets_are_filtered() -> bool {
    std::fs::read("/proc/sys/net/bridge/bridge-nf-call-iptables").is_ok_and(|value| value.starts_with(b"1"))
}

fn bridge_elements(bridges: &[BridgeRules]) -> Attrs {
    let mut list = Attrs::default();
    for rules in bridges {
        list.nest(LIST_ELEM, |element| {
            element.nest(ELEM_KEY, |key| {
                key.attr(DATA_VALUE, &device(&rules.bridge));
            });
        });
    }
    list
}
