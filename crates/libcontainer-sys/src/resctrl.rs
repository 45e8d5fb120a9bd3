//! Shares of the L3 cache and of memory bandwidth (`linux.intelRdt`): a group of the resctrl filesystem for each class of
//! service, with the processes that belong to it.

use crate::failure::{Context, Failure, Kind, Result};
use crate::spec::IntelRdt;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

const POINTER: &str = "/linux/intelRdt";
const ROOT: &str = "/sys/fs/resctrl";
/// RDTGROUP_SUPER_MAGIC of linux/magic.h.
const MAGIC: u64 = 0x0765_5821;
/// Directories of the filesystem's own.
const RESERVED: [&str; 5] = [".", "..", "info", "mon_groups", "mon_data"];

/// Where resctrl is mounted; nothing mounts it but the host's administrator.
fn root() -> Option<PathBuf> {
    let is_there = rustix::fs::statfs(ROOT).is_ok_and(|stat| stat.f_type as u64 == MAGIC);
    if is_there {
        return Some(ROOT.into());
    }
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    mounts.find_map(|mut fields| {
        let (target, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "resctrl").then(|| PathBuf::from(target))
    })
}

/// What is asked for makes sense, and this host can do it.
pub fn check(asked: &IntelRdt) -> Result<()> {
    check_at(asked, root().as_deref())
}

fn check_at(asked: &IntelRdt, root: Option<&Path>) -> Result<()> {
    let refuse = |field: &str, what: &str| {
        Err(Failure::new(Kind::Unsupported, "config", format!("{POINTER}{field}: {what} is not enabled on this host")))
    };
    let Some(root) = root else { return refuse("", "Intel RDT (the resctrl filesystem)") };
    let name = &asked.clos_id;
    if name.contains(['/', '\n']) || RESERVED.contains(&name.as_str()) {
        let message = format!("{POINTER}/closID: {name:?} is not a name that a class of service can have");
        return Err(Failure::invalid("config", message));
    }
    if !asked.l3_cache_schema.is_empty() && !root.join("info/L3").exists() {
        return refuse("/l3CacheSchema", "Intel RDT/CAT");
    }
    if !asked.mem_bw_schema.is_empty() && !root.join("info/MB").exists() {
        return refuse("/memBwSchema", "Intel RDT/MBA");
    }
    let monitored = monitored(root);
    if asked.enable_cmt && !monitored.cache {
        return refuse("/enableCMT", "Intel RDT/CMT");
    }
    if asked.enable_mbm && !monitored.bandwidth() {
        return refuse("/enableMBM", "Intel RDT/MBM");
    }
    Ok(())
}

/// What the hardware counts, for every group alike.
#[derive(Default)]
struct Monitored {
    cache: bool,
    total: bool,
    local: bool,
}

impl Monitored {
    fn bandwidth(&self) -> bool {
        self.total || self.local
    }
}

fn monitored(root: &Path) -> Monitored {
    let features = text(&root.join("info/L3_MON/mon_features")).unwrap_or_default();
    let has = |name: &str| features.lines().any(|line| line == name);
    Monitored { cache: has("llc_occupancy"), total: has("mbm_total_bytes"), local: has("mbm_local_bytes") }
}

/// The class of service of a container.
pub struct Group {
    root: PathBuf,
    path: PathBuf,
    asked: IntelRdt,
}

impl Group {
    /// None where nothing was asked for, or where resctrl has gone meanwhile.
    pub fn of(asked: Option<&IntelRdt>, id: &str) -> Option<Self> {
        asked.and_then(|asked| root().map(|root| Self::at(&root, asked, id)))
    }

    fn at(root: &Path, asked: &IntelRdt, id: &str) -> Self {
        let name = if asked.clos_id.is_empty() { id } else { &asked.clos_id };
        Self { root: root.into(), path: root.join(name), asked: asked.clone() }
    }

