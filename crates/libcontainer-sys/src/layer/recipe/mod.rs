//! What makes a layer's archive again out of its directory, to the byte: all of the archive that is not the content of
//! its files. Beside the unpacked layer it is small, and it spares keeping the layer twice.
//!
//! The file is one zstd stream of records, integers in little-endian:
//!
//! ```text
//! 0  len: u32, bytes                                  as they stood in the archive: headers, padding, its end
//! 1  len: u16, path below the layer, size: u64, crc: u32      here stood what that file holds (CRC-32 of it)
//! 2                                                   the end
//! ```
//!
//! An archive whose files are not all to be found in the directory afterwards (a name that comes twice, a file with holes)
//! has no recipe: its blob has to be kept.

mod recorder;
mod recreate;

pub(super) use recorder::Recorder;
pub use recreate::{RecreateOptions, archive_size, recreate, send_archive};

const BYTES: u8 = 0;
const FILE: u8 = 1;
const END: u8 = 2;
/// Bytes of one record of `BYTES`.
const MAX_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
