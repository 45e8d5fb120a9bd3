//! What others do to nftables: told as it happens, so that a flush is repaired and a firewall that was loaded anew gets
//! our rule again.

use super::abi::*;
use crate::error::Result;
use crate::message::{attribute, text};
use crate::socket::{Event, Socket};

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
const NFGENMSG_LEN: usize = 4;
/// The table's name is the first attribute of tables, chains, rules, sets and elements alike.
const ANY_TABLE: u16 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Chains or rules of others.
    Foreign,
    /// Our own table, by somebody else; also when it cannot be told.
    Ours,
}

pub struct Watch {
    socket: Socket,
    table: String,
    own: u32,
}

impl Watch {
    /// In the calling thread's network namespace. `own`: the port of the socket whose changes don't count.
    pub fn open(table: &str, own: u32) -> Result<Self> {
        Ok(Self { socket: Socket::nftables_events()?, table: table.into(), own })
    }

    /// Waits for the next change that matters.
    pub fn wait(&mut self) -> Result<Change> {
        loop {
            let Some(events) = self.socket.events()? else { return Ok(Change::Ours) };
            if let Some(change) = events.iter().filter_map(|event| self.judge(event)).max() {
                return Ok(change);
            }
        }
    }

    fn judge(&self, event: &Event) -> Option<Change> {
        let kind = event.kind.checked_sub(SUBSYSTEM)?;
        if event.sender == self.own || kind > DELSETELEM {
            return None;
        }
        let name = attribute(&event.payload, NFGENMSG_LEN, ANY_TABLE)?;
        let inet = event.payload.first() == Some(&NFPROTO_INET);
        if inet && text(name) == self.table {
            return Some(Change::Ours);
        }
        // Elements of others' sets come and go all the time and say nothing about us.
        (kind <= DELRULE).then_some(Change::Foreign)
    }
}
