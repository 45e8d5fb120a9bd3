//! Entries of an archive become files below the target directory.
//!
//! While a layer is being applied all its directories are 0700 root: nobody else can enter, and nothing is inherited
//! (setgid, default ACLs). Owners, modes, attributes and times of directories come at the end.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat, chownat, fchmod, fchown,
    futimens, linkat, makedev, mkdirat, mknodat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::chunks::is_gone;
use super::dirs::{Dirs, MAX_DEPTH, Missing, is_whiteout, open_beneath, open_dir, replace_whiteout, set_opaque};
use super::error::{LayerError, Result, corrupt, system};
use super::recipe::Recorder;
use super::remove::remove_at;
use super::tar::{Entry, Kind, Reader, TarError, Time};
use super::xattr;

mod regular;

const MAX_ENTRIES: u64 = 1_000_000;
/// Paths and attributes of directories wait in memory for the end.
const MAX_DEFERRED: usize = 64 * 1024 * 1024;
/// PATH_MAX: what is longer cannot be named by any program in the container.
const MAX_PATH: usize = 4096;

pub(in crate::layer) struct Totals {
    pub(in crate::layer) bytes: u64,
    pub(in crate::layer) entries: u64,
    /// Whether there is a recipe of the archive.
    pub(in crate::layer) recipe: bool,
}

/// What a directory gets at the end.
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Option<Time>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    /// Of a directory that the archive does not mention.
    fn implied() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, mtime: None, xattrs: Vec::new() }
    }
}

/// An archive that is written down while it is read.
type Archive<R> = Reader<Recorder<R>>;

struct Extractor {
    /// Where entries go, and where hard links point: two walks, each with its own cached way.
    dirs: Dirs,
    targets: Dirs,
    deferred: BTreeMap<Vec<u8>, Attributes>,
    deferred_bytes: usize,
    totals: Totals,
    /// Something of the archive was replaced by something that came later in it.
    replaced: bool,
    layer: String,
}

/// The stage: all of `input` into the directory `root`, and its recipe to a new file.
pub(in crate::layer) fn run(
    input: impl BufRead,
    root: OwnedFd,
    layer: &str,
    cancelled: &AtomicBool,
    recipe: Option<&Path>,
) -> Result<Totals> {
    let root = Rc::new(root);
    let mut extractor = Extractor {
        dirs: Dirs::new(root.clone()),
        targets: Dirs::new(root),
        deferred: BTreeMap::from([(Vec::new(), Attributes::implied())]),
        deferred_bytes: 0,
        totals: Totals { bytes: 0, entries: 0, recipe: false },
        replaced: false,
        layer: layer.into(),
    };
    let mut reader = Reader::new(Recorder::create(input, recipe)?);
    let archive = |error| failure(error, layer.as_bytes(), layer);
    while let Some(entry) = reader.next().map_err(archive)? {
        extractor.totals.entries += 1;
        if extractor.totals.entries > MAX_ENTRIES {
            return Err(corrupt("extract", layer.as_bytes(), format!("more than {MAX_ENTRIES} entries")));
        }
        // Also here: a hostile archive has many slow entries in one chunk.
        stop_if(cancelled, layer)?;
        extractor.entry(entry, &mut reader)?;
        if std::mem::take(&mut extractor.replaced) {
            reader.input_mut().give_up();
        }
    }
    reader.drain().map_err(archive)?;
    extractor.totals.recipe = reader.into_input().finish()?;
    extractor.finish(cancelled)?;
    Ok(extractor.totals)
}

fn stop_if(cancelled: &AtomicBool, layer: &str) -> Result<()> {
    if cancelled.load(Ordering::Relaxed) { Err(LayerError::Stopped { path: layer.into() }) } else { Ok(()) }
}

fn failure(error: TarError, path: &[u8], layer: &str) -> LayerError {
    match error {
        TarError::Format(reason) => corrupt("read the archive at", path, reason),
        TarError::Io(error) if is_gone(&error) => LayerError::Stopped { path: layer.into() },
        TarError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            corrupt("read the archive at", path, "the archive is truncated")
        }
        TarError::Io(error) => corrupt("read the archive at", path, error.to_string()),
    }
}

