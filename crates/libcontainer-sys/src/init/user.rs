//! Who a process is: numbers from names, looked up in the container's own files (the caller is inside its root).
//!
//! Docker's rules: a number is never looked up as a name, ids are 0 to 2^31-1, a name must be in the file. The files are those
//! of the root itself, whatever is mounted over them; a home is where the container sees it.

use crate::failure::{Context, Failure, Result};
use crate::spec::{User, UserSpec};
use crate::sys::mount::clone_tree;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The files of an image may be anything: only regular ones of a bounded size are read (CVE-2026-47262 class).
const MAX_FILE_BYTES: u64 = 10 << 20;
const MAX_ID: i64 = (1 << 31) - 1;

#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

struct PasswdEntry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct GroupEntry {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// With a UserSpec its words decide, else the specification's numbers.
pub fn resolve(user: &User, spec: Option<&UserSpec>) -> Result<Identity> {
    let seen = parse_passwd(&read(openat(CWD, "/etc/passwd", FLAGS, Mode::empty()), "/etc/passwd")?);
    match spec {
        Some(spec) => {
            let root = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("open", "/")?;
            let open = |path: &str| open_beneath_mounts(root.as_fd(), path);
            let mut identity = lookup_in(open, spec)?;
            identity.home = home_of(&seen, identity.uid);
            Ok(identity)
        }
        None => Ok(Identity {
            uid: user.uid,
            gid: user.gid,
            groups: user.additional_gids.clone(),
            home: home_of(&seen, user.uid),
        }),
    }
}

/// The same for a caller outside: the files are those of the container whose root is given.
pub fn resolve_in(root: BorrowedFd, spec: &UserSpec) -> Result<Identity> {
    lookup_in(|path| open_in(root, path, ResolveFlags::empty()), spec)
}

/// Whether a process could be that user. What is mounted over the files hides those that count: then its start has to tell.
#[cfg(feature = "layer")]
pub fn check_in(root: BorrowedFd, spec: &UserSpec) -> Result<()> {
    let open = |path: &str| open_in(root, path, ResolveFlags::NO_XDEV);
    if ["etc/passwd", "etc/group"].iter().any(|path| matches!(open(path), Err(Errno::XDEV))) {
        return Ok(());
    }
    lookup_in(open, spec).map(drop)
}

fn lookup_in(open: impl Fn(&str) -> rustix::io::Result<OwnedFd>, spec: &UserSpec) -> Result<Identity> {
    let passwd = parse_passwd(&read(open("etc/passwd"), "/etc/passwd")?);
    lookup(spec, &passwd, &parse_group(&read(open("etc/group"), "/etc/group")?))
}

fn open_in(root: BorrowedFd, path: &str, how: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    openat2(root, path, FLAGS, Mode::empty(), how | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Where a mount is in the way, a copy of the root's mount alone shows what lies under it.
fn open_beneath_mounts(root: BorrowedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    match open_in(root, path, ResolveFlags::NO_XDEV) {
        Err(Errno::XDEV) => {
            let alone = clone_tree(Some(root), c"", false)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::XDEV))?;
            open_in(alone.as_fd(), path, ResolveFlags::empty())
        }
        opened => opened,
    }
}

fn lookup(spec: &UserSpec, passwd: &[PasswdEntry], group: &[GroupEntry]) -> Result<Identity> {
    let (user_word, group_word) = spec.user.split_once(':').unwrap_or((&spec.user, ""));
    let user_number = number(user_word);
    let entry = match (user_word, user_number) {
        ("", _) => passwd.iter().find(|entry| entry.uid == 0),
        (_, Some(uid)) => passwd.iter().find(|entry| i64::from(entry.uid) == uid),
        (name, None) => passwd.iter().find(|entry| entry.name == name),
    };
    let (uid, mut gid) = match (entry, user_word, user_number) {
        (Some(entry), ..) => (entry.uid, entry.gid),
        (None, "", _) => (0, 0),
        (None, _, Some(uid)) => (in_range(uid)?, 0),
        (None, name, None) => {
            return Err(Failure::invalid(
                "user",
                format!("unable to find user {name}: no matching entries in passwd file"),
            )
            .with_fix(
                "USER_NOT_FOUND",
                format!("give a number (--user 1000), or add {name} to the image's /etc/passwd"),
            ));
        }
    };
    let mut groups = Vec::new();
    if group_word.is_empty() {
        if let Some(entry) = entry {
            groups.extend(group.iter().filter(|g| g.members.contains(&entry.name)).map(|g| g.gid));
        }
    } else {
        gid = find_group(group_word, group)?;
    }
    for word in &spec.additional_groups {
        groups.push(find_group(word, group)?);
    }
    // the primary group too: a set-group-id program must not shed what is forbidden to the group (CVE-2022-36109)
    groups.insert(0, gid);
    let mut seen = Vec::new();
    groups.retain(|gid| {
        let new = !seen.contains(gid);
        seen.push(*gid);
        new
    });
    Ok(Identity { uid, gid, groups, home: entry.map_or_else(|| "/".into(), |entry| entry.home.clone()) })
}

fn find_group(word: &str, group: &[GroupEntry]) -> Result<u32> {
    match number(word) {
        Some(gid) => in_range(gid),
        None => group.iter().find(|entry| entry.name == word).map(|entry| entry.gid).ok_or_else(|| {
            Failure::invalid("user", format!("unable to find group {word}: no matching entries in group file"))
                .with_fix("GROUP_NOT_FOUND", format!("give a number, or add {word} to the image's /etc/group"))
        }),
    }
}

/// As Go's strconv.Atoi reads it: an optional sign and decimal digits, nothing else. Too many digits stay a number.
fn number(word: &str) -> Option<i64> {
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(word.parse().unwrap_or(if word.starts_with('-') { i64::MIN } else { i64::MAX }))
}

fn in_range(id: i64) -> Result<u32> {
    if (0..=MAX_ID).contains(&id) {
        return Ok(id as u32);
    }
    Err(Failure::invalid("user", "uids and gids must be in range 0-2147483647"))
}

fn home_of(passwd: &[PasswdEntry], uid: u32) -> String {
    passwd.iter().find(|entry| entry.uid == uid).map_or_else(|| "/".into(), |entry| entry.home.clone())
}

fn parse_passwd(text: &str) -> Vec<PasswdEntry> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let name = fields.next()?.to_owned();
            let mut fields = fields.skip(1);
            let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            let home = fields.nth(1).unwrap_or_default();
            Some(PasswdEntry { name, uid, gid, home: if home.is_empty() { "/".into() } else { home.to_owned() } })
        })
        .collect()
}

