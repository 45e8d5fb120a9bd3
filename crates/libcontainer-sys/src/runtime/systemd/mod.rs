//! The systemd cgroup driver (`--systemd-cgroup`): a container's cgroup is that of a transient scope, which systemd makes,
//! shows (`systemctl status`) and removes. All limits are written to the cgroup as well: systemd does not know them all.
//! An ordinary user's scopes are made by his own systemd (`systemd --user`), below the cgroup that the host's has given it.

mod bus;
mod properties;
mod wire;

use crate::cgroup;
use crate::failure::{Context, Failure, Kind, Result};
use crate::spec::Resources;
use crate::sys::clone::{Cloned, clone3, exit_now};
use crate::user_namespace;
use bus::Bus;
use properties::Properties;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use wire::{Reader, Value, Writer};

const SOCKET: &str = "/run/systemd/private";

/// Whose systemd: the host's, or our user's own. Root of a user namespace is one or the other: if a systemd runs in that
/// namespace, its socket is his.
fn is_users() -> bool {
    let is_ours = || std::fs::metadata(SOCKET).is_ok_and(|socket| socket.uid() == 0);
    !rustix::process::geteuid().is_root() || user_namespace::is_inner() && !is_ours()
}

fn socket_of(users: bool) -> PathBuf {
    if !users {
        return SOCKET.into();
    }
    let dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let usual = || format!("/run/user/{}", user_namespace::outer_uid()).into();
    dir.unwrap_or_else(usual).join("systemd/private")
}

/// The scope of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    name: String,
    slice: String,
    /// The cgroup of the user's own systemd; empty: the host's systemd, which has all of them.
    #[serde(default)]
    manager: String,
}

/// A process that holds a scope until init is in it: systemd makes none without a process, and removes one that is empty.
pub struct Keeper {
    pidfd: OwnedFd,
    until: Option<OwnedFd>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.until = None;
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// As sd_booted(3) has it.
pub fn check_running() -> Result<()> {
    let refuse = |why: &str| Err(Failure::new(Kind::Unsupported, "options", format!("--systemd-cgroup: {why}")));
    if !Path::new("/run/systemd/system").is_dir() {
        return refuse("systemd is not running on this host, cannot use its cgroup driver");
    }
    if !is_users() {
        return Ok(());
    }
    if !cgroup::is_unified()? {
        return refuse("a user's own systemd may make no cgroups on a host with cgroup v1");
    }
    let socket = socket_of(true);
    match socket.exists() {
        true => Ok(()),
        false => refuse(&format!(
            "no systemd of this user at {}: log in, or have root run `loginctl enable-linger`",
            socket.display()
        )),
    }
}

impl Unit {
    /// What a configuration asks for, of the systemd that the caller has.
    pub fn asked_for(asked: &str, id: &str) -> Result<Unit> {
        let manager = match is_users() {
            true => Bus::connect(&socket_of(true))?.property("ControlGroup")?,
            false => String::new(),
        };
        Unit::parse(asked, id, &manager)
    }