/// The components of a name in an archive; leading slashes and `.` mean nothing. Docker resolves `..` in the text, other
/// readers in the tree: refused.
fn components(path: &[u8]) -> Result<Vec<&[u8]>> {
    if path.is_empty() || path.len() >= MAX_PATH {
        let shown = &path[..path.len().min(80)];
        return Err(corrupt("extract", shown, format!("a name of {} bytes", path.len())));
    }
    if path.contains(&0) {
        return Err(corrupt("extract", path, "the name holds a NUL"));
    }
    let components: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    if components.contains(&b"..".as_slice()) {
        return Err(corrupt("extract", path, "the name leads upwards ('..')"));
    }
    if components.len() > MAX_DEPTH {
        return Err(corrupt("extract", &path[..80], format!("deeper than {MAX_DEPTH} directories")));
    }
    Ok(components)
}

impl Extractor {
    fn entry<R: BufRead>(&mut self, entry: Entry, reader: &mut Archive<R>) -> Result<()> {
        let components = components(&entry.path)?;
        let Some((&name, parents)) = components.split_last() else {
            if entry.kind != Kind::Directory {
                return Err(corrupt("extract", &entry.path, "the root of a layer is not a directory"));
            }
            return self.defer(Vec::new(), &entry);
        };
        if parents.iter().any(|parent| parent.starts_with(b".wh.")) {
            return Err(corrupt("extract", &entry.path, "a whiteout is used as a directory"));
        }
        for path in self.dirs.enter(parents, Missing::Create)? {
            self.charge(path.len())?;
            self.deferred.insert(path, Attributes::implied());
        }
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(hidden, &entry.path);
        }
        let parent = self.dirs.top();
        match &entry.kind {
            Kind::Directory => self.directory(&parent, name, &entry),
            Kind::Regular => self.regular(&parent, name, &entry, reader),
            Kind::Hardlink(target) => self.hardlink(&parent, name, &entry, target),
            Kind::Symlink(target) => {
                if target.is_empty() || target.len() >= MAX_PATH || target.contains(&0) {
                    return Err(corrupt("extract", &entry.path, "the target of the symlink is no path"));
                }
                self.create(&parent, name, &entry, "symlink", || symlinkat(target, &*parent, name))?;
                self.attributes(&parent, name, &entry, AtFlags::SYMLINK_NOFOLLOW)
            }
            Kind::Char { major, minor } => self.node(&parent, name, &entry, FileType::CharacterDevice, *major, *minor),
            Kind::Block { major, minor } => self.node(&parent, name, &entry, FileType::BlockDevice, *major, *minor),
            Kind::Fifo => self.node(&parent, name, &entry, FileType::Fifo, 0, 0),
        }
    }

    /// Makes something new. What is in its place goes away first: the last of several entries counts.
    fn create<T>(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        op: &'static str,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T> {
        let made = match make() {
            Err(Errno::EXIST) => {
                self.clear(parent, name)?;
                make()
            }
            other => other,
        };
        made.map_err(system(op, &entry.path))
    }

    fn clear(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<()> {
        self.replaced = true;
        let path = self.dirs.path_of(name);
        match unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                remove_at(parent, name, &path)?;
                self.targets.forget();
                self.deferred.remove(&path);
                let below = [path.as_slice(), b"/"].concat();
                let gone: Vec<_> = self
                    .deferred
                    .range(below.clone()..)
                    .map(|(key, _)| key.clone())
                    .take_while(|key| key.starts_with(&below))
                    .collect();
                for key in gone {
                    self.deferred.remove(&key);
                }
                Ok(())
            }
            other => other.map_err(system("unlink", &path)),
        }
    }

    fn directory(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
        match mkdirat(parent, name, Mode::RWXU) {
            Err(Errno::EXIST) if open_dir(parent, name).is_ok() => {}
            Err(Errno::EXIST) if is_whiteout(parent, name) => {
                replace_whiteout(parent, name, &entry.path)?;
            }
            Err(Errno::EXIST) => {
                self.clear(parent, name)?;
                mkdirat(parent, name, Mode::RWXU).map_err(system("mkdir", &entry.path))?;
            }
            other => other.map_err(system("mkdir", &entry.path))?,
        }
        self.defer(self.dirs.path_of(name), entry)
    }

    fn charge(&mut self, bytes: usize) -> Result<()> {
        // What a node of the map takes beside its bytes.
        self.deferred_bytes += bytes + 64;
        if self.deferred_bytes > MAX_DEFERRED {
            let reason = "its directories have too many attributes";
            return Err(corrupt("extract", self.layer.as_bytes(), reason));
        }
        Ok(())
    }

    fn defer(&mut self, path: Vec<u8>, entry: &Entry) -> Result<()> {
        self.charge(path.len() + xattr::weight(&entry.xattrs))?;
        let attributes = Attributes {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: Some(entry.mtime),
            xattrs: entry.xattrs.clone(),
        };
        self.deferred.insert(path, attributes);
        Ok(())
    }

    fn node(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        kind: FileType,
        major: u32,
        minor: u32,
    ) -> Result<()> {
        let device = makedev(major, minor);
        self.create(parent, name, entry, "mknod", || mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device))?;
        self.attributes(parent, name, entry, AtFlags::empty())
    }

    /// Of something that has just been made and is no directory, by its name.
    fn attributes(&self, parent: &OwnedFd, name: &[u8], entry: &Entry, follow: AtFlags) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(system("chown", &entry.path))?;
        if follow.is_empty() {
            // Not a symlink: it was made a moment ago in a directory that is ours alone.
            chmodat(parent, name, Mode::from_raw_mode(entry.mode), follow).map_err(system("chmod", &entry.path))?;
        }
        xattr::set_on_name(parent, name, &entry.xattrs, &entry.path)?;
        utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(system("set the times of", &entry.path))
    }

    fn hardlink(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry, target: &[u8]) -> Result<()> {
        let bad = |reason: &str| {
            corrupt("link", &entry.path, format!("its target '{}' {reason}", super::error::shown(target)))
        };
        let components = components(target)?;
        let Some((&target_name, parents)) = components.split_last() else {
            return Err(bad("is the root"));
        };
        self.targets.enter(parents, Missing::Fail).map_err(|_| bad("is not in this layer"))?;
        if self.targets.path_of(target_name) == self.dirs.path_of(name) {
            return Err(bad("is the link itself"));
        }
        let from = self.targets.top();
        // Without AT_SYMLINK_FOLLOW: a link to a symlink is a second name of the symlink.
        let link = || linkat(&*from, target_name, parent, name, AtFlags::empty());
        let linked = match link() {
            Err(Errno::EXIST) => {
                self.clear(parent, name)?;
                link()
            }
            other => other,
        };
        match linked {
            Err(Errno::NOENT) => Err(bad("is not in this layer")),
            Err(Errno::PERM) => Err(bad("cannot be linked to")),
            other => other.map_err(system("link", &entry.path)),
        }
    }

    /// `.wh.NAME`: NAME of the layers below is not seen. It does not concern what this layer itself has (OCI image
    /// spec, layer.md), whatever the order of the entries.
    fn whiteout(&mut self, hidden: &[u8], path: &[u8]) -> Result<()> {
        let parent = self.dirs.top();
        match hidden {
            b".wh..opq" => return set_opaque(&parent, path),
            b"" | b"." | b".." => return Err(corrupt("extract", path, "a whiteout of no name")),
            // aufs' own files (.wh..wh.plnk and the like).
            _ if hidden.starts_with(b".wh.") => return Ok(()),
            _ => {}
        }
        match mknodat(&*parent, hidden, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)) {
            Err(Errno::EXIST) => match open_dir(&parent, hidden) {
                Ok(dir) => set_opaque(&dir, path),
                Err(_) => Ok(()),
            },
            other => other.map_err(system("mknod", path)),
        }
    }

    /// Attributes of the directories, the deeper ones after their parents: nothing is made any more, so times stay.
    fn finish(&mut self, cancelled: &AtomicBool) -> Result<()> {
        for (path, attributes) in std::mem::take(&mut self.deferred) {
            stop_if(cancelled, &self.layer)?;
            let components: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
            self.dirs.enter(&components, Missing::Fail)?;
            let dir = open_beneath(&self.dirs.top(), b".", OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(system("open", &path))?;
            if (attributes.uid, attributes.gid) != (0, 0) {
                let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
                fchown(&dir, Some(uid), Some(gid)).map_err(system("chown", &path))?;
            }
            fchmod(&dir, Mode::from_raw_mode(attributes.mode)).map_err(system("chmod", &path))?;
            xattr::set_on_fd(&dir, &attributes.xattrs, &path)?;
            if let Some(mtime) = attributes.mtime {
                futimens(&dir, &times(mtime)).map_err(system("set the times of", &path))?;
            }
        }
        Ok(())
    }
}

fn times(mtime: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanoseconds) },
    }
}
