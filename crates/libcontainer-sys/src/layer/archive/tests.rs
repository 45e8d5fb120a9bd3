use super::mode::ModeChange;
use super::*;
use crate::layer::testing::Scratch;
use crate::spec::Overlay;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::{Command, Stdio};
use std::thread;

/// A stopped container with one lower layer and a volume on /data.
fn stopped(scratch: &Scratch) -> ViewOptions {
    for dir in ["lower/etc", "lower/data", "upper", "work", "volume"] {
        fs::create_dir_all(scratch.path(dir)).unwrap();
    }
    fs::write(scratch.path("lower/etc/passwd"), "root:x:0:0::/:\nuser:x:1000:1001::/:\n").unwrap();
    let text = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    ViewOptions {
        process: None,
        overlay: Overlay { lower: vec![text("lower")], upper: text("upper"), work: text("work"), volatile: false },
        mounts: vec![view::ViewMount {
            source: text("volume"),
            subpath: String::new(),
            destination: "/data".into(),
            read_only: false,
        }],
        read_only: false,
        writable: true,
        working_dir: None,
    }
}

/// As the addon does: on a thread that ends with the work.
fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

fn archive_of(options: &ViewOptions, path: &str) -> crate::failure::Result<Vec<u8>> {
    archive_by(options, path, &ReadOptions::default())
}

fn archive_as(options: &ViewOptions, path: &str, name: &str) -> crate::failure::Result<Vec<u8>> {
    archive_by(options, path, &ReadOptions { name: Some(name.into()), ..ReadOptions::default() })
}

fn archive_by(options: &ViewOptions, path: &str, how: &ReadOptions) -> crate::failure::Result<Vec<u8>> {
    let (mut reader, writer) = std::io::pipe().unwrap();
    thread::scope(|scope| {
        let work = scope.spawn(move || read(options, path, how, OwnedFd::from(writer)));
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        work.join().unwrap().map(|()| bytes)
    })
}

fn unpack(options: &ViewOptions, path: &str, how: &WriteOptions, archive: &[u8]) -> crate::failure::Result<()> {
    let (reader, mut writer) = std::io::pipe().unwrap();
    thread::scope(|scope| {
        let work = scope.spawn(move || write(options, path, how, OwnedFd::from(reader)));
        let _ = writer.write_all(archive);
        drop(writer);
        work.join().unwrap()
    })
}

fn tar(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("tar").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn names(archive: &[u8]) -> Vec<String> {
    String::from_utf8(tar(&["-tPf-"], archive)).unwrap().lines().map(str::to_owned).collect()
}

fn host_mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn what_goes_in_comes_out_through_layers_and_volumes() {
    let scratch = Scratch::new("archive");
    let options = stopped(&scratch);
    let source = scratch.path("source");
    fs::create_dir_all(source.join("tree/sub")).unwrap();
    fs::write(source.join("tree/sub/file"), vec![7; 300_000]).unwrap();
    fs::hard_link(source.join("tree/sub/file"), source.join("tree/again")).unwrap();
    chown(source.join("tree/again"), Some(12), Some(34)).unwrap();
    fs::set_permissions(source.join("tree/again"), fs::Permissions::from_mode(0o4711)).unwrap();
    symlink("/etc/passwd", source.join("tree/link")).unwrap();
    mknodat(CWD, source.join("tree/pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    let packed = tar(&["-C", source.to_str().unwrap(), "-cf-", "tree"], b"");
    let before = host_mounts();
    for place in ["/etc", "/data"] {
        unpack(&options, place, &WriteOptions::default(), &packed).unwrap();
        let out = archive_of(&options, &format!("{place}/tree")).unwrap();
        assert_eq!(names(&out), ["tree/", "tree/again", "tree/link", "tree/pipe", "tree/sub/", "tree/sub/file"]);
    }
    let file = fs::metadata(scratch.path("volume/tree/sub/file")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid(), file.nlink()), (0o4711, 12, 34, 2));
    assert_eq!(fs::read(scratch.path("upper/etc/tree/again")).unwrap(), vec![7; 300_000]);
    assert_eq!(host_mounts(), before);
}

#[test]
fn an_owner_is_looked_up_in_the_container() {
    let scratch = Scratch::new("archive");
    let options = stopped(&scratch);
    let packed = tar(&["-C", "/etc", "-cf-", "hostname"], b"");
    let how = WriteOptions { owner: Some("user".into()), ..WriteOptions::default() };
    unpack(&options, "/data", &how, &packed).unwrap();
    let file = fs::metadata(scratch.path("volume/hostname")).unwrap();
    assert_eq!((file.uid(), file.gid()), (1000, 1001));
    let how = WriteOptions { owner: Some("nobody".into()), ..WriteOptions::default() };
    assert!(unpack(&options, "/data", &how, &packed).unwrap_err().message.starts_with("unable to find user"));
}

#[test]
fn symlinks_end_at_the_root() {
    let scratch = Scratch::new("archive");
    let options = stopped(&scratch);
    let secret = scratch.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "of the host").unwrap();
    symlink(&secret, scratch.path("lower/absolute")).unwrap();
    symlink("../../../../../../../../../../../../", scratch.path("lower/up")).unwrap();
    let through = format!("/up{}/file", secret.display());
    for path in ["/absolute/file", through.as_str()] {
        let failure = archive_of(&options, path).unwrap_err();
        assert_eq!(failure.errno, Some(libc::ENOENT), "{path}: {failure}");
    }
    let packed = tar(&["-C", "/etc", "--transform", "s,^,absolute/,", "-cf-", "hostname"], b"");
    // the link leads nowhere in the container, and what it would lead to on the host stays as it is
    assert!(unpack(&options, "/", &WriteOptions::default(), &packed).is_err());
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1);
    let seen = on_thread(|| stat(&options, "/absolute")).unwrap();
    assert_eq!(seen.link_target, secret.to_str().unwrap());
}