fn parse_group(text: &str) -> Vec<GroupEntry> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let name = fields.next()?.to_owned();
            let gid = fields.nth(1)?.parse().ok()?;
            let members = fields.next().unwrap_or_default().split(',').map(str::to_owned).collect();
            Some(GroupEntry { name, gid, members })
        })
        .collect()
}

/// NONBLOCK: a FIFO in its place must not hold us.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

fn read(file: rustix::io::Result<OwnedFd>, path: &str) -> Result<String> {
    let fd = match file {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(Failure::io("open", path, error)),
    };
    let stat = fstat(&fd).context("stat", path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Failure::invalid("user", format!("{path}: not a regular file")));
    }
    if stat.st_size as u64 > MAX_FILE_BYTES {
        return Err(Failure::invalid(
            "user",
            format!("{path}: {} bytes are more than the 10 MiB that are read", stat.st_size),
        ));
    }
    let mut bytes = Vec::new();
    std::fs::File::from(fd).take(MAX_FILE_BYTES).read_to_end(&mut bytes).context("read", path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbin:x:1:1::/bin:\nuser:x:1000:100::/home/user:/bin/sh\n1000:x:0:0::/:\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nextra:x:2000:user,other\nmore:x:2001:user\n";

    fn who(user: &str, additional: &[&str]) -> std::result::Result<(u32, u32, Vec<u32>, String), String> {
        let spec = UserSpec { user: user.into(), additional_groups: additional.iter().map(|g| (*g).into()).collect() };
        lookup(&spec, &parse_passwd(PASSWD), &parse_group(GROUP))
            .map(|id| (id.uid, id.gid, id.groups, id.home))
            .map_err(|failure| failure.message)
    }

    #[test]
    fn names_and_numbers_as_docker_reads_them() {
        assert_eq!(who("", &[]), Ok((0, 0, vec![0], "/root".into())));
        assert_eq!(who("user", &[]), Ok((1000, 100, vec![100, 2000, 2001], "/home/user".into())));
        assert_eq!(who("1", &[]), Ok((1, 1, vec![1], "/bin".into())));
        assert_eq!(who("01", &[]), Ok((1, 1, vec![1], "/bin".into())));
        assert_eq!(who("1:2", &[]), Ok((1, 2, vec![2], "/bin".into())));
        assert_eq!(who(":1", &[]), Ok((0, 1, vec![1], "/root".into())));
        assert_eq!(who("user:root", &["extra", "7"]), Ok((1000, 0, vec![0, 2000, 7], "/home/user".into())));
        assert_eq!(who("4711", &[]), Ok((4711, 0, vec![0], "/".into())));
    }

    #[test]
    fn a_number_is_never_a_name() {
        // the file has a user called "1000" with uid 0
        assert_eq!(who("1000", &[]).map(|id| id.0), Ok(1000));
    }

    #[test]
    fn what_is_out_of_range_or_unknown_is_refused() {
        for word in ["2147483648", "4294967295", "4294967296", "-1", "99999999999999999999", "1:4294967296"] {
            assert_eq!(who(word, &[]), Err("uids and gids must be in range 0-2147483647".into()), "{word}");
        }
        for word in [" 1", "0x1", "nobody"] {
            assert!(who(word, &[]).unwrap_err().starts_with("unable to find user"), "{word}");
        }
        assert!(who("user:nogroup", &[]).unwrap_err().starts_with("unable to find group nogroup"));
    }
}
