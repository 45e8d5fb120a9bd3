//! Mount options as people and the specification write them, sorted into what the mount API takes.

use crate::failure::Result;
use crate::sys::mount::{
    ATIME, MountAttr, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY, STRICTATIME,
};

/// Those that are not the filesystem's own.
pub const NAMES: [&str; 56] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "idmap",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "tmpcopyup",
    "unbindable",
    "noauto",
    "nouser",
    "user",
    "auto",
];

#[derive(Debug, Default, Clone)]
pub struct MountOptions {
    pub bind: bool,
    pub recursive: bool,
    /// Of the mount itself.
    pub attr: MountAttr,
    /// One of `noatime`, `nodiratime`, `relatime`, `strictatime` stands there: the others give way.
    pub atime_asked: bool,
    /// `mount --bind -o remount`: what is not asked for stays.
    pub remount: bool,
    /// Of it and all below it (`rro`, `rnosuid`, …).
    pub recursive_attr: MountAttr,
    /// MS_PRIVATE and the like, with its recursion.
    pub propagation: Option<(u64, bool)>,
    /// For the filesystem: `size=64m`, `mode=755`, flags without `=`.
    pub data: Vec<(String, Option<String>)>,
    pub copy_up: bool,
    pub id_map: Option<IdMap>,
}

/// Of the mount, or of all below it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdMap {
    Single,
    Recursive,
}

impl MountOptions {
    pub fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option)?;
        }
        Ok(parsed)
    }

    fn add(&mut self, option: &str) -> Result<()> {
        match option {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "defaults" | "" | "async" | "nouser" | "noauto" | "user" | "auto" => {}
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "private" | "slave" | "shared" | "unbindable" => self.propagation = Some((propagation(option), false)),
            "rprivate" | "rslave" | "rshared" | "runbindable" => {
                self.propagation = Some((propagation(&option[1..]), true));
            }
            "idmap" => self.id_map = Some(IdMap::Single),
            "ridmap" => self.id_map = Some(IdMap::Recursive),
            _ => {
                if let Some(change) = attribute(option) {
                    self.atime_asked |= ["noatime", "nodiratime", "relatime", "strictatime"].contains(&option);
                    apply(&mut self.attr, change);
                } else if let Some(change) = option.strip_prefix('r').and_then(attribute) {
                    apply(&mut self.recursive_attr, change);
                } else {
                    let (key, value) = match option.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (option, None),
                    };
                    self.data.push((key.to_owned(), value));
                }
            }
        }
        Ok(())
    }
}

/// (set, clear)
fn attribute(option: &str) -> Option<(u64, u64)> {
    Some(match option {
        "ro" => (RDONLY, 0),
        "rw" => (0, RDONLY),
        "nosuid" => (NOSUID, 0),
        "suid" => (0, NOSUID),
        "nodev" => (NODEV, 0),
        "dev" => (0, NODEV),
        "noexec" => (NOEXEC, 0),
        "exec" => (0, NOEXEC),
        "noatime" => (NOATIME, ATIME),
        "strictatime" => (STRICTATIME, ATIME),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => (0, ATIME),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        "nosymfollow" => (NOSYMFOLLOW, 0),
        "symfollow" => (0, NOSYMFOLLOW),
        _ => return None,
    })
}

fn apply(attr: &mut MountAttr, (set, clear): (u64, u64)) {
    // a later option wins over an earlier one
    attr.set = (attr.set & !clear) | set;
    attr.clear = (attr.clear & !set) | clear;
}

pub fn propagation(name: &str) -> u64 {
    match name {
        "shared" => libc::MS_SHARED,
        "slave" => libc::MS_SLAVE,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => libc::MS_PRIVATE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> MountOptions {
        MountOptions::parse(&options.iter().map(|o| (*o).to_string()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn later_options_win() {
        assert_eq!(parse(&["ro", "rw"]).attr, MountAttr { set: 0, clear: RDONLY, ..MountAttr::default() });
        assert_eq!(parse(&["rw", "ro"]).attr, MountAttr { set: RDONLY, clear: 0, ..MountAttr::default() });
    }

    #[test]
    fn recursive_forms_are_kept_apart() {
        let options = parse(&["rbind", "rro", "nosuid", "rslave"]);
        assert!(options.bind && options.recursive);
        assert_eq!(options.recursive_attr.set, RDONLY);
        assert_eq!(options.attr.set, NOSUID);
        assert_eq!(options.propagation, Some((libc::MS_SLAVE, true)));
    }

    #[test]
    fn the_rest_goes_to_the_filesystem() {
        let options = parse(&["size=65536k", "mode=755", "newinstance"]);
        assert_eq!(options.data[0], ("size".into(), Some("65536k".into())));
        assert_eq!(options.data[2], ("newinstance".into(), None));
    }
}
