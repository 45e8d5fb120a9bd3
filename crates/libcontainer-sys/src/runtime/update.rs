//! `update`: other limits for a running container, from a file or from single options.

use super::args::{Args, Known};
use super::state::{State, Status};
use crate::failure::{Context, Failure, Kind, Result};
use crate::resctrl;
use crate::spec::{self, IntelRdt, Resources};
use serde_json::{Map, Value, json};
use std::fs;
use std::io::Read;
use std::path::Path;

const OPTIONS: [Known; 17] = [
    ("resources", "r", true),
    ("blkio-weight", "", true),
    ("cpu-period", "", true),
    ("cpu-quota", "", true),
    ("cpu-burst", "", true),
    ("cpu-share", "", true),
    ("cpu-rt-period", "", true),
    ("cpu-rt-runtime", "", true),
    ("cpu-idle", "", true),
    ("cpuset-cpus", "", true),
    ("cpuset-mems", "", true),
    ("memory", "", true),
    ("memory-reservation", "", true),
    ("memory-swap", "", true),
    ("pids-limit", "", true),
    ("l3-cache-schema", "", true),
    ("mem-bw-schema", "", true),
];

/// Option, section and field of the specification, kind of value.
const FIELDS: [(&str, &str, &str, Shape); 14] = [
    ("blkio-weight", "blockIO", "weight", Shape::Number),
    ("cpu-period", "cpu", "period", Shape::Number),
    ("cpu-quota", "cpu", "quota", Shape::Number),
    ("cpu-burst", "cpu", "burst", Shape::Number),
    ("cpu-share", "cpu", "shares", Shape::Number),
    ("cpu-rt-period", "cpu", "realtimePeriod", Shape::Number),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime", Shape::Number),
    ("cpu-idle", "cpu", "idle", Shape::Number),
    ("cpuset-cpus", "cpu", "cpus", Shape::Text),
    ("cpuset-mems", "cpu", "mems", Shape::Text),
    ("memory", "memory", "limit", Shape::Bytes),
    ("memory-reservation", "memory", "reservation", Shape::Bytes),
    ("memory-swap", "memory", "swap", Shape::Bytes),
    ("pids-limit", "pids", "limit", Shape::Number),
];

/// Shares of the class of service: of the cache and of the bandwidth.
const CLASS_OPTIONS: [&str; 2] = ["l3-cache-schema", "mem-bw-schema"];

#[derive(Clone, Copy)]
enum Shape {
    Number,
    Bytes,
    Text,
}

pub fn update(root: &Path, words: Vec<String>) -> Result<i32> {
    let args = Args::parse(words, &OPTIONS)?;
    let id = args.id(false)?;
    let mut state = State::load(root, id)?;
    if state.status(root) == Status::Stopped {
        return Err(Failure::new(Kind::Conflict, "update", format!("cannot update container {id}: it is stopped")));
    }
    let class = class_asked_for(&state, &args)?;
    let (changes, resources): (Value, Resources) = match args.value("resources") {
        Some(path) => spec::read(&content(path)?, path)?,
        None => spec::read(from_options(&args)?.to_string().as_bytes(), "options")?,
    };
    super::create::warn_of_ignored(&resources.memory);
    state.place()?.set(&resources)?;
    merge(&mut state.config["linux"]["resources"], &changes);
    if let Some(asked) = class {
        set_class(&mut state, &asked)?;
    }
    state.save(&super::state::directory(root, id))?;
    Ok(0)
}

/// The container's class of service with its other shares. None: they are not to change.
fn class_asked_for(state: &State, args: &Args) -> Result<Option<IntelRdt>> {
    let Some(option) = CLASS_OPTIONS.into_iter().find(|name| args.value(name).is_some()) else { return Ok(None) };
    let mut asked = state.intel_rdt()?.unwrap_or_default();
    for (name, field) in CLASS_OPTIONS.into_iter().zip([&mut asked.l3_cache_schema, &mut asked.mem_bw_schema]) {
        if let Some(schema) = args.value(name) {
            schema.clone_into(field);
        }
    }
    let named = |failure: Failure| Failure { message: format!("--{option}: {failure}"), ..failure };
    resctrl::check(&asked).map_err(named)?;
    Ok(Some(asked))
}

fn set_class(state: &mut State, asked: &IntelRdt) -> Result<()> {
    let is_in_one = state.intel_rdt()?.is_some();
    let changes = json!({"l3CacheSchema": asked.l3_cache_schema, "memBwSchema": asked.mem_bw_schema});
    merge(&mut state.config["linux"]["intelRdt"], &changes);
    let place = state.place()?;
    let Some(class) = &place.class else { return Ok(()) };
    class.create()?;
    if is_in_one { Ok(()) } else { class.join_all(|| place.group.pids()) }
}

fn content(path: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match path {
        "-" => std::io::stdin().read_to_end(&mut bytes).context("read", "stdin")?,
        path => fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).context("read", path)?,
    };
    Ok(bytes)
}

fn from_options(args: &Args) -> Result<Value> {
    let mut sections = Map::new();
    for (option, section, field, kind) in FIELDS {
        let Some(word) = args.value(option) else { continue };
        let value = match kind {
            Shape::Text => json!(word),
            Shape::Number => json!(number(option, word)?),
            Shape::Bytes => json!(bytes(option, word)?),
        };
        sections.entry(section).or_insert_with(|| json!({}))[field] = value;
    }
    match sections.is_empty() && CLASS_OPTIONS.into_iter().all(|name| args.value(name).is_none()) {
        true => Err(Failure::invalid("update", "no limit was given: --resources, or options of their own")),
        false => Ok(Value::Object(sections)),
    }
}

fn number(option: &str, word: &str) -> Result<i64> {
    word.parse().map_err(|_| Failure::invalid("update", format!("--{option}: {word:?} is not a number")))
}

/// `64m`, `1.5GiB`, or a plain number; -1 is no limit.
fn bytes(option: &str, word: &str) -> Result<i64> {
    let wrong = || Failure::invalid("update", format!("--{option}: {word:?} is not a size"));
    if let Ok(number) = word.parse::<i64>() {
        return Ok(number);
    }
    let lower = word.to_ascii_lowercase();
    let unit_at = lower.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (digits, unit) = lower.split_at(unit_at);
    let unit = unit.trim_end_matches('b').trim_end_matches('i');
    let shift = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit.trim()).ok_or_else(wrong)?;
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    Ok((number * f64::from(1024_u32).powi(shift as i32)) as i64)
}

/// Objects field by field, all else replaced: what `state` and a later exec go by.
fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(into.entry(key).or_insert(Value::Null), change);
            }
        }
        (into, change) => change.clone_into(into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_docker_writes_them() {
        for (word, value) in
            [("-1", -1), ("4096", 4096), ("64m", 64 << 20), ("1.5GiB", 3 << 29), ("2kb", 2048), ("10B", 10)]
        {
            assert_eq!(bytes("memory", word).unwrap(), value, "{word}");
        }
        for word in ["", "m", "1x", "1.2.3k", "--1"] {
            assert!(bytes("memory", word).is_err(), "{word}");
        }
    }

    #[test]
    fn options_become_the_document() {
        let words = ["--cpu-share", "100", "--memory=64m", "id"].map(str::to_owned).to_vec();
        let document = from_options(&Args::parse(words, &OPTIONS).unwrap()).unwrap();
        assert_eq!(document, json!({"cpu": {"shares": 100}, "memory": {"limit": 67108864}}));
    }
}
