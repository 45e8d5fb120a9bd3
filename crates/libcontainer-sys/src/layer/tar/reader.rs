//! From a stream to entries, and their data as slices of the stream's own buffer.

use std::io::{self, BufRead, Read};

use super::header::{Format, Header, Numbers, unsigned};
use super::pax::{Records, SparseForm};
use super::sparse::{Map, decimal};
use super::{BLOCK, Entry, Kind, MAX_META, TarResult, Time, format};

pub(in super::super) struct Reader<R> {
    input: R,
    global: Records,
    /// Bytes of the current entry's data that have not been consumed, and of the padding behind it.
    remaining: u64,
    padding: u64,
    may_end_unpadded: bool,
}

/// What stood in front of a header.
#[derive(Default)]
struct Prelude {
    pax: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Prelude {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

impl<R: BufRead> Reader<R> {
    pub(in super::super) fn new(input: R) -> Self {
        Self { input, global: Records::default(), remaining: 0, padding: 0, may_end_unpadded: false }
    }

    /// The last entry's data may end the stream, as Go reads archives; the docker CLI sends such build contexts.
    pub(in super::super) fn unpadded(input: R) -> Self {
        Self { may_end_unpadded: true, ..Self::new(input) }
    }

    /// What it reads from: at the current entry's data, behind all that it has told of.
    pub(in super::super) fn input_mut(&mut self) -> &mut R {
        &mut self.input
    }

    pub(in super::super) fn into_input(self) -> R {
        self.input
    }

    /// The next entry; skips what is left of the one before. `None` at the end of the archive, after which the stream
    /// may still have bytes (`drain`).
    pub(in super::super) fn next(&mut self) -> TarResult<Option<Entry>> {
        self.skip(self.remaining)?;
        if !(self.may_end_unpadded && self.input.fill_buf()?.is_empty()) {
            self.skip(self.padding)?;
        }
        (self.remaining, self.padding) = (0, 0);
        let mut prelude = Prelude::default();
        loop {
            let Some(block) = self.header_block()? else {
                return if prelude.is_empty() {
                    Ok(None)
                } else {
                    Err(format("the archive ends behind an extended header"))
                };
            };
            let header = Header(&block);
            header.check()?;
            let numbers = header.numbers()?;
            match header.typeflag() {
                b'x' => {
                    let body = self.meta(numbers.size)?;
                    let records = Records::local(&body, &self.global)?;
                    if prelude.pax.replace(records).is_some() {
                        return Err(format("two PAX headers stand in front of one entry"));
                    }
                }
                b'g' => {
                    if !prelude.is_empty() {
                        return Err(format("a global header stands between an extended header and its entry"));
                    }
                    let body = self.meta(numbers.size)?;
                    self.global.global(&body)?;
                }
                b'L' => self.long(numbers.size, &mut prelude.long_name)?,
                b'K' => self.long(numbers.size, &mut prelude.long_link)?,
                _ => return self.entry(&header, &numbers, prelude).map(Some),
            }
        }
    }

    /// The next bytes of the current entry's data; empty when there are no more.
    pub(in super::super) fn data(&mut self) -> TarResult<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let available = self.input.fill_buf()?;
        if available.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let count = usize::try_from(self.remaining).map_or(available.len(), |left| left.min(available.len()));
        Ok(&available[..count])
    }

    pub(in super::super) fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.remaining -= count as u64;
    }

    /// Reads the stream to its end: what follows the archive still belongs to the digest.
    pub(in super::super) fn drain(&mut self) -> TarResult<()> {
        loop {
            let count = self.input.fill_buf()?.len();
            if count == 0 {
                return Ok(());
            }
            self.input.consume(count);
        }
    }

    fn skip(&mut self, mut count: u64) -> TarResult<()> {
        while count > 0 {
            let available = self.input.fill_buf()?.len();
            if available == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let step = usize::try_from(count).map_or(available, |left| left.min(available));
            self.input.consume(step);
            count -= step as u64;
        }
        Ok(())
    }

