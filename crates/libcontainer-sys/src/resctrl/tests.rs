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
    assert_eq!(named.create().unwrap_err().message, "/linux/intelRdt/closID: there is no class of service \"gold\"");
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
