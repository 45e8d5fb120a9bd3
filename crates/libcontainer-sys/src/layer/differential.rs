//! Generated archives, read by this module and by others: whatever is accepted here must be the same entries there. An
//! entry that one reader sees and another does not is how content is smuggled past a scanner (CVE-2025-62518).

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tar::{Kind, Reader, TarError};
use super::testing::{Raw, Scratch, apply, archive, digest, noise, seal, tree};

/// xorshift64: the same archives in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

fn name(random: &mut Random) -> String {
    let depth = 1 + random.below(3);
    let parts: Vec<_> =
        (0..depth).map(|_| *random.pick(&["a", "b", "dir", "x.y", "ü", "long-name-of-a-file"])).collect();
    parts.join("/")
}

/// An entry with what may stand in front of it. All of it is sound.
fn sound(random: &mut Random, index: u64) -> Vec<Raw> {
    let long = format!("{}/{}{index}", name(random), "n".repeat(random.below(200) as usize));
    let mut entry = match random.below(8) {
        0 | 1 => Raw { mode: 0o755, ..Raw::new(b'5', format!("d{index}/")) },
        2 => Raw::link(b'2', format!("s{index}"), name(random)),
        3 => Raw::new(b'6', format!("p{index}")),
        4 => Raw { device: (1, random.below(9) as u32), ..Raw::new(b'3', format!("c{index}")) },
        _ => {
            let len = random.below(3000) as usize;
            Raw::file(format!("f{index}"), noise(random.next(), len))
        }
    };
    entry.mode = (random.next() & 0o7777) as u32;
    entry.uid = format!("{:07o}", random.below(70_000)).into_bytes();
    entry.gnu = random.one_in(3);
    let is_dir = entry.typeflag == b'5';
    match random.below(6) {
        0 => {
            let path = if is_dir { format!("{long}/") } else { long };
            let mut records: Vec<(&str, &[u8])> = vec![("path", path.as_bytes()), ("mtime", b"1700000000.123456789")];
            let size = entry.data.len().to_string();
            if entry.typeflag == b'0' {
                records.push(("size", size.as_bytes()));
            }
            records.push(("uid", b"1234567"));
            entry.gnu = false;
            vec![Raw::pax(&records), entry]
        }
        1 => {
            let path = if is_dir { format!("{long}/\0") } else { format!("{long}\0") };
            entry.gnu = true;
            vec![Raw { data: path.into_bytes(), gnu: true, ..Raw::new(b'L', "././@LongLink") }, entry]
        }
        2 if entry.typeflag == b'2' => {
            entry.gnu = true;
            let target = format!("{long}\0").into_bytes();
            vec![Raw { data: target, gnu: true, ..Raw::new(b'K', "././@LongLink") }, entry]
        }
        3 => vec![Raw { typeflag: b'g', ..Raw::pax(&[("comment", b"x")]) }, entry],
        _ => vec![entry],
    }
}

fn sound_archive(random: &mut Random) -> Vec<u8> {
    let count = 1 + random.below(8);
    archive(&(0..count).flat_map(|index| sound(random, index)).collect::<Vec<_>>())
}

/// Makes one header mean something else, with a checksum that fits again.
fn spoil(random: &mut Random, bytes: &mut [u8]) {
    let blocks = bytes.len() / 512 - 2;
    let at = 512 * random.below(blocks as u64) as usize;
    let block: &mut [u8; 512] = (&mut bytes[at..at + 512]).try_into().unwrap();
    match random.below(6) {
        0 => block[156] = *random.pick(b"\x001234567xgLKSDMNV"),
        1 => block[124..136].copy_from_slice(*random.pick(&[
            b"00000000000\0",
            b"00000000001\0",
            b"00000001000\0",
            b"00000002000 ",
            b"     1000 \0\0",
            b"\x80\0\0\0\0\0\0\0\0\0\x02\0",
            b"-0000000001\0",
            b"0x200\0\0\0\0\0\0\0",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"1000\x001000\x00\x00\x00",
        ])),
        2 => block[257..265].copy_from_slice(*random.pick(&[
            b"ustar\x0000",
            b"ustar  \0",
            b"\0\0\0\0\0\0\0\0",
            b"ustar\0\0\0",
        ])),
        3 => block[345..352].copy_from_slice(b"prefix\0"),
        4 => block[508..512].copy_from_slice(b"tar\0"),
        _ => {
            let index = random.below(500) as usize;
            block[index] = *random.pick(b"\0\x01 /0179az.=\n\x80\xff");
        }
    }
    if !random.one_in(8) {
        seal(block);
    }
}

/// One line an entry: type, size, name and target in hex, digest of the data. `None` when it is refused.
fn listing(bytes: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader::new(bytes);
    let mut lines = Vec::new();
    let mut read = || -> Result<(), TarError> {
        while let Some(entry) = reader.next()? {
            let mut data = Vec::new();
            loop {
                let slice = reader.data()?;
                if slice.is_empty() {
                    break;
                }
                let count = slice.len();
                data.extend_from_slice(slice);
                reader.consume(count);
            }
            // Content with its holes filled in.
            if let Some(regions) = &entry.sparse {
                let mut whole = vec![0; entry.size as usize];
                let mut packed = data.as_slice();
                for region in regions {
                    packed.read_exact(&mut whole[region.offset as usize..][..region.len as usize])?;
                }
                data = whole;
            }
            let (kind, link) = match &entry.kind {
                Kind::Regular => ("file", &[][..]),
                Kind::Directory => ("dir", &[][..]),
                Kind::Symlink(target) => ("symlink", target.as_slice()),
                Kind::Hardlink(target) => ("link", target.as_slice()),
                Kind::Char { .. } => ("char", &[][..]),
                Kind::Block { .. } => ("block", &[][..]),
                Kind::Fifo => ("fifo", &[][..]),
            };
            let trimmed = match entry.kind {
                Kind::Directory => entry.path.trim_ascii_end_of(b'/'),
                _ => &entry.path,
            };
            let size = if entry.kind == Kind::Regular { entry.size } else { 0 };
            lines.push(format!("{kind} {size} {} {} {}", hex(trimmed), hex(link), digest(&data)));
        }
        Ok(())
    };
    read().ok()?;
    Some(lines)
}

