//! Directories that tests work in, and archives made byte by byte.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{lgetxattr, llistxattr};

use super::digest::Hasher;
use super::remove::remove_tree;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory of one test, removed when dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("caisson-layer-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_tree(&self.0);
    }
}

/// One line for each thing in a tree: path, kind and mode, owner, size or target or device, links, mtime, attributes,
/// content. Two trees that give the same lines are the same to a container.
pub(super) fn tree(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    describe(root, "", &mut lines);
    lines.sort();
    lines
}

fn describe(root: &Path, below: &str, lines: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let name = entry.unwrap().file_name();
        let path = format!("{below}{}", name.to_str().unwrap());
        let full = root.join(&path);
        let data = full.symlink_metadata().unwrap();
        let what = if data.is_symlink() {
            fs::read_link(&full).unwrap().display().to_string()
        } else if data.is_file() {
            let mut hasher = Hasher::new();
            hasher.update(&fs::read(&full).unwrap());
            format!("{} {} links {}", data.len(), hasher.finish(), data.nlink())
        } else {
            format!("device {}", data.rdev())
        };
        let mut names = vec![0; 65_536];
        let count = llistxattr(&full, &mut names[..]).unwrap();
        let mut xattrs = Vec::new();
        for name in names[..count].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0; 65_536];
            let count = lgetxattr(&full, name, &mut value[..]).unwrap();
            xattrs.push(format!("{}={:?}", String::from_utf8_lossy(name), &value[..count]));
        }
        xattrs.sort();
        let (mode, owner) = (data.mode(), (data.uid(), data.gid()));
        let time = (data.mtime(), data.mtime_nsec());
        lines.push(format!("{path} {mode:o} {owner:?} {what} {time:?} {xattrs:?}"));
        if data.is_dir() {
            describe(root, &format!("{path}/"), lines);
        }
    }
}
