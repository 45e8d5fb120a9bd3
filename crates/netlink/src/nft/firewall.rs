//! Our table in the kernel, and the socket that owns it.

use rustix::io::Errno;

use super::abi::*;
use super::batch::{Table, comment_of};
use super::conntrack;
use super::elements;
use super::foreign;
use super::ruleset::{self, FirewallMode, PublishedPort, Ruleset, RulesetReport};
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
    drop_foreign: bool,
}

impl Firewall {
    /// In the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::netfilter(BATCH_ROOM)?, drop_foreign: false })
    }

    /// Traffic that is not ours is no longer forwarded by this host: said once, when forwarding has been switched on.
    pub fn drop_foreign(&mut self) {
        self.drop_foreign = true;
    }

    /// Replaces the table in one transaction.
    pub fn apply(&mut self, ruleset: &Ruleset) -> Result<RulesetReport> {
        check_table(&ruleset.table)?;
        let table = Table::inet(&ruleset.table);
        let exists = self.socket.lookup(vec![table.get()], Errno::NOENT)?.iter().any(Option::is_some);
        // The decision outlives a restart of the daemon as a chain of the table that is about to be replaced.
        self.drop_foreign |= exists && foreign::has_chain(&mut self.socket, &table, ruleset::FOREIGN)?;
        let contents = ruleset::messages(&table, ruleset, self.drop_foreign)?;
        let mut owned = true;
        let replace = |flags| {
            let old = exists.then(|| table.delete());
            old.into_iter().chain([table.create(flags)]).chain(contents.iter().cloned()).collect::<Vec<_>>()
        };
        match self.socket.batch(replace(TABLE_F_OWNER | TABLE_F_PERSIST)) {
            Err(error) if is_unknown_flag(&error) => {
                owned = false;
                self.socket.batch(replace(0))?;
            }
            result => result.map_err(|error| foreign_owner(error, &ruleset.table))?,
        }
        let devices: Vec<_> = ruleset.bridges.iter().map(|rules| rules.bridge.as_str()).collect();
        let dropped_by = foreign::update(&mut self.socket, &table, &devices, ruleset.firewall == FirewallMode::Open)?;
        Ok(RulesetReport { owned, dropped_by })
    }

    /// Adding what is there already is no failure; kind `conflict` when the port leads elsewhere.
    pub fn add_ports(&mut self, table: &str, ports: &[PublishedPort]) -> Result<()> {
        check_table(table)?;
        let elements = elements::elements(ports)?;
        if elements.is_empty() {
            return Ok(());
        }
        let table = Table::inet(table);
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
        conntrack::forget(&mut self.socket, &owned.iter().map(|element| element.port).collect::<Vec<_>>())
    }

    /// With what was put into foreign chains. Idempotent.
    pub fn delete(&mut self, table: &str) -> Result<()> {
        check_table(table)?;
        let table = Table::inet(table);
        foreign::update(&mut self.socket, &table, &[], false)?;
        match self.socket.batch(vec![table.delete()]) {
            Err(error) if error.is(Errno::NOENT) => Ok(()),
            result => result,
        }
    }
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
