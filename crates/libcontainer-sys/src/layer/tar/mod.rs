//! The archive format: ustar, GNU and PAX, as tar(5) and POSIX pax describe them.
//!
//! Where well-known readers disagree on what bytes mean (CVE-2025-62518 and its kin) the archive is refused: an entry
//! that one scanner sees and another does not is worth more to an attacker than to an image.

mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub(super) use reader::Reader;
pub(super) use sparse::Region;
pub(super) use writer::Writer;

/// Bytes of a block; headers and data are padded to it.
pub(super) const BLOCK: usize = 512;

/// Whether a block is the header of an entry.
pub(super) fn is_header(block: &[u8; BLOCK]) -> bool {
    *block != [0; BLOCK] && header::Header(block).check().is_ok()
}
/// Bytes of one PAX header, long name or sparse map (Go's and node-tar's limit).
const MAX_META: u64 = 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Directory,
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// As in the archive: may be absolute, hold `..`, end in a slash.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    /// Bytes of the file when it is written, holes included.
    pub(super) size: u64,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data belongs when the file has holes.
    pub(super) sparse: Option<Vec<Region>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

/// Why an archive is refused.
pub(super) enum TarError {
    Io(std::io::Error),
    Format(String),
}

impl From<std::io::Error> for TarError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn format(reason: impl Into<String>) -> TarError {
    TarError::Format(reason.into())
}

type TarResult<T> = Result<T, TarError>;
