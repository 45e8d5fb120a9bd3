//! A tree as an archive: a container's own layer in the form that images have it, or the whole root filesystem as a
//! container sees it.

use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fgetxattr, fstat, openat, statat};
use rustix::io::Errno;

use super::archive::Process;
use super::dirs::{MAX_DEPTH, OPAQUE, open_beneath};
use super::error::{LayerError, Result, corrupt, system};
use super::member::{BUFFER, Links, entry, names, promised, special};
use super::pipeline::{AppliedLayer, Layer, LayerOptions};
use super::remove::remove_tree;
use super::tar::{Entry, Kind, Writer};
use super::{view, xattr};
use crate::logs::Client;
use sinks::{Body, Feed};

mod sinks;

/// How an overlay's upper directory says what it removed, and how an image does.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// The upper directory of a container's overlay.
    pub upper: PathBuf,
    pub layer: LayerOptions,
}

/// Makes a layer of what a container changed: archived, hashed and unpacked to `layer.target_dir`, in one pass over the
/// files. `layer.blob_path` is written in a second pass, where nothing else gives the archive back.
pub fn pack(options: &PackOptions) -> Result<AppliedLayer> {
    let PackOptions { upper, layer } = options;
    let applied = pack_once(upper, LayerOptions { blob_path: None, ..layer.clone() })?;
    if applied.recipe || layer.blob_path.is_none() {
        return Ok(applied);
    }
    remove_tree(&layer.target_dir)?;
    pack_once(upper, layer.clone())
}

fn pack_once(upper: &Path, options: LayerOptions) -> Result<AppliedLayer> {
    let root = directory(upper)?;
    let layer = Layer::open(options);
    let mut sink = Feed { layer: &layer, failed: false };
    let mut packing = Packing::new(&mut sink, Source::Upper);
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

/// Sends a container's root filesystem to a client as the chunked body of an answer: that of the running `process`, or
/// `layers`, the top one first. What is mounted in the container is not in it. The client that leaves is an end like any
/// other.
pub fn export(process: Option<&Process>, layers: &[PathBuf], client: Client) -> Result<()> {
    let running = process.map(view::of_process).transpose()?.flatten();
    let root = running.map_or_else(|| view::open(layers), Ok)?;
    let root = open_beneath(&root, b".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(system("open", b"/"))?;
    let mut body = Body { client, gone: false };
    body.head().map_err(|error| io_failure(&error, b"/"))?;
    let mut packing = Packing::new(&mut body, Source::View);
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

fn io_failure(error: &io::Error, path: &[u8]) -> LayerError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => LayerError::Stopped { path: String::from_utf8_lossy(path).into_owned() },
        io::ErrorKind::InvalidInput => corrupt("archive", path, "it cannot be written as a tar entry"),
        _ => system("archive", path)(Errno::from_io_error(error).unwrap_or(Errno::IO)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// An overlay's upper directory: its marks become an image's.
    Upper,
    View,
}

struct Packing<W: Write> {
    out: Writer<BufWriter<W>>,
    source: Source,
    links: Links,
    buffer: Vec<u8>,
}

impl<W: Write> Packing<W> {
    fn new(out: W, source: Source) -> Self {
        let out = Writer::new(BufWriter::with_capacity(BUFFER, out));
        Self { out, source, links: Links::default(), buffer: vec![0; BUFFER] }
    }

    fn finish(self) -> Result<()> {
        self.out.finish().and_then(|mut out| out.flush()).map_err(|error| io_failure(&error, b"/"))
    }

    /// The root itself has no entry: an image's layers must not change it unseen.
    fn tree(&mut self, root: OwnedFd) -> Result<()> {
        let mut way = vec![(names(&root).map_err(system("read", b"/"))?, root)];
        let mut path: Vec<Vec<u8>> = Vec::new();
        while let Some((below, dir)) = way.last_mut() {
            let Some(name) = below.pop() else {
                way.pop();
                path.pop();
                continue;
            };
            path.push(name);
            if path.len() > MAX_DEPTH {
                return Err(corrupt("archive", &path.join(&b'/'), format!("deeper than {MAX_DEPTH} directories")));
            }
            match self.entry(dir, &path)? {
                Some(dir) => {
                    let below = names(&dir).map_err(system("read", &path.join(&b'/')))?;
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
        if self.source == Source::Upper && kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            let parents = &full[..full.len() - name.len()];
            self.marker([parents, WHITEOUT, name].concat(), &stat)?;
            return Ok(None);
        }
        if self.source == Source::Upper && name.starts_with(WHITEOUT) {
            let reason = "names that begin with .wh. mean removed files in an image";
            return Err(LayerError::Unsupported { op: "archive", path: shown(&full), reason: reason.into() });
        }
        match kind {
            FileType::Directory => self.directory(dir, name, full),
            FileType::RegularFile => self.regular(dir, name, &full).map(|()| None),
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
        let opaque = self.source == Source::Upper && is_opaque(&below);
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
        let xattrs = kept(xattr::of_fd(&file, full)?);
        self.refuse_redirect(&file, full)?;
        if let Some(first) = self.links.other_name(&stat, full) {
            return self.put(&entry(full.to_vec(), Kind::Hardlink(first), &stat, Vec::new()));
        }
        self.put(&entry(full.to_vec(), Kind::Regular, &stat, xattrs))?;
        while self.out.left() > 0 {
            let count = promised(&file, &mut self.buffer, self.out.left()).map_err(system("read", full))?;
            self.out.data(&self.buffer[..count]).map_err(|error| io_failure(&error, full))?;
        }
        Ok(())
    }

    fn other(&mut self, dir: &OwnedFd, name: &[u8], full: &[u8], stat: &Stat) -> Result<()> {
        let Some(kind) = special(dir, name, stat).map_err(system("readlink", full))? else { return Ok(()) };
        if let Some(first) = self.links.other_name(stat, full) {
            return self.put(&entry(full.to_vec(), Kind::Hardlink(first), stat, Vec::new()));
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
            if self.source == Source::Upper && fgetxattr(fd, name, &mut [0u8; 4096][..]).is_ok() {
                let reason = format!("it has {name}: turn off redirect_dir and metacopy of the overlay module");
                return Err(LayerError::Unsupported { op: "archive", path: shown(full), reason });
            }
        }
        Ok(())
    }

    fn put(&mut self, entry: &Entry) -> Result<()> {
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

#[cfg(test)]
mod tests;
