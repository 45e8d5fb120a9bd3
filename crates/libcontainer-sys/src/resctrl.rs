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
mod tests {
    use super::*;

    /// A directory with the files that resctrl has on a machine that can do everything.
    struct Host(PathBuf);

    impl Host {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("caisson-resctrl-{}-{name}", std::process::id()));
            let host = Self(root);
            for (path, content) in [
                ("info/last_cmd_status", "Mask out of range\n"),
                ("info/L3/cbm_mask", "7ff\n"),
                ("info/L3/min_cbm_bits", "1\n"),
                ("info/L3/num_closids", "16\n"),
                ("info/MB/bandwidth_gran", "10\n"),
                ("info/MB/delay_linear", "1\n"),
                ("info/MB/min_bandwidth", "10\n"),
                ("info/MB/num_closids", "8\n"),
                ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\n"),
                ("schemata", "    MB:0=100;1=100\n    L3:0=7ff;1=7ff\n"),
            ] {
                host.put(path, content);
            }
            host
        }

        fn put(&self, path: &str, content: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.0.join(path)).unwrap()
        }

        fn group(&self, asked: Value) -> Group {
            Group::at(&self.0, &serde_json::from_value(asked).unwrap(), "box")
        }

        fn refusal(&self, asked: Value) -> String {
            check_at(&serde_json::from_value(asked).unwrap(), Some(&self.0)).unwrap_err().message
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_group_of_its_own_has_the_shares_and_the_processes_and_goes() {
        let host = Host::new("own");
        let group = host.group(json!({"l3CacheSchema": "L3:0=7f0;1=1f", "memBwSchema": "MB:0=20;1=70"}));
        group.create().unwrap();
        group.join(4242).unwrap();
        assert_eq!(host.read("box/schemata"), "L3:0=7f0;1=1f\nMB:0=20;1=70\n");
        assert_eq!(host.read("box/tasks"), "4242");
        for file in ["schemata", "tasks"] {
            // the kernel's go with their directory
            fs::remove_file(host.0.join("box").join(file)).unwrap();
        }
        group.remove().unwrap();
        assert!(!host.0.join("box").exists());
        group.remove().expect("removed already");
        group.join(1).expect("gone");
    }

    #[test]
    fn processes_that_run_already_are_moved_with_their_threads() {
        let host = Host::new("threads");
        let group = host.group(json!({}));
        group.create().unwrap();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            let _ = wait.recv();
        });
        let of_thread = told.recv().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let asked = std::cell::Cell::new(0);
        let pids = || {
            asked.set(asked.get() + 1);
            Ok(vec![own])
        };
        assert!(threads_of(own).contains(&of_thread));
        group.join_all(pids).unwrap();
        drop(end);
        thread.join().unwrap();
        assert!(asked.get() >= 2, "asked until nobody else has come");
    }

    #[test]
    fn without_shares_the_group_has_those_of_the_kernel() {
        let host = Host::new("bare");
        host.group(json!({})).create().unwrap();
        assert!(host.0.join("box").is_dir());
        assert!(!host.0.join("box/schemata").exists());
    }

    #[test]
    fn the_line_of_the_bandwidth_is_its_own() {
        let host = Host::new("lines");
        let asked = json!({"l3CacheSchema": "L3:0=f\nMB:0=50", "memBwSchema": "MB:0=20"});
        host.group(asked).create().unwrap();
        assert_eq!(host.read("box/schemata"), "L3:0=f\nMB:0=20\n");
        host.group(json!({"l3CacheSchema": "L3:0=f\nMB:0=50"})).create().unwrap();
        assert_eq!(host.read("box/schemata"), "L3:0=f\nMB:0=50\n");
    }

    #[test]
    fn a_class_that_is_named_must_be_there_and_stays() {
        let host = Host::new("class");
        let named = host.group(json!({"closID": "gold"}));
        assert_eq!(
            named.create().unwrap_err().message,
            "/linux/intelRdt/closID: there is no class of service \"gold\""
        );
        host.group(json!({"closID": "gold", "l3CacheSchema": "L3:0=f"})).create().unwrap();
        assert_eq!(host.read("gold/schemata"), "L3:0=f\n");
        named.create().unwrap();
        named.join(7).unwrap();
        assert_eq!(host.read("gold/tasks"), "7");
        named.remove().unwrap();
        assert!(host.0.join("gold").is_dir());
        assert!(!host.0.join("box").exists());
    }

    #[test]
    fn what_the_host_has_not_is_refused_by_its_pointer() {
        let host = Host::new("poor");
        let asked: IntelRdt = serde_json::from_value(
            json!({"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=10", "enableCMT": true, "enableMBM": true}),
        )
        .unwrap();
        check_at(&asked, Some(&host.0)).unwrap();
        let refusal = check_at(&asked, None).unwrap_err();
        assert_eq!(refusal.kind, Kind::Unsupported);
        assert!(refusal.message.starts_with("/linux/intelRdt: "), "{refusal}");
        for dir in ["L3", "MB", "L3_MON"] {
            fs::remove_dir_all(host.0.join("info").join(dir)).unwrap();
        }
        for (asked, pointer) in [
            (json!({"l3CacheSchema": "L3:0=f"}), "/linux/intelRdt/l3CacheSchema: "),
            (json!({"memBwSchema": "MB:0=10"}), "/linux/intelRdt/memBwSchema: "),
            (json!({"enableCMT": true}), "/linux/intelRdt/enableCMT: "),
            (json!({"enableMBM": true}), "/linux/intelRdt/enableMBM: "),
            (json!({"closID": "a/b"}), "/linux/intelRdt/closID: "),
            (json!({"closID": ".."}), "/linux/intelRdt/closID: "),
            (json!({"closID": "info"}), "/linux/intelRdt/closID: "),
        ] {
            let refusal = host.refusal(asked);
            assert!(refusal.starts_with(pointer), "{refusal}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_kernels_words() {
        let host = Host::new("words");
        let group = host.group(json!({"l3CacheSchema": "L3:0=fffff"}));
        fs::create_dir_all(host.0.join("box/schemata")).unwrap();
        let message = group.create().unwrap_err().message;
        assert!(message.ends_with("box/schemata: is a directory (Mask out of range)"), "{message}");
    }

    #[test]
    fn what_it_uses_is_told_as_runc_does() {
        let host = Host::new("stats");
        host.put("box/schemata", "    MB:0= 20;1= 70\n    L3:0=7f0;1=01f\n");
        for (domain, cache, bandwidth) in [("mon_L3_00", "9371648\n", "9507\n"), ("mon_L3_01", "0\n", "1\n")] {
            host.put(&format!("box/mon_data/{domain}/llc_occupancy"), cache);
            host.put(&format!("box/mon_data/{domain}/mbm_total_bytes"), bandwidth);
        }
        let stats = host.group(json!({})).stats();
        assert_eq!(
            stats,
            json!({
                "l3_cache_info": {"cbm_mask": "7ff", "min_cbm_bits": 1, "num_closids": 16},
                "l3_cache_schema_root": "L3:0=7ff;1=7ff",
                "l3_cache_schema": "L3:0=7f0;1=01f",
                "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
                "mem_bw_schema_root": "MB:0=100;1=100",
                "mem_bw_schema": "MB:0= 20;1= 70",
                "mbm_stats": [{"mbm_total_bytes": 9507}, {"mbm_total_bytes": 1}],
                "cmt_stats": [{"llc_occupancy": 9371648}, {"llc_occupancy": 0}],
            })
        );
    }
}
