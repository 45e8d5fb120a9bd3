//! The systemd cgroup driver (`--systemd-cgroup`): a container's cgroup is that of a transient scope, which systemd makes,
//! shows (`systemctl status`) and removes. All limits are written to the cgroup as well: systemd does not know them all.

mod bus;
mod properties;
mod wire;

use crate::cgroup;
use crate::failure::{Context, Failure, Kind, Result};
use crate::spec::Resources;
use crate::sys::clone::{Cloned, clone3, exit_now};
use bus::Bus;
use properties::Properties;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use wire::{Reader, Value, Writer};

const SOCKET: &str = "/run/systemd/private";

/// The scope of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    name: String,
    slice: String,
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
    if !rustix::process::geteuid().is_root() {
        return refuse("a user's own systemd is not supported by this version of caisson");
    }
    Ok(())
}

impl Unit {
    /// `slice:prefix:name`; without a slice it is `system.slice`. Nothing asked for: a name of the container's id.
    pub fn parse(asked: &str, id: &str) -> Result<Unit> {
        let wrong = |why: &str| Err(Failure::invalid("cgroup", format!("/linux/cgroupsPath: {asked:?}: {why}")));
        if asked.is_empty() {
            return Ok(Unit { name: format!("caisson-runtime-{id}.scope"), slice: "system.slice".into() });
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
        let unit = Unit { name, slice: if slice.is_empty() { "system.slice".into() } else { slice.to_owned() } };
        unit.path().map(|_| unit)
    }

    /// Its cgroup. A slice's name says what it lies in: `a-b.slice` is `/a.slice/a-b.slice`.
    pub fn path(&self) -> Result<String> {
        let wrong = || Failure::invalid("cgroup", format!("/linux/cgroupsPath: invalid slice name: {:?}", self.slice));
        let slice = self.slice.strip_suffix(".slice").ok_or_else(wrong)?;
        let mut path = String::new();
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
        let mut bus = Bus::connect(Path::new(SOCKET))?;
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
                self.forget_failure(&mut Bus::connect(Path::new(SOCKET))?);
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
        Bus::connect(Path::new(SOCKET))?.call("SetUnitProperties", "sba(sv)", body).map(drop)
    }

    /// Idempotent: systemd removes a scope by itself when its last process ends.
    pub fn stop(&self) -> Result<()> {
        let mut bus = Bus::connect(Path::new(SOCKET))?;
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
            assert_eq!(Unit::parse(asked, "id").unwrap().path().unwrap(), path, "{asked}");
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
            assert!(Unit::parse(asked, "id").is_err(), "{asked}");
        }
    }
}