    /// `slice:prefix:name`; without a slice it is `system.slice`, of a user `user.slice`. Nothing asked for: a name of the
    /// container's id.
    fn parse(asked: &str, id: &str, manager: &str) -> Result<Unit> {
        let wrong = |why: &str| Err(Failure::invalid("cgroup", format!("/linux/cgroupsPath: {asked:?}: {why}")));
        let manager = manager.to_owned();
        let usual = if manager.is_empty() { "system.slice" } else { "user.slice" };
        if asked.is_empty() {
            return Ok(Unit { name: format!("caisson-runtime-{id}.scope"), slice: usual.into(), manager });
        }
        let [slice, prefix, name] = asked.split(':').collect::<Vec<_>>()[..] else {
            return wrong("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups");
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.\\@-".contains(c);
        if name.is_empty() || !prefix.chars().chain(name.chars()).all(plain) {
            return wrong("prefix and name become a unit's name: letters, digits and _ . \\ @ - are allowed");
        }
        if name.ends_with(".slice") {
            return wrong("a slice holds no processes: give a name that does not end in .slice");
        }
        let name = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        let unit = Unit { name, slice: if slice.is_empty() { usual.into() } else { slice.to_owned() }, manager };
        unit.path().map(|_| unit)
    }

    /// Its cgroup. A slice's name says what it lies in: `a-b.slice` is `/a.slice/a-b.slice`.
    pub fn path(&self) -> Result<String> {
        let wrong = || Failure::invalid("cgroup", format!("/linux/cgroupsPath: invalid slice name: {:?}", self.slice));
        let slice = self.slice.strip_suffix(".slice").ok_or_else(wrong)?;
        let mut path = self.manager.clone();
        if slice != "-" {
            let mut prefix = String::new();
            for part in slice.split('-') {
                if part.is_empty() || part.contains('/') || part.starts_with('.') {
                    return Err(wrong());
                }
                path.push_str(&format!("/{prefix}{part}.slice"));
                prefix.push_str(&format!("{part}-"));
            }
        }
        Ok(format!("{path}/{}", self.name))
    }

    /// Makes the scope, with the properties that annotations ask for.
    pub fn start(&self, id: &str, annotations: &BTreeMap<String, String>) -> Result<Keeper> {
        let asked = properties::of_annotations(annotations)?;
        let (keeper, pid) = keep()?;
        let text = |value: &str| Value::Text(value.to_owned());
        let io = if cgroup::is_unified()? { "IOAccounting" } else { "BlockIOAccounting" };
        let mut properties: Properties = vec![
            ("Description".into(), text(&format!("container {id}"))),
            ("Slice".into(), text(&self.slice)),
            ("Delegate".into(), Value::Bool(true)),
            ("PIDs".into(), Value::Numbers(vec![pid as u32])),
            // it ends when its container does, not before systemd shuts down what it thinks it depends on
            ("DefaultDependencies".into(), Value::Bool(false)),
        ];
        let accounted = ["MemoryAccounting", "CPUAccounting", "TasksAccounting", io];
        properties.extend(accounted.map(|name| (name.to_owned(), Value::Bool(true))));
        properties.extend(asked);
        let mut bus = self.bus()?;
        let mut start = || {
            let mut body = Writer::default();
            body.text(&self.name);
            body.text("replace");
            body.properties(&properties);
            // units beside it: none
            body.array(8, &[], |_, _: &()| {});
            bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
        };
        let job = match start() {
            Err(failure) if failure.kind == Kind::Conflict => {
                // one that has failed stays until it is looked at
                self.forget_failure(&mut self.bus()?);
                start()
            }
            result => result,
        }?;
        bus.await_job(&first_text(&job)?, &self.name)?;
        Ok(keeper)
    }

    pub fn set(&self, resources: &Resources) -> Result<()> {
        let properties = properties::limits(resources, cgroup::is_unified()?)?;
        let mut body = Writer::default();
        body.text(&self.name);
        // until it ends
        body.u32(1);
        body.properties(&properties);
        self.bus()?.call("SetUnitProperties", "sba(sv)", body).map(drop)
    }

    fn bus(&self) -> Result<Bus> {
        Bus::connect(&socket_of(!self.manager.is_empty()))
    }

    /// Puts a process into its cgroup, or into one below it (`/` or an absolute path): a user's own systemd asks the host's to
    /// where the process comes from a cgroup that is not the user's.
    pub fn attach(&self, below: &str, pid: i32) -> Result<()> {
        let mut body = Writer::default();
        body.text(&self.name);
        body.text(below);
        body.array(4, &[pid as u32], |writer, pid| writer.u32(*pid));
        self.bus()?.call("AttachProcessesToUnit", "ssau", body).map(drop)
    }

    pub fn is_users(&self) -> bool {
        !self.manager.is_empty()
    }

    /// Idempotent: systemd removes a scope by itself when its last process ends.
    pub fn stop(&self) -> Result<()> {
        let mut bus = self.bus()?;
        let mut body = Writer::default();
        body.text(&self.name);
        body.text("replace");
        match bus.call("StopUnit", "ss", body) {
            Ok(job) => bus.await_job(&first_text(&job)?, &self.name)?,
            Err(failure) if failure.kind == Kind::NotFound => {}
            Err(failure) => return Err(failure),
        }
        self.forget_failure(&mut bus);
        Ok(())
    }

    /// Most have none.
    fn forget_failure(&self, bus: &mut Bus) {
        let mut body = Writer::default();
        body.text(&self.name);
        let _ = bus.call("ResetFailedUnit", "s", body);
    }
}

fn first_text(body: &[u8]) -> Result<String> {
    let text = Reader { bytes: body, at: 0 }.text();
    text.ok_or_else(|| Failure::new(Kind::System, "systemd", "systemd's answer names no job"))
}

fn keep() -> Result<(Keeper, i32)> {
    let (wait, until) = pipe_with(PipeFlags::CLOEXEC).context("pipe", "")?;
    match clone3(0, None).context("clone3", "of the process that holds the scope")? {
        Cloned::Parent { pid, pidfd } => Ok((Keeper { pidfd, until: Some(until) }, pid)),
        Cloned::Child => {
            drop(until);
            let _ = rustix::io::read(&wait, &mut [0]);
            exit_now(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_scopes_in_nested_slices() {
        for (asked, path) in [
            ("", "/system.slice/caisson-runtime-id.scope"),
            (":docker:1", "/system.slice/docker-1.scope"),
            ("a-b.slice:cri:1", "/a.slice/a-b.slice/cri-1.scope"),
            ("-.slice::one", "/one.scope"),
        ] {
            assert_eq!(Unit::parse(asked, "id", "").unwrap().path().unwrap(), path, "{asked}");
        }
        let own = "/user.slice/user-1.slice/user@1.service";
        for (asked, path) in [("", "/user.slice/caisson-runtime-id.scope"), ("app.slice:p:n", "/app.slice/p-n.scope")] {
            assert_eq!(Unit::parse(asked, "id", own).unwrap().path().unwrap(), format!("{own}{path}"), "{asked}");
        }
        for asked in [
            "/a/b",
            "a:b",
            "a:b:c:d",
            "system.slice:p:",
            "system.slice:p:a/b",
            "system:p:n",
            ".slice:p:n",
            "a--b.slice:p:n",
            "-a.slice:p:n",
            "a/b.slice:p:n",
            "system.slice:p:n.slice",
        ] {
            assert!(Unit::parse(asked, "id", "").is_err(), "{asked}");
        }
    }
}
