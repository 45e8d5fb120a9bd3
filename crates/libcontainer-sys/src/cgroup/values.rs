//! Reading and writing the small text files of cgroupfs.

use crate::failure::{Context, Failure, Result};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io;
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

/// Not `Path::exists`: a hierarchy that could not be looked at is not one that is missing, a container would be without its limits.
pub fn exists(dir: &Path, file: &str) -> Result<bool> {
    let path = dir.join(file);
    path.try_exists().context("stat", path.display())
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

/// Of the group and of those that the container has made below it.
pub fn pids_below(dir: &Path, found: &mut Vec<i32>) -> Result<()> {
    match list_below(dir, "cgroup.procs", found) {
        Err(failure) if is_threaded(&failure) => list_below(dir, "cgroup.threads", found),
        listed => listed,
    }
}

fn list_below(dir: &Path, file: &str, found: &mut Vec<i32>) -> Result<()> {
    match fs::read_to_string(dir.join(file)) {
        Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
        // it went away before it was opened, or after
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => return Ok(()),
        Err(error) => return Err(Failure::io("read", dir.join(file).display(), error)),
    }
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.context("read", dir.display())?,
    };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        match list_below(&entry.path(), file, found) {
            // its processes stand in this one
            Err(failure) if is_threaded(&failure) => {}
            listed => listed?,
        }
    }
    Ok(())
}

/// Of a group of cgroup v2 that has threads alone.
fn is_threaded(failure: &Failure) -> bool {
    failure.errno == Some(libc::EOPNOTSUPP)
}

/// Directories that the container made below go first. EBUSY lasts for a moment after the last process has been reaped.
pub fn remove_directory(path: &Path) -> Result<()> {
    for attempt in 0..100 {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                let children = fs::read_dir(path).context("read", path.display())?;
                for child in children.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                    remove_directory(&child.path())?;
                }
                if attempt > 0 {
                    std::thread::sleep(std::time::Duration::from_millis(attempt.min(10)));
                }
            }
            Err(error) => return Err(Failure::io("rmdir", path.display(), error)),
        }
    }
    Err(Failure::io("rmdir", path.display(), io::Error::from_raw_os_error(libc::EBUSY)))
}