#[test]
fn directories_and_files_do_not_replace_each_other_when_asked() {
    let scratch = Scratch::new("archive");
    let options = stopped(&scratch);
    fs::create_dir_all(scratch.path("volume/thing/below")).unwrap();
    fs::write(scratch.path("thing"), "a file").unwrap();
    let root = scratch.path("");
    let file = tar(&["-C", root.to_str().unwrap(), "-cf-", "thing"], b"");
    let how = WriteOptions { keep_kinds: true, ..WriteOptions::default() };
    let failure = unpack(&options, "/data", &how, &file).unwrap_err();
    assert_eq!(failure.message, "cannot overwrite directory \"thing\" with non-directory \"/data\"");
    unpack(&options, "/data", &WriteOptions::default(), &file).unwrap();
    assert_eq!(fs::read_to_string(scratch.path("volume/thing")).unwrap(), "a file");
    let root = scratch.path("lower");
    let directory = tar(&["-C", root.to_str().unwrap(), "--transform", "s,etc,thing,", "-cf-", "etc"], b"");
    let failure = unpack(&options, "/data", &how, &directory).unwrap_err();
    assert_eq!(failure.message, "cannot overwrite non-directory \"thing\" with directory \"/data\"");
}

#[test]
fn what_cannot_be_written_to_is_said_before_anything_is_made() {
    let scratch = Scratch::new("archive");
    let mut options = stopped(&scratch);
    options.read_only = true;
    options.mounts[0].read_only = true;
    let packed = tar(&["-C", "/etc", "-cf-", "hostname"], b"");
    let told =
        |path: &str, archive: &[u8]| unpack(&options, path, &WriteOptions::default(), archive).unwrap_err().message;
    assert_eq!(told("/etc", &packed), "container rootfs is marked read-only");
    assert_eq!(told("/data", &packed), "mounted volume is marked read-only");
    assert_eq!(told("/etc/passwd", &packed), "extraction point is not a directory");
    let mut options = options.clone();
    (options.read_only, options.mounts[0].read_only) = (false, false);
    let told = |archive: &[u8]| unpack(&options, "/data", &WriteOptions::default(), archive).unwrap_err().message;
    assert_eq!(told(&packed[..600]), "unexpected EOF");
    assert_eq!(fs::read_dir(scratch.path("upper")).unwrap().count(), 0);
}

#[test]
fn compressed_archives_are_inflated_here() {
    let scratch = Scratch::new("archive");
    let options = stopped(&scratch);
    let packed = tar(&["-C", "/etc", "-czf-", "hostname"], b"");
    unpack(&options, "/data", &WriteOptions::default(), &packed).unwrap();
    let plain = tar(&["-C", "/etc", "-cf-", "passwd"], b"");
    unpack(&options, "/data", &WriteOptions::default(), &zstd::encode_all(&plain[..], 0).unwrap()).unwrap();
    for (flag, name) in [("-cJf-", "group"), ("-cjf-", "hosts")] {
        unpack(&options, "/data", &WriteOptions::default(), &tar(&["-C", "/etc", flag, name], b"")).unwrap();
    }
    assert_eq!(fs::read_dir(scratch.path("volume")).unwrap().count(), 4);
}

#[test]
fn an_archive_is_told_by_what_it_holds() {
    let scratch = Scratch::new("archive");
    let file = scratch.path("file.tar");
    let is = |content: &[u8]| {
        fs::write(&file, content).unwrap();
        is_archive(file.to_str().unwrap()).unwrap()
    };
    for flag in ["-cf-", "-czf-", "-cJf-", "-cjf-"] {
        assert!(is(&tar(&["-C", "/etc", flag, "hostname"], b"")), "{flag}");
    }
    let text = [b'x'; 1024];
    assert!(![&text[..], &[0; 1024], b"", b"BZh9 by chance", b"\x1f\x8b"].into_iter().any(is));
    assert!(!is(&zstd::encode_all(&text[..], 0).unwrap()));
}

