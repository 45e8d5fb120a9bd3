//! What is known of a container between two calls of the command line.

use super::place::Place;
use super::systemd::Unit;
use crate::cgroup::{self, Cgroup};
use crate::container::start_time;
use crate::failure::{Context, Failure, Kind, Result};
use crate::resctrl;
use crate::spec::{Identity, IntelRdt, Spec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub id: String,
    pub pid: i32,
    pub start_time: u64,
    pub bundle: PathBuf,
    pub created: String,
    pub cgroup: String,
    /// Of systemd's driver.
    #[serde(default)]
    pub unit: Option<Unit>,
    /// config.json as it was at `create`.
    pub config: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// An id becomes a file name and part of a cgroup's path.
pub fn check_id(id: &str) -> Result<()> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if id.is_empty() || id == "." || id == ".." || id.len() > 255 || !id.chars().all(valid) {
        return Err(Failure::invalid(
            "id",
            format!("invalid container ID format: {id:?}: letters, digits and _ + - . are allowed"),
        ));
    }
    Ok(())
}

pub fn directory(root: &Path, id: &str) -> PathBuf {
    root.join(id)
}

pub fn start_socket(root: &Path, id: &str) -> PathBuf {
    directory(root, id).join("start.sock")
}

/// Claims the id: fails when it is taken.
pub fn make_directory(root: &Path, id: &str) -> Result<PathBuf> {
    check_id(id)?;
    fs::DirBuilder::new().recursive(true).mode(0o711).create(root).context("mkdir", root.display())?;
    let dir = directory(root, id);
    match fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Failure::new(Kind::Conflict, "create", format!("container with id {id} exists already")))
        }
        result => result.context("mkdir", dir.display()).map(|()| dir),
    }
}

impl State {
    pub fn load(root: &Path, id: &str) -> Result<State> {
        check_id(id)?;
        let path = directory(root, id).join("state.json");
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Failure::new(Kind::NotFound, "state", format!("container {id} does not exist"))
            }
            _ => Failure::io("read", path.display(), error),
        })?;
        serde_json::from_slice(&bytes).map_err(|error| Failure::new(Kind::Corrupt, "state", error.to_string()))
    }

    /// Whole or not at all.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let (path, temporary) = (dir.join("state.json"), dir.join("state.json.new"));
        let bytes = serde_json::to_vec(self).map_err(|error| Failure::invalid("state", error.to_string()))?;
        fs::write(&temporary, bytes).context("write", temporary.display())?;
        fs::rename(&temporary, &path).context("rename to", path.display())
    }

    pub fn spec(&self) -> Result<Spec> {
        Spec::deserialize(&self.config).map_err(|error| Failure::new(Kind::Corrupt, "state", error.to_string()))
    }

    /// Without the rest of the specification, which a `delete` must not stumble over.
    pub fn intel_rdt(&self) -> Result<Option<IntelRdt>> {
        Option::deserialize(&self.config["linux"]["intelRdt"])
            .map_err(|error| Failure::new(Kind::Corrupt, "state", error.to_string()))
    }

    pub fn identity(&self) -> Identity {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let annotations = self.config["annotations"].as_object();
        Identity {
            id: self.id.clone(),
            bundle: self.bundle.to_string_lossy().into_owned(),
            annotations: annotations.into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect(),
        }
    }

    pub fn group(&self) -> Result<Box<dyn Cgroup>> {
        cgroup::open(&self.cgroup)
    }

    pub fn place(&self) -> Result<Place> {
        let class = resctrl::Group::of(self.intel_rdt()?.as_ref(), &self.id);
        Ok(Place { group: self.group()?, unit: self.unit.clone(), class })
    }

    /// The exact process that was created, not a later one with its number. None: it has ended.
    pub fn init(&self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        let same = start_time(self.pid).is_ok_and(|time| time == self.start_time);
        (same && !is_zombie(self.pid)).then_some(pidfd)
    }

    pub fn status(&self, root: &Path) -> Status {
        if self.init().is_none() {
            return Status::Stopped;
        }
        if start_socket(root, &self.id).exists() {
            return Status::Created;
        }
        if self.is_frozen() { Status::Paused } else { Status::Running }
    }

    fn is_frozen(&self) -> bool {
        self.group().and_then(|group| group.is_frozen()).unwrap_or(false)
    }

    pub fn listed(&self, root: &Path) -> Listed {
        let status = self.status(root);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Listed {
            oci_version: crate::spec::VERSION,
            id: self.id.clone(),
            pid: if status == Status::Stopped { 0 } else { self.pid },
            status: status.name(),
            bundle: text(&self.bundle),
            rootfs: text(&self.bundle.join(self.config["root"]["path"].as_str().unwrap_or_default())),
            created: self.created.clone(),
            annotations: self.identity().annotations,
            owner: String::new(),
        }
    }
}

/// The specification's `state` and what runc adds to it, in runc's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub oci_version: &'static str,
    pub id: String,
    pub pid: i32,
    pub status: &'static str,
    pub bundle: String,
    pub rootfs: String,
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    pub owner: String,
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// RFC 3339 in UTC.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // civil date of a day number (Howard Hinnant's algorithm), with years that begin in March
    let shifted = days as i64 + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_would_leave_the_directory_are_refused() {
        for id in ["", ".", "..", "a/b", "../x", "a b", "a\n"] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        assert!(check_id("web-1_a.b+c").is_ok());
    }
}
