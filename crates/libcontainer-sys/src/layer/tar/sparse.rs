//! Files with holes: the map of the parts that have data, in the four forms that GNU tar has written over time.

use super::{TarResult, format};

/// GNU tar's own files have a few; a map is held in memory while its file is written.
const MAX_REGIONS: usize = 65_536;
/// ext4's largest file. A map that claims more (8 EiB is the classic) is no file anyone had.
const MAX_SIZE: u64 = 16 << 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Region {
    pub(in super::super) offset: u64,
    pub(in super::super) len: u64,
}

#[derive(Default)]
pub(super) struct Map(Vec<Region>);

impl Map {
    pub(super) fn push(&mut self, offset: u64, len: u64) -> TarResult<()> {
        if self.0.len() == MAX_REGIONS {
            return Err(format(format!("a sparse file has more than {MAX_REGIONS} regions")));
        }
        self.0.push(Region { offset, len });
        Ok(())
    }

    /// From `offset,length,offset,length,…` (GNU.sparse.map, version 0.1; version 0.0 is gathered to the same).
    pub(super) fn from_list(list: &[u8]) -> TarResult<Self> {
        let mut map = Self::default();
        let mut numbers = list.split(|&byte| byte == b',');
        while let Some(offset) = numbers.next() {
            if offset.is_empty() && map.0.is_empty() {
                break;
            }
            let len = numbers.next().ok_or_else(|| format("a sparse map ends half way"))?;
            map.push(decimal(offset)?, decimal(len)?)?;
        }
        Ok(map)
    }

    /// The regions in order, without overlap, inside the file, and exactly as long as the data.
    pub(super) fn checked(self, real_size: u64, data_size: u64) -> TarResult<Vec<Region>> {
        if real_size > MAX_SIZE {
            return Err(format(format!("a sparse file of {real_size} bytes is too large")));
        }
        let (mut end, mut total) = (0u64, 0u64);
        for region in &self.0 {
            if region.offset < end {
                return Err(format("the regions of a sparse file overlap or are out of order"));
            }
            end = region.offset.checked_add(region.len).ok_or_else(|| format("a sparse region overflows"))?;
            total += region.len;
        }
        if end > real_size {
            return Err(format("a sparse region lies behind the end of its file"));
        }
        if total != data_size {
            return Err(format(format!("a sparse map speaks of {total} bytes and the archive has {data_size}")));
        }
        Ok(self.0)
    }
}

pub(super) fn decimal(digits: &[u8]) -> TarResult<u64> {
    let bad = || format(format!("'{}' is not a number", String::from_utf8_lossy(digits)));
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    let value: u64 = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    if value > i64::MAX as u64 { Err(bad()) } else { Ok(value) }
}
