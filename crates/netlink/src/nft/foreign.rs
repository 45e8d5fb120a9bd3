//! Chains of others that drop forwarded traffic. An accept in our table cannot overrule them: either one commented rule
//! goes to their head that accepts what our table has marked as allowed (mode `open`), or they are only named (`respect`).

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
/// Our rules' comments begin so; the table's name follows.
const COMMENT: &str = "caisson ";

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
        matches!(self.table.family, NFPROTO_IPV4 | NFPROTO_IPV6) && self.table.name == "filter"
    }
}

/// Brings the rules in foreign chains to what is asked for and names the chains that drop, as `family table chain`. What is
/// right already is left alone: who watches these chains is not woken for nothing.
pub fn update(socket: &mut Socket, ours: &Table, open: bool) -> Result<Vec<String>> {
    let all = chains(socket)?;
    let comment = format!("{COMMENT}{}", ours.name);
    let dropping: Vec<_> = all.iter().filter(|chain| chain.drops && chain.table != *ours).collect();
    let targets = if open { targets(&all, &dropping) } else { Vec::new() };
    let (mut removed, mut lacking) = (Vec::new(), Vec::new());
    for chain in all.iter().filter(|chain| chain.forwards || chain.name == DOCKER_USER) {
        let is_target = targets.iter().any(|target| std::ptr::eq(*target, chain));
        let rules = rules(socket, chain)?;
        if is_target && is_right(&rules, &comment) {
            continue;
        }
        let stale = rules.iter().filter(|rule| rule.comment.as_deref() == Some(&comment));
        removed.extend(stale.map(|rule| chain.table.delete_rule(&chain.name, &rule.handle)));
        if is_target {
            lacking.push(chain);
        }
    }
    let change = |xtables: bool| {
        let rule_of = |chain: &&Chain| accept_rule(chain, &comment, xtables && chain.is_iptables());
        removed.iter().cloned().chain(lacking.iter().map(rule_of)).collect::<Vec<_>>()
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

/// There is exactly one, and nothing stands before it but rules of the same kind: two daemons don't fight for the head.
fn is_right(rules: &[Rule], comment: &str) -> bool {
    let own: Vec<_> = (0..).zip(rules).filter(|(_, rule)| rule.comment.as_deref() == Some(comment)).collect();
    let [(at, _)] = own[..] else { return false };
    rules[..at].iter().all(|rule| rule.comment.as_ref().is_some_and(|other| other.starts_with(COMMENT)))
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

fn accept_rule(chain: &Chain, comment: &str, xtables: bool) -> Message {
    let packet = Expressions::new();
    let allowed = if xtables { packet.xt_marked(MARK_ALLOWED) } else { packet.marked(MARK_ALLOWED) };
    chain.table.insert_rule(&chain.name, &allowed.accept(), comment)
}

struct Rule {
    handle: Vec<u8>,
    comment: Option<String>,
}

/// In the order that packets meet them.
fn rules(socket: &mut Socket, chain: &Chain) -> Result<Vec<Rule>> {
    let object = format!("{} {}", chain.table.name, chain.name);
    let mut request = message(GETRULE, 0, chain.table.family, "list rules", object);
    request.string(RULE_TABLE, &chain.table.name).string(RULE_CHAIN, &chain.name);
    let replies = match socket.dump(request) {
        // It went while we looked.
        Err(error) if error.is(Errno::NOENT) => return Ok(Vec::new()),
        result => result?,
    };
    let rule_of = |reply: &Reply| {
        let get = |kind| attribute(&reply.payload, NFGENMSG_LEN, kind);
        Some(Rule { handle: get(RULE_HANDLE)?.to_vec(), comment: get(RULE_USERDATA).and_then(comment_of) })
    };
    Ok(replies.iter().filter_map(rule_of).collect())
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
    let forwards = matches!(family, NFPROTO_INET | NFPROTO_IPV4 | NFPROTO_IPV6) && hook == Some(INET_FORWARD);
    Some(Chain {
        table: Table { family, name: text(get(CHAIN_TABLE)?) },
        name: text(get(CHAIN_NAME)?),
        forwards,
        drops: forwards && policy == Some(DROP.cast_unsigned()),
    })
}

fn shown(chain: &Chain) -> String {
    let family = match chain.table.family {
        NFPROTO_INET => "inet",
        NFPROTO_IPV6 => "ip6",
        _ => "ip",
    };
    format!("{family} {} {}", chain.table.name, chain.name)
}
