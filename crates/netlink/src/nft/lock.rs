//! The second lock, for tables that somebody else can flush: routes that say of every network of ours that nobody lives
//! there, for packets that come in from outside and that the table has not marked as expected.
//!
//! ```text
//! 5300: from this host itself     → go on at 5303
//! 5301: marked as expected        → go on at 5303
//! 5302: look up table 5300        → unreachable, for our networks
//! 5303: nothing
//! ```
//! Without the table nothing is marked, so a flush closes published ports until the table is repaired, and opens none.

use rustix::io::Errno;

use super::abi::MARK_EXPECTED;
use crate::address::Cidr;
use crate::error::Result;
use crate::message::Message;
use crate::route;
use crate::socket::Socket;

/// Number of the routing table, and of the first rule, for the table `caisson`; those of other names lie behind.
const FIRST: u32 = 5300;
const OTHERS: u32 = 2000;
const RULE_LEN: usize = 12;
const FRA_IIFNAME: u16 = 3;
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_GOTO: u8 = 2;
const FR_ACT_NOP: u8 = 3;
/// A table's number that does not fit the header.
const RT_TABLE_COMPAT: u8 = 252;

/// The number for an nftables table: two daemons of one host have two.
fn number_of(table: &str) -> u32 {
    if table == "caisson" {
        return FIRST;
    }
    let hash = table.bytes().fold(0u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    FIRST + 4 + hash % OTHERS * 4
}

/// Closes these networks, and opens those that are not among them any more.
pub fn set(table: &str, networks: &[Cidr]) -> Result<()> {
    let (table, mut socket) = (number_of(table), Socket::route()?);
    let present = route::unreachable(&mut socket, table)?;
    let same = |a: &Cidr, b: &Cidr| a.first() == b.first() && a.prefix == b.prefix;
    for gone in present.iter().filter(|one| !networks.iter().any(|other| same(one, other))) {
        let message = route::unreachable_message(libc::RTM_DELROUTE, *gone, table);
        socket.lookup(vec![message], Errno::SRCH)?;
    }
    socket.run(networks.iter().map(|one| route::unreachable_message(libc::RTM_NEWROUTE, *one, table)).collect())?;
    set_rules(&mut socket, table, !networks.is_empty())
}

pub fn add(table: &str, networks: &[Cidr]) -> Result<()> {
    let (table, mut socket) = (number_of(table), Socket::route()?);
    set_rules(&mut socket, table, true)?;
    socket.run(networks.iter().map(|one| route::unreachable_message(libc::RTM_NEWROUTE, *one, table)).collect())
}

pub fn remove(table: &str, networks: &[Cidr]) -> Result<()> {
    let table = number_of(table);
    let messages = networks.iter().map(|one| route::unreachable_message(libc::RTM_DELROUTE, *one, table)).collect();
    Socket::route()?.lookup(messages, Errno::SRCH).map(|_| ())
}

fn set_rules(socket: &mut Socket, table: u32, wanted: bool) -> Result<()> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        if family == libc::AF_INET6 && !std::fs::exists("/proc/sys/net/ipv6").unwrap_or(false) {
            continue;
        }
        // The last first: a rule that leads to one that is not there does nothing.
        for number in (0..4).rev() {
            let (kind, flags, absent) = if wanted {
                (libc::RTM_NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, Errno::EXIST)
            } else {
                (libc::RTM_DELRULE, 0, Errno::NOENT)
            };
            socket.lookup(vec![rule(kind, flags, family, table, number)], absent)?;
        }
    }
    Ok(())
}

fn rule(kind: u16, flags: i32, family: i32, table: u32, number: u32) -> Message {
    let mut message = Message::new(kind, flags as u16, "routing rule", (table + number).to_string());
    let action = match number {
        2 => FR_ACT_TO_TBL,
        3 => FR_ACT_NOP,
        _ => FR_ACT_GOTO,
    };
    let mut header = [0; RULE_LEN];
    header[0] = family as u8;
    header[4] = if action == FR_ACT_TO_TBL { RT_TABLE_COMPAT } else { 0 };
    header[7] = action;
    message.put(&header).number(FRA_PRIORITY, table + number);
    match number {
        0 => message.string(FRA_IIFNAME, "lo"),
        1 => message.number(FRA_FWMARK, MARK_EXPECTED).number(FRA_FWMASK, MARK_EXPECTED),
        2 => message.number(FRA_TABLE, table),
        _ => &mut message,
    };
    if action == FR_ACT_GOTO {
        message.number(FRA_GOTO, table + 3);
    }
    message
}
