//! Our table in the kernel, and the socket that owns it.

use rustix::io::Errno;

use super::abi::*;
use super::batch::{Table, comment_of};
use super::bridges;
use super::claim;
use super::elements;
use super::foreign;
use super::legacy;
use super::lock;
use super::reached;
use super::ruleset::{self, BridgeRules, FirewallMode, GatewayMode, PublishedPort, Ruleset, RulesetReport, Situation};
use crate::address::{Cidr, Family};
use crate::error::{NetError, Result, invalid};
use crate::message::{attribute, attributes};
use crate::socket::Socket;

/// A transaction is one message to the kernel: some 150 bytes for each published port of the whole host.
const BATCH_ROOM: usize = 32 * 1024 * 1024;
const NFGENMSG_LEN: usize = 4;

/// Kept for the life of the process: the table belongs to its socket (where the kernel can do that, 6.9), and nobody
/// else's flush reaches it. It stays when the process ends; the next one takes it over.
pub struct Firewall {
    socket: Socket,
    /// Of IPv4 and of IPv6.
    drop_foreign: [bool; 2],
    ownable: bool,
    /// The table is there and cannot be owned.
    locked: bool,
}

impl Firewall {
    /// In the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::netfilter(BATCH_ROOM)?, drop_foreign: [false; 2], ownable: true, locked: false })
    }

    /// As on a kernel before 6.9: the table can be flushed by anybody, and routes close its networks meanwhile.
    pub fn without_ownership(mut self) -> Self {
        self.ownable = false;
        self
    }

    /// The netlink port of the socket: who watches knows our own changes by it.
    pub fn port_id(&self) -> Result<u32> {
        self.socket.port_id()
    }

    /// Traffic that is not ours is no longer forwarded by this host: said once, when forwarding has been switched on.
    pub fn drop_foreign(&mut self, family: Family) {
        self.drop_foreign[usize::from(family == Family::V6)] = true;
    }

    /// Replaces the table in one transaction.
    pub fn apply(&mut self, ruleset: &Ruleset) -> Result<RulesetReport> {
        check_table(&ruleset.table)?;
        let table = Table::inet(&ruleset.table);
        let exists = self.socket.lookup(vec![table.get()], Errno::NOENT)?.iter().any(Option::is_some);
        // The decision outlives a restart of the daemon as a chain of the table that is about to be replaced.
        for ((_, chain), dropped) in ruleset::FOREIGN.into_iter().zip(&mut self.drop_foreign) {
            *dropped |= exists && foreign::has_chain(&mut self.socket, &table, chain)?;
        }
        if self.ownable {
            match self.replace(&table, exists, ruleset, TABLE_F_OWNER | TABLE_F_PERSIST) {
                Err(error) if is_unknown_flag(&error) => self.ownable = false,
                result => result.map_err(|error| foreign_owner(error, &ruleset.table))?,
            }
        }
        if !self.ownable {
            // Before the table: while it is replaced the routes stand.
            lock::set(&ruleset.table, &networks(&ruleset.bridges)?)?;
            let exists = self.socket.lookup(vec![table.get()], Errno::NOENT)?.iter().any(Option::is_some);
            self.replace(&table, exists, ruleset, 0).map_err(|error| foreign_owner(error, &ruleset.table))?;
        } else if exists {
            // Left by a process on an older kernel.
            lock::set(&ruleset.table, &[])?;
        }
        self.locked = !self.ownable;
        claim::claim(&mut self.socket, &table, &elements::elements(&ruleset.ports)?)?;
        self.refresh_foreign(&ruleset.table, ruleset.firewall)
    }

    fn replace(&mut self, table: &Table, exists: bool, ruleset: &Ruleset, flags: u32) -> Result<()> {
        let situation = Situation { drop_foreign: self.drop_foreign, locked: flags == 0 };
        let mut messages: Vec<_> = exists.then(|| table.delete()).into_iter().collect();
        messages.push(table.create(flags));
        messages.extend(ruleset::messages(table, ruleset, situation)?);
        self.socket.batch(messages)
    }

    /// Brings what stands in others' chains to the mode; nothing else is touched.
    pub fn refresh_foreign(&mut self, table: &str, mode: FirewallMode) -> Result<RulesetReport> {
        check_table(table)?;
        let dropped_by = foreign::update(&mut self.socket, &Table::inet(table), mode == FirewallMode::Open)?;
        Ok(RulesetReport { owned: self.ownable, dropped_by, legacy_dropped_by: legacy::dropping() })
    }

    /// Adding what is there already is no failure.
    pub fn add_bridge(&mut self, table: &str, rules: &BridgeRules) -> Result<()> {
        check_table(table)?;
        if self.locked {
            lock::add(table, &networks(std::slice::from_ref(rules))?)?;
        }
        self.socket.batch(bridges::add_messages(&Table::inet(table), std::slice::from_ref(rules))?)
    }

    /// Removing what has gone is no failure.
    pub fn remove_bridge(&mut self, table: &str, rules: &BridgeRules) -> Result<()> {
        check_table(table)?;
        bridges::remove(&mut self.socket, &Table::inet(table), rules)?;
        if self.locked {
            lock::remove(table, &networks(std::slice::from_ref(rules))?)?;
        }
        Ok(())
    }

    /// Adding what is there already is no failure; kind `conflict` when the port leads elsewhere.
    pub fn add_ports(&mut self, table: &str, ports: &[PublishedPort]) -> Result<()> {
        check_table(table)?;
        let elements = elements::elements(ports)?;
        if elements.is_empty() {
            return Ok(());
        }
        let table = Table::inet(table);
        claim::claim(&mut self.socket, &table, &elements)?;
        match self.socket.batch(elements::add_messages(&table, &elements)) {
            Err(error) if error.is(Errno::EXIST) || error.is(Errno::BUSY) => {
                Err(self.taken(&table, ports).unwrap_or(error))
            }
            result => result,
        }
    }

    /// Names the port that leads elsewhere already.
    fn taken(&mut self, table: &Table, ports: &[PublishedPort]) -> Option<NetError> {
        for port in ports {
            let element = elements::elements(std::slice::from_ref(port)).ok()?;
            let found = self.socket.lookup(elements::get_messages(table, &element), Errno::NOENT).ok()?;
            let owner = found.first().and_then(Option::as_ref).and_then(|reply| owner_of(&reply.payload));
            if let Some(owner) = owner.filter(|owner| *owner != port.owner) {
                let object = format!("{}:{}", port.host_ip, port.host_port);
                let reason = format!("Bind for {object} failed: port is already allocated to {owner}");
                return Some(NetError::Conflict { op: "publish port", object, errno: Errno::EXIST, reason });
            }
        }
        None
    }

    /// Removes the elements that these owners have; others, and such as are gone, are left alone.
    pub fn remove_ports(&mut self, table: &str, ports: &[PublishedPort]) -> Result<()> {
        check_table(table)?;
        let table = Table::inet(table);
        let elements = elements::elements(ports)?;
        let found = self.socket.lookup(elements::get_messages(&table, &elements), Errno::NOENT)?;
        let owners = found.iter().map(|reply| reply.as_ref().and_then(|reply| owner_of(&reply.payload)));
        let owned =
            elements.iter().zip(owners).filter(|(element, owner)| owner.as_deref() == Some(&element.port.owner));
        let owned: Vec<_> = owned.map(|(element, _)| element).collect();
        if owned.is_empty() {
            return Ok(());
        }
        self.socket.batch(elements::remove_messages(&table, &owned))?;
        let ends = owned.iter().map(|element| element.end()).collect::<Result<_>>()?;
        reached::forget(&mut self.socket, &table, &ends)
    }

    /// With what was put into foreign chains. Idempotent.
    pub fn delete(&mut self, table: &str) -> Result<()> {
        check_table(table)?;
        let table = Table::inet(table);
        foreign::update(&mut self.socket, &table, false)?;
        lock::set(&table.name, &[])?;
        match self.socket.batch(vec![table.delete()]) {
            Err(error) if error.is(Errno::NOENT) => Ok(()),
            result => result,
        }
    }
}

