//! Limits as properties of a systemd unit: systemd writes its own values again whenever it likes, and so must know ours.

use super::wire::Value;
use crate::cgroup::{self, devices};
use crate::failure::{Failure, Result};
use crate::spec::{Cpu, DeviceRule, Resources};

pub type Properties = Vec<(String, Value)>;

/// Of v1, in microseconds: what a quota is counted in when nothing else was asked for.
const DEFAULT_PERIOD: u64 = 100_000;

/// Of those that systemd has; all are written to the cgroup as well.
pub fn limits(resources: &Resources, unified: bool) -> Result<Properties> {
    let mut found = Properties::new();
    let mut add = |name: &str, value: Value| found.push((name.to_owned(), value));
    // -1, no limit, becomes systemd's infinity
    let unsigned = |number: i64| Value::U64(number as u64);
    let asked = |number: Option<i64>| number.filter(|number| *number != 0);
    let memory = &resources.memory;
    if let Some(limit) = asked(memory.limit) {
        add(if unified { "MemoryMax" } else { "MemoryLimit" }, unsigned(limit));
    }
    if unified {
        if let Some(reservation) = asked(memory.reservation) {
            add("MemoryLow", unsigned(reservation));
        }
        match (asked(memory.limit), asked(memory.swap)) {
            (_, Some(-1)) | (Some(-1), None) => add("MemorySwapMax", unsigned(-1)),
            (Some(limit @ 1..), Some(swap)) if swap >= limit => add("MemorySwapMax", unsigned(swap - limit)),
            _ => {}
        }
    }
    let shares = resources.cpu.shares.filter(|shares| *shares != 0);
    match (shares, unified) {
        (Some(shares), true) => add("CPUWeight", Value::U64(cgroup::v2::cpu_weight(shares))),
        (Some(shares), false) => add("CPUShares", Value::U64(shares)),
        (None, _) => {}
    }
    if let (Some(weight), false) = (resources.block_io.weight.filter(|weight| *weight != 0), unified) {
        add("BlockIOWeight", Value::U64(weight.into()));
    }
    if let Some(pids) = resources.pids.as_ref().filter(|pids| pids.limit != 0) {
        add("TasksMax", unsigned(pids.limit.max(-1)));
    }
    found.extend(quota(&resources.cpu));
    for (name, list) in [("AllowedCPUs", &resources.cpu.cpus), ("AllowedMemoryNodes", &resources.cpu.mems)] {
        if !list.is_empty() {
            found.push((name.to_owned(), Value::Bytes(bits(list)?)));
        }
    }
    for (file, value) in &resources.unified {
        found.extend(of_file(file, value.trim())?);
    }
    found.extend(device_list(&resources.devices)?);
    Ok(found)
}

fn quota(cpu: &Cpu) -> Properties {
    let (quota, period) = (cpu.quota.filter(|v| *v != 0), cpu.period.filter(|v| *v != 0));
    let mut found = Properties::new();
    if let Some(period) = period {
        found.push(("CPUQuotaPeriodUSec".into(), Value::U64(period)));
    }
    if let Some(quota) = quota {
        // systemd counts in whole per cent of a CPU
        let per_second = match u64::try_from(quota) {
            Ok(quota) => (quota * 1_000_000 / period.unwrap_or(DEFAULT_PERIOD)).next_multiple_of(10_000),
            Err(_) => u64::MAX,
        };
        found.push(("CPUQuotaPerSecUSec".into(), Value::U64(per_second)));
    }
    found
}

/// A file of cgroup v2 that `unified` names; empty: systemd has no property for it.
fn of_file(file: &str, value: &str) -> Result<Properties> {
    let wrong = || Failure::invalid("cgroup", format!("/linux/resources/unified/{file}: {value:?} is not a limit"));
    let number = |word: &str| if word == "max" { Ok(u64::MAX) } else { word.parse().map_err(|_| wrong()) };
    let name = match file {
        "memory.min" => "MemoryMin",
        "memory.low" => "MemoryLow",
        "memory.high" => "MemoryHigh",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "cpuset.cpus" => return Ok(vec![("AllowedCPUs".into(), Value::Bytes(bits(value)?))]),
        "cpuset.mems" => return Ok(vec![("AllowedMemoryNodes".into(), Value::Bytes(bits(value)?))]),
        "cpu.max" => {
            let (first, second) = value.split_once(' ').unwrap_or((value, ""));
            let amount = if first == "max" { -1 } else { first.parse().map_err(|_| wrong())? };
            let period = if second.is_empty() { DEFAULT_PERIOD } else { number(second.trim())? };
            return Ok(quota(&Cpu { quota: Some(amount), period: Some(period), ..Cpu::default() }));
        }
        _ => return Ok(Properties::new()),
    };
    Ok(vec![(name.into(), Value::U64(number(value)?))])
}