    fn block(&mut self) -> TarResult<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block)?;
        Ok(block)
    }

    /// `None` at the end of the archive: two blocks of zeros, or the end of the stream in their place.
    fn header_block(&mut self) -> TarResult<Option<[u8; BLOCK]>> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let first = self.block()?;
        if first != [0; BLOCK] {
            return Ok(Some(first));
        }
        if !self.input.fill_buf()?.is_empty() && self.block()? != [0; BLOCK] {
            return Err(format("a single block of zeros stands inside the archive"));
        }
        Ok(None)
    }

    /// The body of an extended header.
    fn meta(&mut self, size: u64) -> TarResult<Vec<u8>> {
        if size > MAX_META {
            return Err(format(format!("an extended header has {size} bytes; at most {MAX_META} are accepted")));
        }
        let mut body = Vec::new();
        (&mut self.input).take(size).read_to_end(&mut body)?;
        if (body.len() as u64) < size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.skip(padding(size))?;
        Ok(body)
    }

    /// A GNU long name or link target: a text that ends with NULs.
    fn long(&mut self, size: u64, into: &mut Option<Vec<u8>>) -> TarResult<()> {
        let mut body = self.meta(size)?;
        // Without its NUL some readers go on into the padding.
        let end = body.iter().position(|&byte| byte == 0).unwrap_or(0);
        if end == 0 || body[end..].iter().any(|&byte| byte != 0) {
            return Err(format("a GNU long name is empty, has no end, or holds a NUL"));
        }
        body.truncate(end);
        if into.replace(body).is_some() {
            return Err(format("two GNU long names stand in front of one entry"));
        }
        Ok(())
    }

    fn entry(&mut self, header: &Header<'_>, numbers: &Numbers, prelude: Prelude) -> TarResult<Entry> {
        let records = prelude.pax.unwrap_or_else(|| self.global.clone());
        let path = match either(prelude.long_name, records.path.clone(), "name")? {
            Some(path) => path,
            None => header.path()?,
        };
        let link = either(prelude.long_link, records.link.clone(), "link target")?.unwrap_or_else(|| header.link());
        let stored = records.size.unwrap_or(numbers.size);
        let kind = kind(header.typeflag(), &path, link, numbers.device)?;
        if kind != Kind::Regular && stored != 0 {
            // Readers disagree on whether data follows such an entry.
            return Err(format(format!("an entry without data has a size of {stored} bytes")));
        }
        if stored > i64::MAX as u64 - BLOCK as u64 {
            return Err(format(format!("a size of {stored} bytes is out of range")));
        }
        let (remaining, padding) = (stored, padding(stored));
        (self.remaining, self.padding) = (remaining, padding);
        let mut entry = Entry {
            path,
            kind,
            mode: numbers.mode,
            uid: owner(records.uid.unwrap_or(numbers.uid), "uid")?,
            gid: owner(records.gid.unwrap_or(numbers.gid), "gid")?,
            mtime: records.mtime.unwrap_or(Time { seconds: numbers.mtime, nanoseconds: 0 }),
            size: stored,
            xattrs: records.xattrs.clone(),
            sparse: None,
        };
        self.sparse(header, &records, &mut entry)?;
        Ok(entry)
    }

    fn sparse(&mut self, header: &Header<'_>, records: &Records, entry: &mut Entry) -> TarResult<()> {
        let form = records.sparse.form()?;
        let old = header.typeflag() == b'S';
        if !matches!(form, SparseForm::None) && (old || entry.kind != Kind::Regular) {
            return Err(format("GNU.sparse records belong to a regular file"));
        }
        let (map, real_size) = match form {
            SparseForm::None if old => self.old_sparse(header)?,
            SparseForm::None => return Ok(()),
            SparseForm::InRecords(map) => (map, records.sparse.real_size),
            SparseForm::InData => (self.sparse_map_in_data()?, records.sparse.real_size),
        };
        let real_size = real_size.ok_or_else(|| format("a sparse file has no real size"))?;
        if let Some(name) = &records.sparse.name {
            entry.path.clone_from(name);
        }
        entry.size = real_size;
        entry.sparse = Some(map.checked(real_size, self.remaining)?);
        Ok(())
    }

    /// Four regions in the header, 21 in each block that follows it. The blocks are not part of the size.
    fn old_sparse(&mut self, header: &Header<'_>) -> TarResult<(Map, Option<u64>)> {
        if header.format() != Format::Gnu {
            return Err(format("a GNU sparse entry in an archive that is not GNU's"));
        }
        let (first, mut more, real_size) = header.sparse()?;
        let mut map = Map::default();
        old_regions(first, &mut map)?;
        while more {
            let block = self.block()?;
            old_regions(&block[..504], &mut map)?;
            more = block[504] != 0;
        }
        Ok((map, Some(real_size)))
    }

    /// Version 1.0: decimal lines (count, then offset and length of each), padded to a block, part of the size.
    fn sparse_map_in_data(&mut self) -> TarResult<Map> {
        let mut used = 0u64;
        let mut pending = Vec::new();
        let mut numbers = 0u64;
        let mut count: Option<u64> = None;
        let mut map = Map::default();
        let mut offset = None;
        while count.is_none_or(|count| numbers < 2 * count + 1) {
            if used + BLOCK as u64 > self.remaining.min(MAX_META) {
                return Err(format("the map of a sparse file is longer than its data or than 1 MiB"));
            }
            let block = self.block()?;
            used += BLOCK as u64;
            for &byte in &block {
                if count.is_some_and(|count| numbers == 2 * count + 1) {
                    break;
                }
                if byte != b'\n' {
                    pending.push(byte);
                    continue;
                }
                let number = decimal(&pending)?;
                pending.clear();
                numbers += 1;
                match (count, offset.take()) {
                    (None, _) if number > MAX_META => return Err(format("a sparse file has too many regions")),
                    (None, _) => count = Some(number),
                    (Some(_), None) => offset = Some(number),
                    (Some(_), Some(offset)) => map.push(offset, number)?,
                }
            }
        }
        self.remaining -= used;
        Ok(map)
    }
}

