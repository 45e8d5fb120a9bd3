//! Whether two trees that nobody writes to are the same to a container: names, types, owners, modes, times, extended
//! attributes, contents.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::chunks::BUFFER;
use super::dirs::{MAX_DEPTH, open_beneath};
use super::error::{Result, corrupt, shown, system};
use super::member::names;
use super::xattr;

/// `None`, or where they differ first and how `own` is: a sentence for people.
pub fn first_difference(own: &Path, other: &Path) -> Result<Option<String>> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).map_err(system("open", path.as_os_str().as_bytes()))
    };
    let sides = [open(own)?, open(other)?];
    let mut comparison = Comparison { buffers: [vec![0; BUFFER], vec![0; BUFFER]] };
    comparison.object(&sides, b".", &mut Vec::new(), 0)
}

struct Comparison {
    buffers: [Vec<u8>; 2],
}

impl Comparison {
    /// `name` in both directories; `path` is where they are, for people.
    fn object(&mut self, dirs: &[OwnedFd; 2], name: &[u8], path: &mut Vec<u8>, depth: usize) -> Result<Option<String>> {
        let at = |op| system(op, path);
        let [own, other] = dirs.each_ref().map(|dir| statat(dir, name, AtFlags::SYMLINK_NOFOLLOW));
        let (own, other) = (own.map_err(at("stat"))?, other.map_err(at("stat"))?);
        let here = |what: String| {
            let place = if path.is_empty() { "/".into() } else { shown(path) };
            Ok(Some(format!("{place}: {what}")))
        };
        if let Some(what) = differing_attribute(&own, &other) {
            return here(what);
        }
        let [own_xattrs, other_xattrs] = dirs.each_ref().map(|dir| xattr::all_of_name(dir, name, path));
        if let Some(what) = differing_xattr(own_xattrs?, other_xattrs?) {
            return here(what);
        }
        match FileType::from_raw_mode(own.st_mode) {
            FileType::Symlink => {
                let [to, other_to] = dirs.each_ref().map(|dir| readlinkat(dir, name, Vec::new()));
                let (to, other_to) = (to.map_err(at("readlink"))?, other_to.map_err(at("readlink"))?);
                if to == other_to {
                    return Ok(None);
                }
                here(format!("it leads to {}, not to {}", shown(to.as_bytes()), shown(other_to.as_bytes())))
            }
            FileType::RegularFile => {
                let [file, other_file] = dirs.each_ref().map(|dir| open_beneath(dir, name, OFlags::RDONLY));
                let (file, other_file) = (file.map_err(at("open"))?, other_file.map_err(at("open"))?);
                let same = self.same_bytes(&file.into(), &other_file.into());
                let same = same.map_err(|error| at("read")(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
                if same { Ok(None) } else { here("other bytes".into()) }
            }
            FileType::Directory if depth == MAX_DEPTH => {
                Err(corrupt("compare", path, format!("deeper than {MAX_DEPTH} directories")))
            }
            FileType::Directory => {
                let below = dirs.each_ref().map(|dir| open_beneath(dir, name, OFlags::RDONLY | OFlags::DIRECTORY));
                let [own, other] = below;
                let below = [own.map_err(at("open"))?, other.map_err(at("open"))?];
                self.directory(&below, path, depth)
            }
            _ => Ok(None),
        }
    }

    fn directory(&mut self, dirs: &[OwnedFd; 2], path: &mut Vec<u8>, depth: usize) -> Result<Option<String>> {
        let [own, other] = dirs.each_ref().map(|dir| names(dir).map_err(system("list", path)));
        let (own, other) = (own?, other?);
        let lacks = |some: &[Vec<u8>], name: &Vec<u8>| some.binary_search_by(|one| name.cmp(one)).is_err();
        let stray = |name: &Vec<u8>, what: &str| Ok(Some(format!("{}/{}: {what}", shown(path), shown(name))));
        if let Some(name) = other.iter().rev().find(|name| lacks(&own, name)) {
            return stray(name, "it is missing");
        }
        if let Some(name) = own.iter().rev().find(|name| lacks(&other, name)) {
            return stray(name, "it does not belong there");
        }
        let len = path.len();
        for name in own.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
            let found = self.object(dirs, name, path, depth + 1)?;
            if found.is_some() {
                return Ok(found);
            }
            path.truncate(len);
        }
        Ok(None)
    }

    /// Of two files of one size.
    fn same_bytes(&mut self, own: &File, other: &File) -> io::Result<bool> {
        let [mine, theirs] = &mut self.buffers;
        let mut at = 0;
        loop {
            let count = own.read_at(mine, at)?;
            if count == 0 {
                return Ok(true);
            }
            match other.read_exact_at(&mut theirs[..count], at) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                done => done?,
            }
            if mine[..count] != theirs[..count] {
                return Ok(false);
            }
            at += count as u64;
        }
    }
}