trait TrimEnd {
    fn trim_ascii_end_of(&self, byte: u8) -> &[u8];
}

impl TrimEnd for Vec<u8> {
    fn trim_ascii_end_of(&self, byte: u8) -> &[u8] {
        let end = self.iter().rposition(|&other| other != byte).map_or(0, |last| last + 1);
        &self[..end]
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same lines by Python's tarfile, a reader with no code in common with this one or with GNU tar.
const PYTHON: &str = r#"
import hashlib, os, sys, tarfile
kinds = {tarfile.DIRTYPE: 'dir', tarfile.SYMTYPE: 'symlink', tarfile.LNKTYPE: 'link', tarfile.CHRTYPE: 'char',
         tarfile.BLKTYPE: 'block', tarfile.FIFOTYPE: 'fifo'}
for path in sys.argv[1:]:
    lines = []
    try:
        with tarfile.open(path, 'r:', errors='surrogateescape') as archive:
            for member in archive:
                kind = kinds.get(member.type, 'file')
                data = archive.extractfile(member).read() if kind == 'file' else b''
                link = member.linkname if kind in ('symlink', 'link') else ''
                lines.append(' '.join([kind, str(member.size if kind == 'file' else 0), os.fsencode(member.name).hex(),
                                       os.fsencode(link).hex(), 'sha256:' + hashlib.sha256(data).hexdigest()]))
    except Exception as error:
        lines.append('error ' + str(error).replace('\n', ' '))
    print('\n'.join(['archive ' + path] + lines))
"#;

fn by_python(files: &[PathBuf]) -> Vec<Vec<String>> {
    let output = Command::new("python3").args(["-c", PYTHON]).args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut archives = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("archive ") {
            Some(_) => archives.push(Vec::new()),
            None => archives.last_mut().unwrap().push(line.into()),
        }
    }
    archives
}

/// Where the peer is not installed there is nothing to compare with; CI sets `CAISSON_REQUIRE`, and then it must be.
fn missing(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    assert!(found || std::env::var_os("CAISSON_REQUIRE").is_none(), "{program} is not installed");
    !found
}

fn write_all(directory: &Path, archives: &[Vec<u8>]) -> Vec<PathBuf> {
    let write = |(index, bytes): (usize, &Vec<u8>)| {
        let path = directory.join(format!("{index:04}.tar"));
        fs::write(&path, bytes).unwrap();
        path
    };
    archives.iter().enumerate().map(write).collect()
}

#[test]
fn sound_archives_are_what_python_reads() {
    if missing("python3") {
        return;
    }
    let scratch = Scratch::new("sound");
    let mut random = Random(1);
    let archives: Vec<_> = (0..300).map(|_| sound_archive(&mut random)).collect();
    let files = write_all(&scratch.path(""), &archives);
    for (index, theirs) in by_python(&files).into_iter().enumerate() {
        assert_eq!(listing(&archives[index]), Some(theirs), "archive {index}");
    }
}

#[test]
fn spoiled_archives_are_refused_or_what_python_reads() {
    if missing("python3") {
        return;
    }
    let scratch = Scratch::new("spoiled");
    let mut random = Random(2);
    let archives: Vec<_> = (0..1000)
        .map(|_| {
            let mut bytes = sound_archive(&mut random);
            (0..=random.below(2)).for_each(|_| spoil(&mut random, &mut bytes));
            bytes
        })
        .collect();
    let files = write_all(&scratch.path(""), &archives);
    let mut accepted = 0;
    for (index, theirs) in by_python(&files).into_iter().enumerate() {
        if let Some(ours) = listing(&archives[index]) {
            accepted += 1;
            let mut theirs = theirs;
            // What Python says of an archive with a global header and nothing else.
            theirs.retain(|line| line != "error end of file header");
            assert_eq!(ours, theirs, "archive {index}");
        }
    }
    assert!(accepted > 100, "only {accepted} of the spoiled archives are still archives");
}

#[test]
fn sound_archives_become_what_gnu_tar_makes_of_them() {
    if missing("tar") {
        return;
    }
    let scratch = Scratch::new("gnu");
    let mut random = Random(3);
    for index in 0..100 {
        let bytes = sound_archive(&mut random);
        let (ours, theirs) = (scratch.path(&format!("{index}-ours")), scratch.path(&format!("{index}-theirs")));
        apply(&bytes, &ours).unwrap();
        let file = scratch.path("archive.tar");
        fs::write(&file, &bytes).unwrap();
        fs::create_dir(&theirs).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"]).arg(&file).arg("-C").arg(&theirs);
        let output = tar.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(without_implied(&ours, &bytes), without_implied(&theirs, &bytes), "archive {index}");
    }
}

/// The tree without the directories that no entry names: their times are those of the extraction.
fn without_implied(root: &Path, bytes: &[u8]) -> Vec<String> {
    let mut named = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Ok(Some(entry)) = reader.next() {
        named.push(String::from_utf8(entry.path.trim_ascii_end_of(b'/').to_vec()).unwrap());
    }
    let keep = |line: &String| line.split(' ').next().is_some_and(|path| named.iter().any(|name| name == path));
    tree(root).into_iter().filter(keep).collect()
}