#[test]
fn a_reading_view_leaves_the_writable_layer_to_its_owner() {
    let scratch = Scratch::new("archive");
    let options = ViewOptions { writable: false, ..stopped(&scratch) };
    fs::write(scratch.path("upper/own"), "upper").unwrap();
    fs::write(scratch.path("volume/in"), "volume").unwrap();
    assert_eq!(
        names(&archive_of(&options, "/.").unwrap()),
        ["./", "./data/", "./data/in", "./etc/", "./etc/passwd", "./own"]
    );
    for path in ["/", "/data/..", "//"] {
        assert_eq!(
            names(&archive_of(&options, path).unwrap()),
            ["/", "/data/", "/data/in", "/etc/", "/etc/passwd", "/own"],
            "{path}"
        );
    }
    assert_eq!(names(&archive_of(&options, "/data/../etc").unwrap()), ["etc/", "etc/passwd"]);
    assert_eq!(fs::read_dir(scratch.path("work")).unwrap().count(), 0);
}

#[test]
fn changes_are_those_of_the_container() {
    let scratch = Scratch::new("changes");
    let (upper, lower) = (scratch.path("upper"), scratch.path("lower"));
    for dir in ["lower/etc", "lower/kept", "lower/gone", "upper/etc", "upper/new", "upper/kept"] {
        fs::create_dir_all(scratch.path(dir)).unwrap();
    }
    for file in ["lower/etc/passwd", "upper/etc/passwd", "upper/new/file"] {
        fs::write(scratch.path(file), "").unwrap();
    }
    mknodat(CWD, upper.join("gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    mknodat(CWD, upper.join("never"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    let found: Vec<String> =
        changes(&upper, &[lower]).unwrap().iter().map(|change| format!("{:?} {}", change.kind, change.path)).collect();
    assert_eq!(found, ["Modified /etc", "Modified /etc/passwd", "Deleted /gone", "Added /new", "Added /new/file"]);
}

#[test]
fn a_process_that_is_another_is_not_looked_into() {
    let scratch = Scratch::new("archive");
    let process = view::Process { pid: std::process::id().cast_signed(), start_time: 1, root: None };
    let options = ViewOptions { process: Some(process), ..stopped(&scratch) };
    assert_eq!(on_thread(|| stat(&options, "/etc")).unwrap_err().kind, crate::failure::Kind::Gone);
}

#[test]
fn files_go_by_another_name_owner_and_mode() {
    let scratch = Scratch::new("archive");
    let options = stopped(&scratch);
    fs::create_dir_all(scratch.path("upper/tree/sub")).unwrap();
    fs::write(scratch.path("upper/tree/sub/file"), "x").unwrap();
    assert_eq!(names(&archive_as(&options, "/tree", "a/b").unwrap()), ["a/b/", "a/b/sub/", "a/b/sub/file"]);
    assert_eq!(names(&archive_as(&options, "/tree/sub/file", "b").unwrap()), ["b"]);
    let inside = archive_as(&options, "/tree", "").unwrap();
    let except = ["sub/file".to_owned()].into();
    let how = ReadOptions { name: Some(String::new()), except };
    assert_eq!(names(&archive_by(&options, "/tree", &how).unwrap()), ["sub/"]);
    assert_eq!(names(&inside), ["sub/", "sub/file"]);

    let how = WriteOptions { keep_kinds: true, owner: Some("user".into()), mode: ModeChange::parse("640") };
    unpack(&options, "/", &how, &archive_as(&options, "/tree/sub/file", "made/on/the/way").unwrap()).unwrap();
    let stat = |path: &str| fs::metadata(scratch.path(path)).map(|stat| (stat.mode() & 0o7777, stat.uid(), stat.gid()));
    assert_eq!(stat("upper/made/on/the/way").unwrap(), (0o640, 1000, 1001));
    assert_eq!(stat("upper/made/on").unwrap(), (0o755, 1000, 1001));
}

#[test]
fn an_archive_may_end_with_the_last_byte_of_its_last_file() {
    let scratch = Scratch::new("archive");
    let options = stopped(&scratch);
    fs::write(scratch.path("upper/file"), "no block").unwrap();
    let whole = archive_of(&options, "/file").unwrap();
    unpack(&options, "/data", &WriteOptions::default(), &whole[..512 + 8]).unwrap();
    assert_eq!(fs::read_to_string(scratch.path("volume/file")).unwrap(), "no block");
    for cut in [512 + 7, 512 + 9, 511] {
        let failure = unpack(&options, "/data", &WriteOptions::default(), &whole[..cut]).unwrap_err();
        assert_eq!(failure.kind, crate::failure::Kind::Corrupt, "{cut}");
    }
}