    /// Makes it, unless a class was named that somebody else has made, and writes its shares.
    pub fn create(&self) -> Result<()> {
        let schemata = schemata(&self.asked);
        if !self.asked.clos_id.is_empty() && schemata.is_empty() {
            let missing = format!("{POINTER}/closID: there is no class of service {:?}", self.asked.clos_id);
            return if self.path.is_dir() { Ok(()) } else { Err(Failure::new(Kind::NotFound, "config", missing)) };
        }
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            result => self.told(result.context("mkdir", self.path.display()))?,
        }
        if schemata.is_empty() { Ok(()) } else { self.write("schemata", &schemata) }
    }

    /// A process, which is in it with all that it will fork. Nothing where the group has gone.
    pub fn join(&self, pid: i32) -> Result<()> {
        if self.path.is_dir() { self.write("tasks", &pid.to_string()) } else { Ok(()) }
    }

    /// Processes that run already, with all their threads; again as long as others have come meanwhile.
    pub fn join_all(&self, pids: impl Fn() -> Result<Vec<i32>>) -> Result<()> {
        let mut moved = HashSet::new();
        loop {
            let threads = pids()?.into_iter().flat_map(threads_of);
            let fresh: Vec<i32> = threads.filter(|thread| moved.insert(*thread)).collect();
            if fresh.is_empty() {
                return Ok(());
            }
            for thread in fresh {
                match self.join(thread) {
                    Err(failure) if failure.errno == Some(libc::ESRCH) => {}
                    result => result?,
                }
            }
        }
    }

    /// A class that was named is others' too, and stays.
    pub fn remove(&self) -> Result<()> {
        if !self.asked.clos_id.is_empty() {
            return Ok(());
        }
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.context("rmdir", self.path.display()),
        }
    }

    fn write(&self, file: &str, content: &str) -> Result<()> {
        let path = self.path.join(file);
        self.told(fs::write(&path, content).context("write", path.display()))
    }

    /// The kernel's own words for what it has just refused are in a file.
    fn told(&self, result: Result<()>) -> Result<()> {
        result.map_err(|failure| match text(&self.root.join("info/last_cmd_status")) {
            Some(status) => Failure { message: format!("{failure} ({status})"), ..failure },
            None => failure,
        })
    }

    /// In the shape of runc's document.
    pub fn stats(&self) -> Value {
        let mut stats = Map::new();
        for (section, info, schema, numbers) in [
            ("L3", "l3_cache_info", "l3_cache_schema", ["min_cbm_bits", "num_closids"].as_slice()),
            ("MB", "mem_bw_info", "mem_bw_schema", &["bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids"]),
        ] {
            let dir = self.root.join("info").join(section);
            if !dir.exists() {
                continue;
            }
            let mut fields: Map<String, Value> =
                numbers.iter().map(|name| ((*name).to_owned(), json!(number(&dir.join(name))))).collect();
            if let Some(mask) = text(&dir.join("cbm_mask")) {
                fields.insert("cbm_mask".into(), json!(mask));
            }
            stats.insert(info.into(), Value::Object(fields));
            stats.insert(format!("{schema}_root"), json!(schema_line(&self.root, section)));
            stats.insert(schema.into(), json!(schema_line(&self.path, section)));
        }
        let monitored = monitored(&self.root);
        let mut domains: Vec<_> = fs::read_dir(self.path.join("mon_data"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        domains.sort();
        let counted = |list: &[(bool, &str)]| {
            let count = |dir: &PathBuf| {
                let present = list.iter().filter(|(present, _)| *present);
                present.map(|(_, name)| ((*name).to_owned(), json!(number(&dir.join(name))))).collect::<Map<_, _>>()
            };
            json!(domains.iter().map(count).collect::<Vec<_>>())
        };
        if monitored.bandwidth() {
            let names = [(monitored.total, "mbm_total_bytes"), (monitored.local, "mbm_local_bytes")];
            stats.insert("mbm_stats".into(), counted(&names));
        }
        if monitored.cache {
            stats.insert("cmt_stats".into(), counted(&[(true, "llc_occupancy")]));
        }
        Value::Object(stats)
    }
}

/// One write; the bandwidth has one line, its own before that in the cache's.
fn schemata(asked: &IntelRdt) -> String {
    let (cache, bandwidth) = (asked.l3_cache_schema.lines(), asked.mem_bw_schema.lines());
    let own = cache.filter(|line| asked.mem_bw_schema.is_empty() || !line.starts_with("MB:"));
    own.chain(bandwidth).map(|line| format!("{line}\n")).collect()
}

fn schema_line(group: &Path, section: &str) -> String {
    let schemata = text(&group.join("schemata")).unwrap_or_default();
    let of_section = |line: &&str| line.split(':').next() == Some(section);
    schemata.lines().map(str::trim).find(of_section).unwrap_or_default().to_owned()
}

fn threads_of(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: &Path) -> u64 {
    text(path).and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
