//! The content and attributes of a regular file.

use std::io::BufRead;
use std::os::fd::OwnedFd;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, ftruncate, futimens, openat};
use rustix::io::Errno;

use super::super::error::{Result, system};
use super::super::tar::Entry;
use super::super::xattr;
use super::{Archive, Extractor, failure, times};

impl Extractor {
    pub(super) fn regular<R: BufRead>(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        reader: &mut Archive<R>,
    ) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            self.create(parent, name, entry, "create", || openat(parent, name, flags, Mode::RUSR | Mode::WUSR))?;
        match &entry.sparse {
            None => {
                reader.input_mut().file_begins(|| self.dirs.path_of(name));
                self.fill(&file, None, entry, reader)?;
                reader.input_mut().file_ends();
            }
            Some(regions) => {
                reader.input_mut().give_up();
                for region in regions {
                    self.fill(&file, Some((region.offset, region.len)), entry, reader)?;
                }
                ftruncate(&file, entry.size).map_err(system("truncate", &entry.path))?;
            }
        }
        self.totals.bytes = self.totals.bytes.saturating_add(entry.size);
        if (entry.uid, entry.gid) != (0, 0) {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            fchown(&file, Some(uid), Some(gid)).map_err(system("chown", &entry.path))?;
        }
        // After chown, which clears setuid and security.capability.
        fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(system("chmod", &entry.path))?;
        xattr::set_on_fd(&file, &entry.xattrs, &entry.path)?;
        futimens(&file, &times(entry.mtime)).map_err(system("set the times of", &entry.path))
    }

    /// Writes the data of one region, or all of it.
    fn fill<R: BufRead>(
        &self,
        file: &OwnedFd,
        region: Option<(u64, u64)>,
        entry: &Entry,
        reader: &mut Archive<R>,
    ) -> Result<()> {
        let (mut offset, mut left) = region.unwrap_or((0, u64::MAX));
        while left > 0 {
            let data = reader.data().map_err(|error| failure(error, &entry.path, &self.layer))?;
            let data = &data[..usize::try_from(left).map_or(data.len(), |left| left.min(data.len()))];
            if data.is_empty() {
                break;
            }
            let written = match region {
                None => rustix::io::write(file, data),
                Some(_) => rustix::io::pwrite(file, data, offset),
            };
            let written = match written {
                Ok(0) => return Err(system("write", &entry.path)(Errno::IO)),
                Err(Errno::INTR) => continue,
                other => other.map_err(system("write", &entry.path))?,
            };
            reader.consume(written);
            offset += written as u64;
            left -= written as u64;
        }
        Ok(())
    }
}
