//! Writes archives that every reader understands the same way: ustar headers, and a PAX header before those whose values
//! do not fit.

use std::io::{self, Write};

use super::{BLOCK, Entry, Kind};

pub(in crate::layer) struct Writer<W> {
    out: W,
    /// Bytes of the current entry's data that are still to come, and of the padding behind them.
    left: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    pub(in crate::layer) fn new(out: W) -> Self {
        Self { out, left: 0, padding: 0 }
    }

    /// Writes the header; exactly `entry.size` bytes of data follow by `data` when it is a regular file. A directory's
    /// path gets its slash here.
    pub(in crate::layer) fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.close()?;
        let mut path = entry.path.clone();
        if entry.kind == Kind::Directory && !path.ends_with(b"/") {
            path.push(b'/');
        }
        let size = if entry.kind == Kind::Regular { entry.size } else { 0 };
        let (typeflag, link, device) = match &entry.kind {
            Kind::Regular => (b'0', &[][..], None),
            Kind::Hardlink(to) => (b'1', to.as_slice(), None),
            Kind::Symlink(to) => (b'2', to.as_slice(), None),
            Kind::Char { major, minor } => (b'3', &[][..], Some((*major, *minor))),
            Kind::Block { major, minor } => (b'4', &[][..], Some((*major, *minor))),
            Kind::Directory => (b'5', &[][..], None),
            Kind::Fifo => (b'6', &[][..], None),
        };
        let mut block = Block::new(typeflag);
        let mut pax = Vec::new();
        block.text(0, 100, &path, "path", &mut pax);
        block.text(157, 100, link, "linkpath", &mut pax);
        block.number(100, 8, u64::from(entry.mode & 0o7777), "", &mut pax);
        block.number(108, 8, u64::from(entry.uid), "uid", &mut pax);
        block.number(116, 8, u64::from(entry.gid), "gid", &mut pax);
        block.number(124, 12, size, "size", &mut pax);
        match u64::try_from(entry.mtime.seconds) {
            Ok(seconds) => block.number(136, 12, seconds, "mtime", &mut pax),
            // Before 1970.
            Err(_) => record(&mut pax, "mtime", entry.mtime.seconds.to_string().as_bytes()),
        }
        if let Some((major, minor)) = device {
            block.device(329, major)?;
            block.device(337, minor)?;
        }
        for (name, value) in &entry.xattrs {
            record(&mut pax, &format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)), value);
        }
        if !pax.is_empty() {
            let mut header = Block::new(b'x');
            header.text(0, 100, b"PaxHeaders", "", &mut Vec::new());
            header.number(100, 8, 0o644, "", &mut Vec::new());
            header.number(124, 12, pax.len() as u64, "", &mut Vec::new());
            self.out.write_all(&header.sealed())?;
            let padding = pad(pax.len() as u64);
            pax.resize(pax.len() + padding, 0);
            self.out.write_all(&pax)?;
        }
        self.left = size;
        self.padding = pad(size);
        self.out.write_all(&block.sealed())
    }

    pub(in crate::layer) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        self.out.write_all(bytes)
    }

    /// Bytes of the current entry that have not come yet.
    pub(in crate::layer) fn left(&self) -> u64 {
        self.left
    }

    /// The two empty blocks that end an archive.
    pub(in crate::layer) fn finish(mut self) -> io::Result<W> {
        self.close()?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn close(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        self.out.write_all(&[0; BLOCK][..std::mem::take(&mut self.padding)])
    }
}

fn pad(len: u64) -> usize {
    (BLOCK - (len % BLOCK as u64) as usize) % BLOCK
}

struct Block([u8; BLOCK]);

impl Block {
    fn new(typeflag: u8) -> Self {
        let mut block = [0; BLOCK];
        block[156] = typeflag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        let mut block = Self(block);
        // Fields that some readers want to be numbers even where they mean nothing.
        for (offset, len) in [(100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (329, 8), (337, 8)] {
            block.octal(offset, len, 0);
        }
        block
    }

    /// What does not fit goes to the PAX header, and as much as fits stands here for readers without PAX.
    fn text(&mut self, offset: usize, len: usize, text: &[u8], key: &str, pax: &mut Vec<u8>) {
        let short = &text[..text.len().min(len)];
        self.0[offset..offset + short.len()].copy_from_slice(short);
        if text.len() > len {
            record(pax, key, text);
        }
    }

    fn number(&mut self, offset: usize, len: usize, value: u64, key: &str, pax: &mut Vec<u8>) {
        if value >> (3 * (len - 1)) == 0 {
            self.octal(offset, len, value);
        } else {
            record(pax, key, value.to_string().as_bytes());
        }
    }

    /// Numbers of devices have no PAX record.
    fn device(&mut self, offset: usize, value: u32) -> io::Result<()> {
        if value >> 21 != 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.octal(offset, 8, u64::from(value));
        Ok(())
    }

    fn octal(&mut self, offset: usize, len: usize, value: u64) {
        let text = format!("{value:0width$o}\0", width = len - 1);
        self.0[offset..offset + len].copy_from_slice(text.as_bytes());
    }

    fn sealed(mut self) -> [u8; BLOCK] {
        self.0[148..156].fill(b' ');
        let sum: u32 = self.0.iter().map(|&byte| u32::from(byte)).sum();
        self.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

/// `length key=value\n`, where the length counts itself.
fn record(pax: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    pax.extend_from_slice(format!("{len} {key}=").as_bytes());
    pax.extend_from_slice(value);
    pax.push(b'\n');
}
