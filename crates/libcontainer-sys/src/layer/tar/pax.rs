//! Extended headers: `length key=value` records that replace or add to the fields of the header that follows.

use super::sparse::{Map, decimal};
use super::{TarResult, Time, format};

/// The records that mean something here. A `None` is a key that was not given or was given empty ("as if not there").
#[derive(Default, Clone)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
}

#[derive(Default, Clone)]
pub(super) struct SparseRecords {
    major: Option<u64>,
    minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    map: Option<Vec<u8>>,
    /// Version 0.0: offsets and lengths as alternating records, gathered to the form of 0.1.
    pairs: Vec<u8>,
    awaits_len: bool,
}

pub(super) enum SparseForm {
    None,
    /// 0.0 and 0.1: the map stands in the records.
    InRecords(Map),
    /// 1.0: the map stands in front of the data.
    InData,
}

impl SparseRecords {
    pub(super) fn form(&self) -> TarResult<SparseForm> {
        let listed = self.map.as_deref().or((!self.pairs.is_empty()).then_some(self.pairs.as_slice()));
        match (self.major, self.minor, listed) {
            (Some(1), Some(0), None) => Ok(SparseForm::InData),
            (None, None, None) if self.real_size.is_none() && self.name.is_none() => Ok(SparseForm::None),
            (None | Some(0), None | Some(0 | 1), Some(list)) if !self.awaits_len => {
                Ok(SparseForm::InRecords(Map::from_list(list)?))
            }
            _ => Err(format("the GNU.sparse records contradict each other")),
        }
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> TarResult<()> {
        match key {
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"name" => self.name = Some(name(value)?),
            b"realsize" | b"size" => self.real_size = Some(decimal(value)?),
            b"map" => self.map = Some(value.to_vec()),
            // Implied by the map.
            b"numblocks" => {
                decimal(value)?;
            }
            b"offset" | b"numbytes" => {
                decimal(value)?;
                if self.awaits_len != (key == b"numbytes") {
                    return Err(format("GNU.sparse.offset and GNU.sparse.numbytes do not alternate"));
                }
                self.awaits_len = !self.awaits_len;
                if !self.pairs.is_empty() {
                    self.pairs.push(b',');
                }
                self.pairs.extend_from_slice(value);
            }
            _ => return Err(format("an unknown GNU.sparse record")),
        }
        Ok(())
    }
}

impl Records {
    /// Records of one entry.
    pub(super) fn local(mut body: &[u8], defaults: &Self) -> TarResult<Self> {
        let mut records = defaults.clone();
        while !body.is_empty() {
            let (key, value, rest) = split(body)?;
            records.add(key, value)?;
            body = rest;
        }
        Ok(records)
    }

    /// Records for all entries that follow. Readers disagree on global names, sizes and the like: those are refused.
    pub(super) fn global(&mut self, mut body: &[u8]) -> TarResult<()> {
        while !body.is_empty() {
            let (key, value, rest) = split(body)?;
            match key {
                b"uid" | b"gid" | b"mtime" => self.add(key, value)?,
                b"comment" | b"atime" | b"ctime" | b"uname" | b"gname" | b"charset" | b"hdrcharset" => {}
                _ => {
                    let key = String::from_utf8_lossy(key);
                    return Err(format(format!("a global header must not set '{key}'")));
                }
            }
            body = rest;
        }
        Ok(())
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> TarResult<()> {
        let given = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = given.map(name).transpose()?,
            b"linkpath" => self.link = given.map(name).transpose()?,
            b"size" => self.size = given.map(decimal).transpose()?,
            b"uid" => self.uid = given.map(decimal).transpose()?,
            b"gid" => self.gid = given.map(decimal).transpose()?,
            b"mtime" => self.mtime = given.map(time).transpose()?,
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.add(key, value)?;
                } else if let Some(key) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattr(key.to_vec(), value.to_vec())?;
                } else if let Some(key) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    self.xattr(percent_decode(key)?, base64_decode(value)?)?;
                }
                // The rest (atime, user and group names, comments) means nothing to a layer.
            }
        }
        Ok(())
    }

    fn xattr(&mut self, key: Vec<u8>, value: Vec<u8>) -> TarResult<()> {
        if key.is_empty() || key.contains(&0) {
            return Err(format("the name of an extended attribute is empty or holds a NUL"));
        }
        self.xattrs.retain(|(known, _)| *known != key);
        self.xattrs.push((key, value));
        Ok(())
    }
}

/// The first record: key, value, what follows it.
fn split(body: &[u8]) -> TarResult<(&[u8], &[u8], &[u8])> {
    let bad = || format("a PAX record is malformed");
    let space = body.iter().take(20).position(|&byte| byte == b' ').ok_or_else(bad)?;
    let len = usize::try_from(decimal(&body[..space])?).map_err(|_| bad())?;
    if len <= space + 1 || len > body.len() || body[len - 1] != b'\n' {
        return Err(bad());
    }
    let record = &body[space + 1..len - 1];
    let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(bad)?;
    let key = &record[..equals];
    if key.is_empty() || key.contains(&0) {
        return Err(bad());
    }
    Ok((key, &record[equals + 1..], &body[len..]))
}

fn name(value: &[u8]) -> TarResult<Vec<u8>> {
    if value.contains(&0) { Err(format("a name in a PAX header holds a NUL")) } else { Ok(value.to_vec()) }
}

/// `[-]seconds[.fraction]`
fn time(value: &[u8]) -> TarResult<Time> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let (whole, fraction) = match digits.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(format("the mtime of a PAX header is not a number"));
    }
    let seconds = decimal(whole)?.cast_signed();
    let nanoseconds =
        (0..9).fold(0, |value, place| value * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0')));
    Ok(match (negative, nanoseconds) {
        (false, nanoseconds) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, nanoseconds) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

fn percent_decode(text: &[u8]) -> TarResult<Vec<u8>> {
    let bad = || format("the name of a LIBARCHIVE.xattr record is malformed");
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|pair| std::str::from_utf8(pair).ok()).ok_or_else(bad)?;
        out.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
        rest = &rest[2..];
    }
    Ok(out)
}

/// libarchive writes base 64 without padding.
fn base64_decode(text: &[u8]) -> TarResult<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for &byte in text.iter().filter(|&&byte| byte != b'=') {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(format("the value of a LIBARCHIVE.xattr record is not base 64")),
        };
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Ok(out)
}