/// `0-2,5`: bit by bit, the lowest first.
fn bits(list: &str) -> Result<Vec<u8>> {
    let wrong = || Failure::invalid("cgroup", format!("{list:?} is not a list of CPUs or memory nodes"));
    let mut found = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |word: &str| word.parse::<usize>().ok().filter(|number| *number < 1 << 16).ok_or_else(wrong);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        found.resize(found.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|bit| found[bit / 8] |= 1 << (bit % 8));
    }
    if found.is_empty() { Err(wrong()) } else { Ok(found) }
}

/// systemd only knows lists of what is allowed. Ours stands beside it and is the narrower one where rules are of another kind.
fn device_list(asked: &[DeviceRule]) -> Result<Properties> {
    if asked.is_empty() {
        return Ok(Properties::new());
    }
    let (mut open, mut list) = (false, Vec::new());
    for rule in devices::effective(asked)? {
        let group = if rule.kind == 'b' { "block" } else { "char" };
        let entry = match (rule.major, rule.minor) {
            _ if rule.is_everything() => {
                open = rule.allow;
                list.clear();
                continue;
            }
            _ if !rule.allow => continue,
            (None, None) => format!("{group}-*"),
            (Some(major), None) => format!("{group}-{major}"),
            (Some(major), Some(minor)) => format!("/dev/{group}/{major}:{minor}"),
            // cannot be said
            (None, Some(_)) => {
                open = true;
                continue;
            }
        };
        list.push((entry, rule.access));
    }
    if open {
        list.clear();
    }
    let policy = if open { "auto" } else { "strict" };
    Ok(vec![
        // an empty list takes back what was said before
        ("DeviceAllow".into(), Value::Pairs(Vec::new())),
        ("DevicePolicy".into(), Value::Text(policy.into())),
        ("DeviceAllow".into(), Value::Pairs(list)),
    ])
}

/// `org.systemd.property.NAME` of a container's annotations, with values in GVariant's text format as runc takes them.
pub fn of_annotations<'a>(annotations: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<Properties> {
    let mut found = Properties::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix("org.systemd.property.") else { continue };
        let wrong = |why: &str| Failure::invalid("config", format!("/annotations/{key}: {text:?}: {why}"));
        if name.len() < 3 || !name.chars().all(|c| c.is_ascii_alphabetic()) {
            return Err(wrong("a property's name has three letters or more, and nothing else"));
        }
        let value =
            value(text.trim()).ok_or_else(|| wrong("is not a value: true, 5, uint64 5, 'text' and ['text'] are"))?;
        found.push(match name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase())) {
            // documented in seconds, and set in microseconds
            Some(stem) => {
                let seconds = match value {
                    Value::I32(number) => u64::try_from(number).ok(),
                    Value::I64(number) => u64::try_from(number).ok(),
                    Value::U32(number) => Some(number.into()),
                    Value::U64(number) => Some(number),
                    _ => None,
                };
                let microseconds = seconds.and_then(|seconds| seconds.checked_mul(1_000_000));
                (format!("{stem}USec"), Value::U64(microseconds.ok_or_else(|| wrong("is not a number of seconds"))?))
            }
            None => (name.to_owned(), value),
        });
    }
    Ok(found)
}