fn differing_attribute(own: &Stat, other: &Stat) -> Option<String> {
    if own.st_mode != other.st_mode {
        return Some(format!("its mode is {:o}, not {:o}", own.st_mode, other.st_mode));
    }
    // An archive need not name its directories, and its root it seldom does: those are as old as their unpacking.
    let counts = FileType::from_raw_mode(own.st_mode) != FileType::Directory;
    let time = |stat: &Stat| i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    [
        ("owner", own.st_uid.into(), other.st_uid.into()),
        ("group", own.st_gid.into(), other.st_gid.into()),
        ("device", own.st_rdev.into(), other.st_rdev.into()),
        ("size", if counts { own.st_size.into() } else { 0 }, if counts { other.st_size.into() } else { 0 }),
        (
            "number of links",
            if counts { own.st_nlink.into() } else { 0 },
            if counts { other.st_nlink.into() } else { 0 },
        ),
        ("time", if counts { time(own) } else { 0 }, if counts { time(other) } else { 0 }),
    ]
    .into_iter()
    .find(|(_, mine, theirs): &(_, i128, i128)| mine != theirs)
    .map(|(what, mine, theirs)| format!("its {what} is {mine}, not {theirs}"))
}

fn differing_xattr(own: Vec<(Vec<u8>, Vec<u8>)>, other: Vec<(Vec<u8>, Vec<u8>)>) -> Option<String> {
    let (mut own, mut other) = (own, other);
    own.sort_unstable();
    other.sort_unstable();
    let name = |side: &[(Vec<u8>, Vec<u8>)], than: &[(Vec<u8>, Vec<u8>)]| {
        side.iter().find(|one| !than.contains(one)).map(|(name, _)| shown(name))
    };
    let differing = name(&other, &own).or_else(|| name(&own, &other))?;
    Some(format!("its extended attribute {differing} is another"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use rustix::fs::{XattrFlags, lsetxattr};

    use super::super::testing::Scratch;
    use super::*;

    /// What is done to the copy of a tree, and what is told of it.
    type Case = (&'static str, fn(&Path), &'static str);

    const CASES: [Case; 9] = [
        ("nothing", |_| (), ""),
        ("bytes", |tree| fs::write(tree.join("a/file"), "ONE").unwrap(), "/a/file: "),
        ("a name more", |tree| fs::write(tree.join("a/more"), "").unwrap(), "/a/more: it is missing"),
        ("a name less", |tree| fs::remove_file(tree.join("a/file")).unwrap(), "/a/file: it does not belong there"),
        (
            "mode",
            |tree| fs::set_permissions(tree.join("a"), Permissions::from_mode(0o700)).unwrap(),
            "/a: its mode is 40755, not 40700",
        ),
        (
            "owner",
            |tree| std::os::unix::fs::lchown(tree.join("a/link"), Some(7), None).unwrap(),
            "/a/link: its owner is 0, not 7",
        ),
        (
            "attribute of a file",
            |tree| lsetxattr(tree.join("a/file"), "trusted.x", b"1", XattrFlags::empty()).unwrap(),
            "/a/file: its extended attribute trusted.x is another",
        ),
        (
            "attribute of the root",
            |tree| lsetxattr(tree, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap(),
            "/: its extended attribute trusted.overlay.opaque is another",
        ),
        (
            "link's attribute",
            |tree| lsetxattr(tree.join("a/link"), "trusted.x", b"1", XattrFlags::empty()).unwrap(),
            "/a/link: its ext",
        ),
    ];

    #[test]
    fn what_differs_is_told_with_its_place() {
        for (what, change, expected) in CASES {
            let dir = Scratch::new("compare");
            let (own, other) = (dir.path("own"), dir.path("other"));
            fs::create_dir_all(own.join("a")).unwrap();
            fs::set_permissions(own.join("a"), Permissions::from_mode(0o755)).unwrap();
            fs::write(own.join("a/file"), "one").unwrap();
            symlink("file", own.join("a/link")).unwrap();
            assert!(Command::new("cp").arg("-a").args([&own, &other]).status().unwrap().success());
            change(&other);
            let found = first_difference(&own, &other).unwrap();
            match found {
                None => assert_eq!(expected, "", "{what}"),
                Some(found) => assert!(!expected.is_empty() && found.starts_with(expected), "{what}: {found}"),
            }
        }
    }
}
