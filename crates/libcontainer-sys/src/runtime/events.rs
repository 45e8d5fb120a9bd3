//! `events`: what a container uses, and when the kernel kills in it for want of memory, as lines of JSON.

use super::args::{Args, Known};
use super::place::Place;
use super::state::{State, Status};
use crate::cgroup::Stats;
use crate::failure::{Context, Failure, Kind, Result};
use crate::resctrl;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use serde_json::{Value, json};
use std::os::fd::AsFd;
use std::path::Path;

const OPTIONS: [Known; 2] = [("stats", "", false), ("interval", "", true)];

pub fn events(root: &Path, words: Vec<String>) -> Result<i32> {
    let args = Args::parse(words, &OPTIONS)?;
    let id = args.id(false)?;
    let state = State::load(root, id)?;
    let interval = seconds(args.value("interval").unwrap_or("5s"))?;
    if state.status(root) == Status::Stopped {
        return Err(Failure::new(Kind::Conflict, "events", format!("container with id {id} is not running")));
    }
    let place = state.place()?;
    if args.has("stats") {
        tell(id, "stats", Some(document(&place)?));
        return Ok(0);
    }
    follow(&state, id, &place, interval)
}

/// Until init ends.
fn follow(state: &State, id: &str, place: &Place, interval: Timespec) -> Result<i32> {
    let Some(init) = state.init() else { return Ok(0) };
    let group = place.group.as_ref();
    let oom = group.oom_event()?;
    let mut seen = group.oom_kills();
    loop {
        let mut fds = vec![PollFd::new(&init, PollFlags::IN)];
        fds.extend(oom.as_ref().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
        let ready = poll(&mut fds, Some(&interval)).context("poll", "events")?;
        if !fds[0].revents().is_empty() {
            return Ok(0);
        }
        if ready == 0 {
            tell(id, "stats", Some(document(place)?));
        } else if let Some(fd) = &oom {
            rustix::io::read(fd, &mut [0; 4096]).context("read", "oom event")?;
            if group.oom_happened(&mut seen) {
                tell(id, "oom", None);
            }
        }
    }
}

fn tell(id: &str, kind: &str, data: Option<Value>) {
    let data = data.map_or(String::new(), |data| format!(",\"data\":{data}"));
    println!("{{\"type\":\"{kind}\",\"id\":\"{id}\"{data}}}");
}

/// `500ms`, `5s`, `1m`.
fn seconds(word: &str) -> Result<Timespec> {
    let wrong = || Failure::invalid("events", format!("--interval: {word:?} is not a duration above 0"));
    let unit_at = word.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let factor = match &word[unit_at..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let seconds = word[..unit_at].parse::<f64>().map_err(|_| wrong())? * factor;
    if seconds <= 0.0 {
        return Err(wrong());
    }
    Ok(Timespec { tv_sec: seconds as i64, tv_nsec: (seconds.fract() * 1e9) as _ })
}

/// In the shape of runc's document.
fn document(place: &Place) -> Result<Value> {
    let mut document = stats(&place.group.stats()?);
    document["intel_rdt"] = place.class.as_ref().map_or_else(|| json!({}), resctrl::Group::stats);
    Ok(document)
}

fn stats(stats: &Stats) -> Value {
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    let entry = |limit: u64, usage: u64, max: u64, failcnt: u64| json!({"limit": limit, "usage": usage, "max": max, "failcnt": failcnt});
    let blkio = |key: &str| {
        let entries = stats.blkio.get(key).into_iter().flatten();
        entries.map(|e| json!({"major": e.major, "minor": e.minor, "op": e.op, "value": e.value})).collect::<Vec<_>>()
    };
    json!({
        "cpu": {
            "usage": {"total": cpu.total_usage, "percpu": cpu.percpu_usage, "kernel": cpu.kernel_usage, "user": cpu.user_usage},
            "throttling": {"periods": cpu.periods, "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_time},
        },
        "memory": {
            "cache": memory.stats.get("cache").or(memory.stats.get("file")).copied().unwrap_or(0),
            "usage": entry(memory.limit, memory.usage, memory.max_usage, memory.failcnt),
            "raw": memory.stats,
        },
        "pids": {"current": stats.pids.current, "limit": stats.pids.limit},
        "blkio": {
            "ioServiceBytesRecursive": blkio("io_service_bytes_recursive"),
            "ioServicedRecursive": blkio("io_serviced_recursive"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(seconds("5s").unwrap(), Timespec { tv_sec: 5, tv_nsec: 0 });
        assert_eq!(seconds("1500ms").unwrap(), Timespec { tv_sec: 1, tv_nsec: 500_000_000 });
        for word in ["5", "", "s", "0s", "5 s", "5d"] {
            assert!(seconds(word).is_err(), "{word}");
        }
    }
}