fn value(text: &str) -> Option<Value> {
    let quoted = |text: &str| {
        let inner = ['\'', '"'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))?;
        (!inner.contains(['\'', '"', '\\'])).then(|| inner.to_owned())
    };
    if let Some(list) = text.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        return list.split(',').map(|item| quoted(item.trim())).collect::<Option<Vec<_>>>().map(Value::Texts);
    }
    match text.split_once(' ') {
        Some(("int32", number)) => number.trim().parse().ok().map(Value::I32),
        Some(("uint32", number)) => number.trim().parse().ok().map(Value::U32),
        Some(("int64", number)) => number.trim().parse().ok().map(Value::I64),
        Some(("uint64", number)) => number.trim().parse().ok().map(Value::U64),
        _ => match text {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            text => text.parse().ok().map(Value::I32).or_else(|| quoted(text).map(Value::Text)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(resources: serde_json::Value, unified: bool) -> Vec<String> {
        let resources = serde_json::from_value(resources).unwrap();
        limits(&resources, unified).unwrap().iter().map(|(name, value)| format!("{name} {value:?}")).collect()
    }

    #[test]
    fn limits_have_systemds_names_in_both_versions() {
        let asked = json!({"memory": {"limit": 1000, "swap": 3000}, "pids": {"limit": -1},
            "cpu": {"shares": 1024, "quota": 4501, "period": 10000, "cpus": "0-2,9"}, "blockIO": {"weight": 10}});
        let quota = ["CPUQuotaPeriodUSec U64(10000)", "CPUQuotaPerSecUSec U64(460000)", "AllowedCPUs Bytes([7, 2])"];
        let (most, infinity) = ("TasksMax U64(18446744073709551615)", "18446744073709551615");
        let v2 = ["MemoryMax U64(1000)", "MemorySwapMax U64(2000)", "CPUWeight U64(100)", most];
        assert_eq!(told(asked.clone(), true), [&v2[..], &quota].concat());
        let v1 = ["MemoryLimit U64(1000)", "CPUShares U64(1024)", "BlockIOWeight U64(10)", most];
        assert_eq!(told(asked, false), [&v1[..], &quota].concat());
        let unified = json!({"unified": {"memory.high": "5", "cpu.max": "max 1000", "memory.oom.group": "1"}});
        let period = "CPUQuotaPeriodUSec U64(1000)".to_owned();
        assert_eq!(
            told(unified, true),
            [period, format!("CPUQuotaPerSecUSec U64({infinity})"), "MemoryHigh U64(5)".into()]
        );
    }

    #[test]
    fn devices_become_a_list_of_what_is_allowed() {
        let list = |rules: serde_json::Value| told(json!({"devices": rules}), true)[1..].join("; ");
        let closed =
            list(json!([{"allow": false}, {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"}]));
        assert!(
            closed.starts_with("DevicePolicy Text(\"strict\"); DeviceAllow Pairs([(\"/dev/block/8:0\", \"r\")"),
            "{closed}"
        );
        assert!(closed.contains("(\"char-136\", \"rwm\")") && closed.contains("(\"block-*\", \"m\")"), "{closed}");
        let open = "DevicePolicy Text(\"auto\"); DeviceAllow Pairs([])";
        assert_eq!(list(json!([{"allow": true}])), open);
        assert_eq!(list(json!([{"allow": false}, {"allow": true, "type": "c", "minor": 3}])), open);
    }

    #[test]
    fn annotations_are_properties() {
        let read =
            |name: &str, text: &str| of_annotations([(&format!("org.systemd.property.{name}"), &text.to_owned())]);
        for (name, text, expected) in [
            ("TimeoutStopUSec", "uint64 5", ("TimeoutStopUSec", Value::U64(5))),
            ("TimeoutStopSec", "9", ("TimeoutStopUSec", Value::U64(9_000_000))),
            ("CollectMode", "'inactive-or-failed'", ("CollectMode", Value::Text("inactive-or-failed".into()))),
            (
                "After",
                "['a.service', 'b.service']",
                ("After", Value::Texts(vec!["a.service".into(), "b.service".into()])),
            ),
            ("Sec", "true", ("Sec", Value::Bool(true))),
        ] {
            assert_eq!(read(name, text).unwrap(), [(expected.0.to_owned(), expected.1)]);
        }
        for (name, text) in [("Ab", "1"), ("A1b", "1"), ("Name", "nothing"), ("StopSec", "-1"), ("List", "[1]")] {
            assert!(read(name, text).is_err(), "{name} {text}");
        }
        assert_eq!(of_annotations([(&"other".to_owned(), &"x".to_owned())]).unwrap(), []);
    }
}
