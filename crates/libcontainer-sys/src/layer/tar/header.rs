//! One header block: fixed fields, numbers in octal or base 256, the checksum.

use super::{BLOCK, TarResult, format};

pub(super) struct Header<'a>(pub(super) &'a [u8; BLOCK]);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    V7,
    Ustar,
    /// ustar with atime and ctime where the end of the prefix is.
    Star,
    Gnu,
}

pub(super) struct Numbers {
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) device: (u32, u32),
}

impl Header<'_> {
    fn field(&self, offset: usize, len: usize) -> &[u8] {
        &self.0[offset..offset + len]
    }

    pub(super) fn check(&self) -> TarResult<()> {
        let expected = octal(self.field(148, 8)).ok_or_else(|| format("a header's checksum is not a number"))?;
        let (mut unsigned, mut signed) = (0u64, 0i64);
        for (index, &byte) in self.0.iter().enumerate() {
            // The checksum counts itself as spaces; some old writers summed signed characters.
            let byte = if (148..156).contains(&index) { b' ' } else { byte };
            unsigned += u64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if expected == unsigned || i64::try_from(expected) == Ok(signed) {
            Ok(())
        } else {
            Err(format("a header's checksum is wrong"))
        }
    }

    pub(super) fn format(&self) -> Format {
        match self.field(257, 8) {
            b"ustar  \0" => Format::Gnu,
            // Some writers leave the version out or give it as NULs.
            [b'u', b's', b't', b'a', b'r', 0, ..] if self.field(508, 4) == b"tar\0" => Format::Star,
            [b'u', b's', b't', b'a', b'r', 0, ..] => Format::Ustar,
            _ => Format::V7,
        }
    }

    pub(super) fn typeflag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn path(&self) -> TarResult<Vec<u8>> {
        let name = text(self.field(0, 100));
        let prefix = match self.format() {
            Format::Ustar => text(self.field(345, 155)),
            Format::Star => text(self.field(345, 131)),
            // Some readers take what is here for a prefix, others do not look.
            Format::V7 if self.0[345] != 0 => return Err(format("an old header has a name's prefix")),
            // GNU has atime and ctime here.
            Format::Gnu if octal(self.field(345, 12)).is_none() => {
                return Err(format("a GNU header has a name's prefix"));
            }
            Format::V7 | Format::Gnu => b"",
        };
        Ok(if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() })
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(self.field(157, 100)).to_vec()
    }

    /// All numbers are read, also those that count for nothing: a header that another reader finds malformed ends the
    /// archive there, silently with some.
    pub(super) fn numbers(&self) -> TarResult<Numbers> {
        let device = |offset, name| {
            let value = unsigned(self.field(offset, 8), name)?;
            u32::try_from(value).map_err(|_| format(format!("{name} {value} is out of range")))
        };
        let device = (device(329, "devmajor")?, device(337, "devminor")?);
        Ok(Numbers {
            // Some writers put the file type in as well: the permission bits are what counts.
            mode: (unsigned(self.field(100, 8), "mode")? & 0o7777) as u32,
            uid: unsigned(self.field(108, 8), "uid")?,
            gid: unsigned(self.field(116, 8), "gid")?,
            size: unsigned(self.field(124, 12), "size")?,
            mtime: signed(self.field(136, 12), "mtime")?,
            device: if self.format() == Format::V7 { (0, 0) } else { device },
        })
    }

    /// The four regions of an old GNU sparse header, whether a block with more follows, and the file's real size.
    pub(super) fn sparse(&self) -> TarResult<(&[u8], bool, u64)> {
        Ok((self.field(386, 96), self.0[482] != 0, unsigned(self.field(483, 12), "real size")?))
    }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Octal digits between spaces and NULs; nothing at all counts as 0.
fn octal(field: &[u8]) -> Option<u64> {
    let padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !padding(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(padding).unwrap_or(digits.len());
    if !digits[end..].iter().all(padding) {
        return None;
    }
    digits[..end].iter().try_fold(0u64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Base 256 (GNU): the top bit marks it, the rest is a big-endian number in two's complement.
fn signed(field: &[u8], name: &str) -> TarResult<i64> {
    if field[0] & 0x80 == 0 {
        let value = octal(field).ok_or_else(|| format(format!("a header's {name} is not a number")))?;
        return i64::try_from(value).map_err(|_| format(format!("a header's {name} is out of range")));
    }
    // Bit 6 is the sign; the marker bit is replaced by a copy of it.
    let negative = field[0] & 0x40 != 0;
    let first = if negative { field[0] } else { field[0] & 0x7f };
    let mut value: i128 = if negative { -1 } else { 0 };
    for byte in std::iter::once(first).chain(field[1..].iter().copied()) {
        value = (value << 8) | i128::from(byte);
    }
    i64::try_from(value).map_err(|_| format(format!("a header's {name} is out of range")))
}

pub(super) fn unsigned(field: &[u8], name: &str) -> TarResult<u64> {
    let value = signed(field, name)?;
    u64::try_from(value).map_err(|_| format(format!("a header's {name} is negative: {value}")))
}
