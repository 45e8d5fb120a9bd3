//! Reading and writing the small text files of cgroupfs.

use crate::failure::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::Path;

pub fn write(dir: &Path, file: &str, value: impl Display) -> Result<()> {
    let path = dir.join(file);
    let value = value.to_string();
    // no O_CREAT: a file that this kernel does not have is an error that names it
    rustix::fs::open(&path, rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .and_then(|fd| rustix::io::write(&fd, value.as_bytes()))
        .context(&format!("write {value:?} to"), path.display())
        .map(drop)
}

pub fn read(dir: &Path, file: &str) -> Result<String> {
    let path = dir.join(file);
    fs::read_to_string(&path).context("read", path.display())
}

pub fn read_u64(dir: &Path, file: &str) -> Result<u64> {
    Ok(parse(&read(dir, file)?))
}

/// `max` and what does not parse count as 0: no limit.
pub fn parse(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// Lines of `key value`.
pub fn read_map(dir: &Path, file: &str) -> Result<BTreeMap<String, u64>> {
    Ok(read(dir, file)?
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(key, value)| (key.to_owned(), parse(value))))
        .collect())
}