/// What no route may lead to but for expected traffic: not what is meant to be reached without translation.
fn networks(bridges: &[BridgeRules]) -> Result<Vec<Cidr>> {
    let mut closed = Vec::new();
    for rules in bridges.iter().filter(|rules| rules.trusted.is_empty() && !rules.direct) {
        for subnet in bridges::subnets("lock networks", rules)? {
            let family = if subnet.address.is_ipv4() { Family::V4 } else { Family::V6 };
            if matches!(rules.mode(family), GatewayMode::Nat | GatewayMode::Isolated) {
                closed.push(subnet);
            }
        }
    }
    Ok(closed)
}

fn check_table(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let valid = !name.is_empty() && name.len() <= 64 && name.bytes().all(plain);
    if valid { Ok(()) } else { Err(invalid("firewall table", name, "not a name that a table can have")) }
}

/// Kernels before 6.9 don't know `persist`: EOPNOTSUPP since tables have flags that are checked, EINVAL before.
fn is_unknown_flag(error: &NetError) -> bool {
    error.op() == "create table" && (error.is(Errno::OPNOTSUPP) || error.is(Errno::INVAL))
}

/// EPERM for a table means that another live process owns it.
fn foreign_owner(error: NetError, table: &str) -> NetError {
    if !(error.is(Errno::PERM) && error.op().ends_with(" table")) {
        return error;
    }
    let reason = format!("the nftables table 'inet {table}' belongs to another running process");
    NetError::Conflict { op: "apply ruleset", object: table.into(), errno: Errno::PERM, reason }
}

/// The comment of the only element in an answer.
fn owner_of(payload: &[u8]) -> Option<String> {
    let list = attribute(payload, NFGENMSG_LEN, ELEM_LIST_ELEMENTS)?;
    let (_, element) = attributes(list, 0).next()?;
    comment_of(attribute(element, 0, ELEM_USERDATA)?)
}
