//! A tree as an archive: a container's own layer in the form that images have it, or the whole root filesystem as a
//! container sees it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fgetxattr, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::archive::OWN;
use super::dirs::{MAX_DEPTH, OPAQUE, open_beneath};
use super::error::{LayerError, Result, corrupt, system};
use super::pipeline::{AppliedLayer, Layer, LayerOptions};
use super::tar::{Entry, Kind, Time, Writer};
use super::{view, xattr};
use crate::logs::{self, Client};

/// How an overlay's upper directory says what it removed, and how an image does.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

const BUFFER: usize = 256 * 1024;

#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// The upper directory of a container's overlay.
    pub upper: PathBuf,
    /// The image's layers, the top one first.
    pub lower: Vec<PathBuf>,
    pub layer: LayerOptions,
}

/// Makes a layer of what a container changed: archived, hashed, compressed to `layer.blob_path` and unpacked to
/// `layer.target_dir`, in one pass over the files.
pub fn pack(options: &PackOptions) -> Result<AppliedLayer> {
    let root = directory(&options.upper)?;
    let layer = Layer::open(options.layer.clone());
    let mut sink = Feed { layer: &layer, buffer: Vec::with_capacity(BUFFER), failed: false };
    let mut packing = Packing::new(Writer::new(&mut sink), Some(&options.lower));
    let packed = packing.tree(root).and_then(|()| packing.finish());
    let failed = sink.failed;
    let (done, wait) = channel();
    let on_end = Box::new(move |result| drop(done.send(result)));
    // The layer's own failure is the cause when it was the layer that took no more.
    if packed.is_err() && !failed {
        layer.abort(on_end);
    } else {
        layer.end(on_end);
    }
    let applied = wait.recv().unwrap_or_else(|_| Err(LayerError::Stopped { path: String::new() }));
    packed.or_else(|error| if failed { Ok(()) } else { Err(error) })?;
    applied
}

/// Sends a container's root filesystem to a client as the chunked body of an answer: `layers`, the top one first. What is
/// mounted in the container is not in it. The client that leaves is an end like any other.
pub fn export(layers: &[PathBuf], client: Client) -> Result<()> {
    let root = view::open(layers)?;
    let root = open_beneath(&root, b".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(system("open", b"/"))?;
    let mut body = Body { client, buffer: Vec::with_capacity(BUFFER), gone: false };
    body.head().map_err(|error| io_failure(&error, b"/"))?;
    let mut packing = Packing::new(Writer::new(&mut body), None);
    let result = packing.tree(root).and_then(|()| packing.finish());
    match result {
        Err(_) if body.gone => Ok(()),
        Err(error) => Err(error),
        Ok(()) => body.end().or(Ok(())),
    }
}

fn directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(system("open", path.as_os_str().as_bytes()))
}

/// The pipeline as a writer that waits for room.
struct Feed<'a> {
    layer: &'a Layer,
    buffer: Vec<u8>,
    failed: bool,
}

impl Write for Feed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER));
        let (room, wait) = channel();
        self.layer.write(chunk, Box::new(move |result| drop(room.send(result))));
        self.failed = !matches!(wait.recv(), Ok(Ok(())));
        if self.failed { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

/// A chunked body on a connection.
struct Body {
    client: Client,
    buffer: Vec<u8>,
    gone: bool,
}

impl Body {
    fn put(&mut self, sent: crate::failure::Result<bool>) -> io::Result<()> {
        self.gone = !matches!(sent, Ok(true));
        if self.gone { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    fn head(&mut self) -> io::Result<()> {
        let sent = logs::write_all(&self.client.fd, self.client.head.as_bytes());
        self.put(sent)
    }

    fn end(mut self) -> io::Result<()> {
        let sent = logs::write_all(&self.client.fd, b"0\r\n\r\n");
        self.put(sent)
    }
}

impl Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let sent = logs::send(&self.client.fd, &mut self.buffer);
        self.put(sent)
    }
}

fn io_failure(error: &io::Error, path: &[u8]) -> LayerError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => LayerError::Stopped { path: String::from_utf8_lossy(path).into_owned() },
        io::ErrorKind::InvalidInput => corrupt("archive", path, "it cannot be written as a tar entry"),
        _ => system("archive", path)(Errno::from_io_error(error).unwrap_or(Errno::IO)),
    }
}

