//! Chains of others that drop forwarded traffic. An accept in our table cannot overrule them: either two commented rules
//! go to their head (mode `open`), or they are only named (mode `respect`).

use rustix::io::Errno;

use super::abi::*;
use super::batch::{Table, comment_of, message};
use super::expr::Expressions;
use crate::error::Result;
use crate::message::{Message, attribute, text};
use crate::socket::{Reply, Socket};

const NFGENMSG_LEN: usize = 4;
/// Docker's chain for the administrator's rules, jumped to before its own: rules put at its head survive Docker's restart.
const DOCKER_USER: &str = "DOCKER-USER";

struct Chain {
    table: Table,
    name: String,
    /// A base chain in the forward hook.
    forwards: bool,
    /// Such a chain, with the policy to drop.
    drops: bool,
}

impl Chain {
    /// Made by the `iptables` program, which refuses a whole table in which one rule is not of its own kind.
    fn is_iptables(&self) -> bool {
        self.table.family == NFPROTO_IPV4 && self.table.name == "filter"
    }
}

/// Brings the rules in foreign chains to what is asked for and names the chains that drop, as `family table chain`.
pub fn update(socket: &mut Socket, ours: &Table, bridges: &[&str], open: bool) -> Result<Vec<String>> {
    let all = chains(socket)?;
    let comment = format!("caisson {}", ours.name);
    let mut removed = Vec::new();
    for chain in all.iter().filter(|chain| chain.forwards || chain.name == DOCKER_USER) {
        removed.extend(removals(socket, chain, &comment)?);
    }
    let dropping: Vec<_> = all.iter().filter(|chain| chain.drops && chain.table != *ours).collect();
    let targets = if open { targets(&all, &dropping) } else { Vec::new() };
    let change = |xtables: bool| {
        let rules_of = |chain: &&Chain| accept_rules(chain, bridges, &comment, xtables && chain.is_iptables());
        removed.iter().cloned().chain(targets.iter().flat_map(rules_of)).collect::<Vec<_>>()
    };
    let messages = change(true);
    if !messages.is_empty() {
        match socket.batch(messages) {
            // A kernel without xtables' matches has no iptables rules to be at odds with.
            Err(error) if error.is(Errno::NOENT) => socket.batch(change(false))?,
            result => result?,
        }
    }
    Ok(dropping.iter().map(|chain| shown(chain)).collect())
}

/// The table has a chain of this name.
pub fn has_chain(socket: &mut Socket, table: &Table, name: &str) -> Result<bool> {
    Ok(chains(socket)?.iter().any(|chain| chain.table == *table && chain.name == name))
}

/// Where Docker's chain is, the rules go there instead of the chain in the same table that drops.
fn targets<'a>(all: &'a [Chain], dropping: &[&'a Chain]) -> Vec<&'a Chain> {
    let of = |chain: &&'a Chain| {
        let user = all.iter().find(|other| other.name == DOCKER_USER && other.table == chain.table);
        user.unwrap_or(chain)
    };
    dropping.iter().map(of).collect()
}

fn accept_rules(chain: &Chain, bridges: &[&str], comment: &str, xtables: bool) -> Vec<Message> {
    let inbound = |bridge: &str| {
        let out = Expressions::new().out_device(bridge);
        if xtables {
            return vec![out.xt_published_or_established().accept()];
        }
        vec![out.clone().published().accept(), out.established().accept()]
    };
    let of_bridge = |bridge: &&str| {
        let mut rules = inbound(bridge);
        rules.push(Expressions::new().in_device(bridge).accept());
        rules
    };
    let rules = bridges.iter().flat_map(of_bridge);
    rules.map(|rule| chain.table.insert_rule(&chain.name, &rule, comment)).collect()
}

fn removals(socket: &mut Socket, chain: &Chain, comment: &str) -> Result<Vec<Message>> {
    let object = format!("{} {}", chain.table.name, chain.name);
    let mut request = message(GETRULE, 0, chain.table.family, "list rules", object);
    request.string(RULE_TABLE, &chain.table.name).string(RULE_CHAIN, &chain.name);
    let replies = socket.dump(request)?;
    let ours = replies.iter().filter(|reply| {
        let userdata = attribute(&reply.payload, NFGENMSG_LEN, RULE_USERDATA);
        userdata.and_then(comment_of).as_deref() == Some(comment)
    });
    let handles = ours.filter_map(|reply| attribute(&reply.payload, NFGENMSG_LEN, RULE_HANDLE));
    Ok(handles.map(|handle| chain.table.delete_rule(&chain.name, handle)).collect())
}

fn chains(socket: &mut Socket) -> Result<Vec<Chain>> {
    let replies = socket.dump(message(GETCHAIN, 0, 0, "list chains", "all".into()))?;
    Ok(replies.iter().filter_map(chain_of).collect())
}

fn chain_of(reply: &Reply) -> Option<Chain> {
    let get = |kind| attribute(&reply.payload, NFGENMSG_LEN, kind);
    let family = *reply.payload.first()?;
    let number = |value: &[u8]| Some(u32::from_be_bytes(value.try_into().ok()?));
    let hook = get(CHAIN_HOOK).and_then(|hook| number(attribute(hook, 0, HOOK_NUMBER)?));
    let policy = get(CHAIN_POLICY).and_then(number);
    let forwards = matches!(family, NFPROTO_INET | NFPROTO_IPV4) && hook == Some(INET_FORWARD);
    Some(Chain {
        table: Table { family, name: text(get(CHAIN_TABLE)?) },
        name: text(get(CHAIN_NAME)?),
        forwards,
        drops: forwards && policy == Some(DROP.cast_unsigned()),
    })
}

fn shown(chain: &Chain) -> String {
    let family = if chain.table.family == NFPROTO_INET { "inet" } else { "ip" };
    format!("{family} {} {}", chain.table.name, chain.name)
}
