//! Messages of a transaction: tables, chains, rules, sets.

use super::abi::*;
use super::expr::Expressions;
use crate::message::{Attrs, Message};

/// A table that messages are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub family: u8,
    pub name: String,
}

pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    pub number: u32,
    pub priority: i32,
}

/// A message of the subsystem with its `nfgenmsg` header.
pub fn message(kind: u16, flags: i32, family: u8, op: &'static str, object: String) -> Message {
    let kind = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | kind;
    let mut message = Message::new(kind, flags as u16, op, object);
    message.put(&[family, 0, 0, 0]);
    message
}

impl Table {
    pub fn inet(name: &str) -> Self {
        Self { family: NFPROTO_INET, name: name.into() }
    }

    pub fn create(&self, flags: u32) -> Message {
        let mut message = message(NEWTABLE, libc::NLM_F_CREATE, self.family, "create table", self.name.clone());
        message.string(TABLE_NAME, &self.name).be32(TABLE_FLAGS, flags);
        message
    }

    pub fn delete(&self) -> Message {
        let mut message = message(DELTABLE, 0, self.family, "delete table", self.name.clone());
        message.string(TABLE_NAME, &self.name);
        message
    }

    pub fn get(&self) -> Message {
        let mut message = message(GETTABLE, 0, self.family, "look up table", self.name.clone());
        message.string(TABLE_NAME, &self.name);
        message
    }

    fn object(&self, name: &str) -> String {
        format!("{} {name}", self.name)
    }

    /// `hook`: absent for a chain that is only jumped to.
    pub fn chain(&self, name: &str, hook: Option<&Hook>) -> Message {
        let mut message = message(NEWCHAIN, libc::NLM_F_CREATE, self.family, "create chain", self.object(name));
        message.string(CHAIN_TABLE, &self.name).string(CHAIN_NAME, name);
        if let Some(hook) = hook {
            message.nest(CHAIN_HOOK, |attrs| {
                attrs.be32(HOOK_NUMBER, hook.number).be32(HOOK_PRIORITY, hook.priority.cast_unsigned());
            });
            message.be32(CHAIN_POLICY, ACCEPT.cast_unsigned()).string(CHAIN_TYPE, hook.kind);
        }
        message
    }

    /// Behind the chain's other rules.
    pub fn append_rule(&self, chain: &str, expressions: &Expressions) -> Message {
        self.rule(chain, libc::NLM_F_CREATE | libc::NLM_F_APPEND, expressions, None)
    }

    /// Before the chain's other rules.
    pub fn insert_rule(&self, chain: &str, expressions: &Expressions, comment: &str) -> Message {
        self.rule(chain, libc::NLM_F_CREATE, expressions, Some(comment))
    }

    fn rule(&self, chain: &str, flags: i32, expressions: &Expressions, comment: Option<&str>) -> Message {
        let mut message = message(NEWRULE, flags, self.family, "add rule", self.object(chain));
        message.string(RULE_TABLE, &self.name).string(RULE_CHAIN, chain);
        message.nest(RULE_EXPRESSIONS, |list| {
            list.append(expressions.attrs());
        });
        if let Some(comment) = comment {
            message.attr(RULE_USERDATA, &comment_bytes(comment));
        }
        message
    }

    pub fn delete_rule(&self, chain: &str, handle: &[u8]) -> Message {
        let mut message = message(DELRULE, 0, self.family, "delete rule", self.object(chain));
        message.string(RULE_TABLE, &self.name).string(RULE_CHAIN, chain).attr(RULE_HANDLE, handle);
        message
    }

    pub fn set(&self, set: &Set, id: u32) -> Message {
        let mut message = message(NEWSET, libc::NLM_F_CREATE, self.family, "create set", self.object(set.name));
        message.string(SET_TABLE, &self.name).string(SET_NAME, set.name).be32(SET_ID, id);
        message.be32(SET_KEY_TYPE, concatenation(set.key)).be32(SET_KEY_LEN, length(set.key));
        if set.key.first() == Some(&TYPE_IFNAME) {
            // Only for listings: names are kept in the order that the host has them.
            let byte_order = [SET_UDATA_KEY_BYTEORDER, 4].into_iter().chain(BYTEORDER_HOST.to_ne_bytes());
            message.attr(SET_USERDATA, &byte_order.collect::<Vec<_>>());
        }
        let is_map = !set.data.is_empty();
        let mut flags = if is_map { SET_F_MAP } else { 0 };
        if set.interval {
            flags |= SET_F_INTERVAL | SET_F_CONCAT;
            message.nest(SET_DESC, |desc| {
                desc.nest(SET_DESC_CONCAT, |fields| {
                    for one in set.key {
                        fields.nest(LIST_ELEM, |field| {
                            field.be32(SET_FIELD_LEN, length(&[*one]));
                        });
                    }
                });
            });
        }
        if set.dynamic {
            flags |= SET_F_EVAL;
        }
        message.be32(SET_FLAGS, flags);
        if is_map {
            message.be32(SET_DATA_TYPE, concatenation(set.data)).be32(SET_DATA_LEN, length(set.data));
        }
        message
    }

    pub fn elements(&self, kind: u16, set: &str, list: &Attrs) -> Message {
        let (flags, op) = match kind {
            NEWSETELEM => (libc::NLM_F_CREATE, "add elements"),
            DELSETELEM => (0, "remove elements"),
            _ => (0, "look up element"),
        };
        let mut message = message(kind, flags, self.family, op, self.object(set));
        message.string(ELEM_LIST_TABLE, &self.name).string(ELEM_LIST_SET, set);
        message.nest(ELEM_LIST_ELEMENTS, |elements| {
            elements.append(list);
        });
        message
    }
}

/// A set, or a map when it has `data`; both are lists of datatypes.
pub struct Set {
    pub name: &'static str,
    pub key: &'static [u32],
    pub data: &'static [u32],
    /// An element is everything between two keys.
    pub interval: bool,
    /// Rules add elements: 65,535 at most, which the kernel says itself. One that is told more makes room for them at once.
    pub dynamic: bool,
}

fn concatenation(types: &[u32]) -> u32 {
    types.iter().fold(0, |all, one| all << TYPE_BITS | one)
}

/// Each member of a concatenation takes whole four-byte registers.
fn length(types: &[u32]) -> u32 {
    types.iter().map(|one| if matches!(*one, TYPE_IFNAME | TYPE_IP6ADDR) { 16 } else { 4 }).sum()
}

/// User data with a comment in it, as `nft` writes it.
pub fn comment_bytes(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).expect("comments are ids and fixed words");
    let mut bytes = vec![UDATA_COMMENT, length];
    bytes.extend_from_slice(comment.as_bytes());
    bytes.push(0);
    bytes
}

pub fn comment_of(userdata: &[u8]) -> Option<String> {
    let (UDATA_COMMENT, length) = (*userdata.first()?, usize::from(*userdata.get(1)?)) else { return None };
    Some(crate::message::text(userdata.get(2..2 + length)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_survive() {
        assert_eq!(comment_of(&comment_bytes("abc")).as_deref(), Some("abc"));
        assert_eq!(comment_of(&[]), None);
        assert_eq!(comment_of(&[0, 9, b'a']), None, "cut off");
    }
}