struct Packing<'a, W: Write> {
    out: Writer<W>,
    /// Of an upper directory, the layers below it: overlay's marks become an image's.
    upper: Option<&'a [PathBuf]>,
    /// Directories that the engine itself made or touched, to be written when something in them is.
    pending: Vec<Entry>,
    /// Files with several names, by inode: the first name.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<'a, W: Write> Packing<'a, W> {
    fn new(out: Writer<W>, upper: Option<&'a [PathBuf]>) -> Self {
        Self { out, upper, pending: Vec::new(), links: HashMap::new(), buffer: vec![0; BUFFER] }
    }

    fn finish(self) -> Result<()> {
        self.out.finish().and_then(|mut out| out.flush()).map_err(|error| io_failure(&error, b"/"))
    }

    /// The root itself has no entry: an image's layers must not change it unseen.
    fn tree(&mut self, root: OwnedFd) -> Result<()> {
        let mut way = vec![(names(&root, b"/")?, root)];
        let mut path: Vec<Vec<u8>> = Vec::new();
        while let Some((below, dir)) = way.last_mut() {
            let Some(name) = below.pop() else {
                way.pop();
                let left = path.join(&b'/');
                self.pending.retain(|entry| entry.path != left);
                path.pop();
                continue;
            };
            path.push(name);
            if path.len() > MAX_DEPTH {
                return Err(corrupt("archive", &path.join(&b'/'), format!("deeper than {MAX_DEPTH} directories")));
            }
            match self.entry(dir, &path)? {
                Some(dir) => {
                    let below = names(&dir, &path.join(&b'/'))?;
                    way.push((below, dir));
                }
                None => {
                    path.pop();
                }
            }
        }
        Ok(())
    }

    /// Archives one name; a directory is returned to be entered.
    fn entry(&mut self, dir: &OwnedFd, path: &[Vec<u8>]) -> Result<Option<OwnedFd>> {
        let name = path.last().map(Vec::as_slice).unwrap_or_default();
        let full = path.join(&b'/');
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Removed meanwhile by a running container.
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(system("stat", &full))?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if self.upper.is_some() && kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            let parents = &full[..full.len() - name.len()];
            self.marker([parents, WHITEOUT, name].concat(), &stat)?;
            return Ok(None);
        }
        if self.upper.is_some() && name.starts_with(WHITEOUT) {
            let reason = "names that begin with .wh. mean removed files in an image";
            return Err(LayerError::Unsupported { op: "archive", path: shown(&full), reason: reason.into() });
        }
        match kind {
            FileType::Directory => self.directory(dir, name, full),
            FileType::RegularFile => self.regular(dir, name, &full).map(|()| None),
            // Nothing can be done with it once whoever listened has gone.
            FileType::Socket => Ok(None),
            _ => self.other(dir, name, &full, &stat).map(|()| None),
        }
    }

    fn directory(&mut self, dir: &OwnedFd, name: &[u8], full: Vec<u8>) -> Result<Option<OwnedFd>> {
        let below = match open_beneath(dir, name, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            other => other.map_err(system("open", &full))?,
        };
        let stat = fstat(&below).map_err(system("stat", &full))?;
        let xattrs = kept(xattr::of_fd(&below, &full)?);
        self.refuse_redirect(&below, &full)?;
        let found = entry(full.clone(), Kind::Directory, &stat, xattrs);
        let opaque = self.upper.is_some() && is_opaque(&below);
        if !opaque && self.is_own(&full) && self.is_as_below(&full, &stat)? {
            self.pending.push(found);
            return Ok(Some(below));
        }
        self.put(&found)?;
        if opaque {
            self.marker([full.as_slice(), b"/", OPAQUE_MARKER].concat(), &stat)?;
        }
        Ok(Some(below))
    }

    fn regular(&mut self, dir: &OwnedFd, name: &[u8], full: &[u8]) -> Result<()> {
        let file = match open_beneath(dir, name, OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(Errno::NOENT | Errno::LOOP) => return Ok(()),
            other => other.map_err(system("open", full))?,
        };
        // Of what was opened, not of what the name stood for before.
        let stat = fstat(&file).map_err(system("stat", full))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        if stat.st_size == 0 && self.is_own(full) {
            return Ok(());
        }
        let xattrs = kept(xattr::of_fd(&file, full)?);
        self.refuse_redirect(&file, full)?;
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                return self.put(&entry(full.to_vec(), Kind::Hardlink(first.clone()), &stat, Vec::new()));
            }
            self.links.insert((stat.st_dev, stat.st_ino), full.to_vec());
        }
        self.put(&entry(full.to_vec(), Kind::Regular, &stat, xattrs))?;
        while self.out.left() > 0 {
            let wanted = usize::try_from(self.out.left()).map_or(BUFFER, |left| left.min(BUFFER));
            let mut count = rustix::io::read(&file, &mut self.buffer[..wanted]).map_err(system("read", full))?;
            if count == 0 {
                // Cut off meanwhile: the header has promised its length.
                self.buffer[..wanted].fill(0);
                count = wanted;
            }
            self.out.data(&self.buffer[..count]).map_err(|error| io_failure(&error, full))?;
        }
        Ok(())
    }

    fn other(&mut self, dir: &OwnedFd, name: &[u8], full: &[u8], stat: &Stat) -> Result<()> {
        let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => match readlinkat(dir, name, Vec::new()) {
                Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                other => Kind::Symlink(other.map_err(system("readlink", full))?.into_bytes()),
            },
            FileType::CharacterDevice => Kind::Char { major: device.0, minor: device.1 },
            FileType::BlockDevice => Kind::Block { major: device.0, minor: device.1 },
            _ => Kind::Fifo,
        };
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                return self.put(&entry(full.to_vec(), Kind::Hardlink(first.clone()), stat, Vec::new()));
            }
            self.links.insert((stat.st_dev, stat.st_ino), full.to_vec());
        }
        let xattrs = kept(xattr::of_name(dir, name, full)?);
        self.put(&entry(full.to_vec(), kind, stat, xattrs))
    }

    /// An empty file whose name says that something was removed.
    fn marker(&mut self, path: Vec<u8>, stat: &Stat) -> Result<()> {
        let mut marker = entry(path, Kind::Regular, stat, Vec::new());
        marker.mode = 0;
        marker.size = 0;
        self.put(&marker)
    }

    /// Where overlay has moved a directory, or holds a file's attributes only, the upper directory is not the whole truth.
    fn refuse_redirect(&self, fd: &OwnedFd, full: &[u8]) -> Result<()> {
        for name in ["trusted.overlay.redirect", "trusted.overlay.metacopy"] {
            if self.upper.is_some() && fgetxattr(fd, name, &mut [0u8; 4096][..]).is_ok() {
                let reason = format!("it has {name}: turn off redirect_dir and metacopy of the overlay module");
                return Err(LayerError::Unsupported { op: "archive", path: shown(full), reason });
            }
        }
        Ok(())
    }

    /// Every start makes these to mount on, when the image does not have them.
    fn is_own(&self, full: &[u8]) -> bool {
        self.upper.is_some() && OWN.iter().any(|own| &own[1..] == full)
    }

    /// The image has no such directory, or has it with the same mode and owner.
    fn is_as_below(&self, full: &[u8], stat: &Stat) -> Result<bool> {
        for layer in self.upper.unwrap_or_default() {
            let layer = directory(layer)?;
            // Own paths have no links on their way but where the image has put some: then it is not the engine's.
            match open_beneath(&layer, full, OFlags::PATH) {
                Ok(below) => {
                    let below = fstat(&below).map_err(system("stat", full))?;
                    let same = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
                    return Ok(same(&below) == same(stat));
                }
                Err(Errno::NOENT) => {}
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn put(&mut self, entry: &Entry) -> Result<()> {
        for above in std::mem::take(&mut self.pending) {
            self.out.entry(&above).map_err(|error| io_failure(&error, &above.path))?;
        }
        self.out.entry(entry).map_err(|error| io_failure(&error, &entry.path))
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0u8; 8];
    fgetxattr(dir, OPAQUE, &mut value[..]).is_ok_and(|len| &value[..len] == b"y")
}

/// What belongs to the files and not to the host that they were on.
fn kept(xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let kept = |name: &[u8]| {
        name.starts_with(b"user.") || name == b"security.capability" || name.starts_with(b"system.posix_acl_")
    };
    let mut xattrs: Vec<_> = xattrs.into_iter().filter(|(name, _)| kept(name)).collect();
    xattrs.sort();
    xattrs
}

/// Times in whole seconds, as image builders write them: a PAX header for each file would double small layers.
fn entry(path: Vec<u8>, kind: Kind, stat: &Stat, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Entry {
    Entry {
        path,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time { seconds: stat.st_mtime, nanoseconds: 0 },
        size: stat.st_size.cast_unsigned(),
        xattrs,
        sparse: None,
    }
}

/// In reverse order, to be popped: the same tree always gives the same archive.
fn names(dir: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).map_err(system("read", path))? {
        let name = entry.map_err(system("read", path))?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::testing::{Scratch, noise, tree};
    use rustix::fs::{XattrFlags, lsetxattr, makedev, mkfifoat, mknodat};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::os::unix::net::{UnixListener, UnixStream};

    const LONG: &str = "a-name-that-is-longer-than-the-hundred-bytes-of-a-header's-name-and-of-its-prefix-together/\
                        a-name-that-is-longer-than-the-hundred-bytes-of-a-header's-name-and-of-its-prefix-together-ü";

    /// Times of an image are whole seconds.
    fn settle(root: &Path) {
        let times = |path: &Path| {
            let time = Timestamps { last_access: TIME, last_modification: TIME };
            utimensat(CWD, path, &time, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        };
        for entry in fs::read_dir(root).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                settle(&path);
            }
            times(&path);
        }
    }
    use rustix::fs::{Timespec, Timestamps, utimensat};
    const TIME: Timespec = Timespec { tv_sec: 1_700_000_000, tv_nsec: 0 };

    /// Everything that a container can leave in its upper directory.
    fn upper(scratch: &Scratch) -> PathBuf {
        let upper = scratch.path("upper");
        fs::create_dir_all(upper.join(LONG)).unwrap();
        fs::create_dir_all(upper.join("dir/opaque")).unwrap();
        for own in ["dev/pts", "etc", "proc"] {
            fs::create_dir_all(upper.join(own)).unwrap();
        }
        fs::write(upper.join("etc/hosts"), "").unwrap();
        fs::write(upper.join("dir/file"), noise(3, 700_000)).unwrap();
        fs::hard_link(upper.join("dir/file"), upper.join("linked")).unwrap();
        fs::write(upper.join("dir/empty"), "").unwrap();
        symlink("/etc/../nowhere", upper.join("dir/symlink")).unwrap();
        mknodat(CWD, upper.join("dir/gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        mknodat(CWD, upper.join("dir/null"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 3)).unwrap();
        mkfifoat(CWD, upper.join("dir/pipe"), Mode::RUSR).unwrap();
        lsetxattr(upper.join("dir/opaque"), OPAQUE, b"y", XattrFlags::empty()).unwrap();
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        chown(upper.join("dir/empty"), Some(3_000_000), Some(34)).unwrap();
        lsetxattr(upper.join("dir/empty"), "security.capability", &capability, XattrFlags::empty()).unwrap();
        lsetxattr(upper.join("dir"), "user.note", b"kept", XattrFlags::empty()).unwrap();
        fs::set_permissions(upper.join("dir"), fs::Permissions::from_mode(0o3751)).unwrap();
        upper
    }

    fn options(scratch: &Scratch, upper: PathBuf) -> PackOptions {
        let layer = LayerOptions {
            target_dir: scratch.path("layer"),
            blob_path: Some(scratch.path("blob")),
            ..LayerOptions::default()
        };
        PackOptions { upper, lower: Vec::new(), layer }
    }

    #[test]
    fn a_layer_is_what_the_container_changed() {
        let scratch = Scratch::new("pack");
        let upper = upper(&scratch);
        settle(&upper);
        pack(&options(&scratch, upper.clone())).unwrap();
        for name in ["dev", "etc", "proc"] {
            assert!(!scratch.path("layer").join(name).exists(), "{name} was made to mount on");
            fs::remove_dir_all(upper.join(name)).unwrap();
        }
        // A whiteout's own time says nothing.
        let tree = |root: &Path| -> Vec<String> {
            let shown = |line: String| if line.starts_with("dir/gone ") { line[..20].into() } else { line };
            tree(root).into_iter().map(shown).collect()
        };
        assert_eq!(tree(&scratch.path("layer")), tree(&upper));
        let again = crate::layer::testing::apply(&fs::read(scratch.path("blob")).unwrap(), &scratch.path("again"));
        again.unwrap();
        assert_eq!(tree(&scratch.path("again")), tree(&upper), "the blob says the same");
    }

    #[test]
    fn gnu_tar_reads_it_the_same_way() {
        let scratch = Scratch::new("pack");
        let upper = upper(&scratch);
        settle(&upper);
        pack(&options(&scratch, upper.clone())).unwrap();
        let listed = std::process::Command::new("tar").arg("-tzf").arg(scratch.path("blob")).output().unwrap();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        assert!(listed.stderr.is_empty(), "{}", String::from_utf8_lossy(&listed.stderr));
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let names: Vec<&str> = listed.lines().collect();
        for name in ["dir/", "dir/.wh.gone", "dir/opaque/.wh..wh..opq", "linked", "dir/null"] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        assert_eq!(names.iter().filter(|name| name.starts_with(&LONG[..30])).count(), 2);
    }

    #[test]
    fn what_an_image_cannot_say_is_refused_and_nothing_is_left() {
        let scratch = Scratch::new("pack");
        let upper = scratch.path("upper");
        fs::create_dir(&upper).unwrap();
        fs::write(upper.join(".wh.name"), "").unwrap();
        let error = pack(&options(&scratch, upper.clone())).unwrap_err();
        assert!(matches!(error, LayerError::Unsupported { .. }), "{error}");
        fs::remove_file(upper.join(".wh.name")).unwrap();
        fs::create_dir(upper.join("moved")).unwrap();
        lsetxattr(upper.join("moved"), "trusted.overlay.redirect", b"/old", XattrFlags::empty()).unwrap();
        let error = pack(&options(&scratch, upper)).unwrap_err();
        assert!(error.to_string().contains("redirect_dir"), "{error}");
        assert!(!scratch.path("layer").exists() && !scratch.path("blob").exists());
    }

    #[test]
    fn a_directory_of_the_engine_is_told_with_what_a_container_changed_in_it() {
        let scratch = Scratch::new("pack");
        let (upper, lower) = (scratch.path("upper"), scratch.path("lower"));
        for (layer, name) in [(&upper, "etc/deep"), (&upper, "sys"), (&lower, "etc"), (&lower, "sys"), (&upper, "proc")]
        {
            fs::create_dir_all(layer.join(name)).unwrap();
        }
        fs::write(upper.join("etc/deep/file"), "mine").unwrap();
        fs::set_permissions(upper.join("sys"), fs::Permissions::from_mode(0o700)).unwrap();
        let options = PackOptions { lower: vec![lower], ..options(&scratch, upper) };
        pack(&options).unwrap();
        let packed = scratch.path("layer");
        assert_eq!(fs::read(packed.join("etc/deep/file")).unwrap(), b"mine");
        assert_eq!(fs::metadata(packed.join("sys")).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(!packed.join("proc").exists());
    }

    #[test]
    fn a_socket_is_left_out() {
        let scratch = Scratch::new("pack");
        let upper = scratch.path("upper");
        fs::create_dir(&upper).unwrap();
        let _listener = UnixListener::bind(upper.join("sock")).unwrap();
        fs::write(upper.join("file"), "").unwrap();
        assert_eq!(pack(&options(&scratch, upper)).unwrap().entries, 1);
    }

    /// The answer as a client gets it, its body without the chunks' frames.
    fn exported(layers: Vec<PathBuf>) -> Vec<u8> {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let sending =
            std::thread::spawn(move || export(&layers, Client { fd: theirs.into(), head: "H\r\n\r\n".into() }));
        let mut got = Vec::new();
        std::io::Read::read_to_end(&mut ours, &mut got).unwrap();
        sending.join().unwrap().unwrap();
        let mut rest = got.strip_prefix(b"H\r\n\r\n").unwrap();
        let mut body = Vec::new();
        loop {
            let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
            let len = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            if len == 0 {
                assert_eq!(&rest[end..], b"\r\n\r\n");
                return body;
            }
            body.extend_from_slice(&rest[end + 2..end + 2 + len]);
            rest = &rest[end + len + 4..];
        }
    }

    #[test]
    fn an_export_is_what_a_container_sees() {
        let scratch = Scratch::new("pack");
        let (upper, lower) = (upper(&scratch), scratch.path("lower"));
        fs::create_dir_all(lower.join("dir/opaque")).unwrap();
        for name in ["dir/gone", "dir/file", "dir/opaque/hidden", "below", ".wh.odd"] {
            fs::write(lower.join(name), "lower").unwrap();
        }
        settle(&upper);
        settle(&lower);
        let tar = exported(vec![upper, lower]);
        let listed = names_of(&tar);
        for name in ["dir/file", "dir/opaque/", "below", ".wh.odd", "dev/pts/", "linked"] {
            assert!(listed.contains(&name.to_string()), "{name} in {listed:?}");
        }
        for name in ["dir/gone", "dir/opaque/hidden", "dir/.wh.gone", "dir/opaque/.wh..wh..opq"] {
            assert!(!listed.contains(&name.to_string()), "{name} in {listed:?}");
        }
        assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("caisson-layer-pack"));
    }

    fn names_of(tar: &[u8]) -> Vec<String> {
        let mut child = std::process::Command::new("tar")
            .arg("-t")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let tar = tar.to_vec();
        let feeding = std::thread::spawn(move || stdin.write_all(&tar).unwrap());
        let output = child.wait_with_output().unwrap();
        feeding.join().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect()
    }
}