fn old_regions(fields: &[u8], map: &mut Map) -> TarResult<()> {
    for region in fields.chunks_exact(24) {
        // An unused slot is empty or zeros.
        if region[12] == 0 && region[0] == 0 {
            break;
        }
        map.push(unsigned(&region[..12], "sparse offset")?, unsigned(&region[12..], "sparse length")?)?;
    }
    Ok(())
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// A GNU long name and a PAX name for the same entry: which one counts depends on the reader.
fn either(gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>, what: &str) -> TarResult<Option<Vec<u8>>> {
    match (gnu, pax) {
        (Some(_), Some(_)) => Err(format(format!("an entry has both a GNU and a PAX {what}"))),
        (gnu, pax) => Ok(gnu.or(pax)),
    }
}

fn owner(id: u64, what: &str) -> TarResult<u32> {
    // u32::MAX is "leave as it is" to chown(2).
    u32::try_from(id).ok().filter(|&id| id != u32::MAX).ok_or_else(|| format(format!("{what} {id} is out of range")))
}

fn kind(typeflag: u8, path: &[u8], link: Vec<u8>, (major, minor): (u32, u32)) -> TarResult<Kind> {
    let slash = path.ends_with(b"/");
    Ok(match typeflag {
        // V7 had no type for directories.
        0 if slash => Kind::Directory,
        other if slash && other != b'5' => return Err(format("the name of what is no directory ends in a slash")),
        0 | b'0' | b'7' | b'S' => Kind::Regular,
        b'1' => Kind::Hardlink(link),
        b'2' => Kind::Symlink(link),
        b'3' => Kind::Char { major, minor },
        b'4' => Kind::Block { major, minor },
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(format(format!("the entry's type '{}' is unknown", other.escape_ascii()))),
    })
}
