use super::*;
use crate::layer::testing::{Scratch, noise, tree};
use rustix::fs::{XattrFlags, lsetxattr, makedev, mkfifoat, mknodat};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};

const LONG: &str = "a-name-that-is-longer-than-the-hundred-bytes-of-a-header's-name-and-of-its-prefix-together/\
                    a-name-that-is-longer-than-the-hundred-bytes-of-a-header's-name-and-of-its-prefix-together-ü";

/// Times of an image are whole seconds.
fn settle(root: &Path) {
    let times = |path: &Path| {
        let time = Timestamps { last_access: TIME, last_modification: TIME };
        utimensat(CWD, path, &time, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            settle(&path);
        }
        times(&path);
    }
}
use rustix::fs::{Timespec, Timestamps, utimensat};
const TIME: Timespec = Timespec { tv_sec: 1_700_000_000, tv_nsec: 0 };

/// Everything that a container can leave in its upper directory.
fn upper(scratch: &Scratch) -> PathBuf {
    let upper = scratch.path("upper");
    fs::create_dir_all(upper.join(LONG)).unwrap();
    fs::create_dir_all(upper.join("dir/opaque")).unwrap();
    fs::write(upper.join("dir/file"), noise(3, 700_000)).unwrap();
    fs::hard_link(upper.join("dir/file"), upper.join("linked")).unwrap();
    fs::write(upper.join("dir/empty"), "").unwrap();
    symlink("/etc/../nowhere", upper.join("dir/symlink")).unwrap();
    mknodat(CWD, upper.join("dir/gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    mknodat(CWD, upper.join("dir/null"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 3)).unwrap();
    mkfifoat(CWD, upper.join("dir/pipe"), Mode::RUSR).unwrap();
    lsetxattr(upper.join("dir/opaque"), OPAQUE, b"y", XattrFlags::empty()).unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    chown(upper.join("dir/empty"), Some(3_000_000), Some(34)).unwrap();
    lsetxattr(upper.join("dir/empty"), "security.capability", &capability, XattrFlags::empty()).unwrap();
    lsetxattr(upper.join("dir"), "user.note", b"kept", XattrFlags::empty()).unwrap();
    fs::set_permissions(upper.join("dir"), fs::Permissions::from_mode(0o3751)).unwrap();
    upper
}

fn options(scratch: &Scratch, upper: PathBuf) -> PackOptions {
    let layer = LayerOptions {
        target_dir: scratch.path("layer"),
        blob_path: Some(scratch.path("blob")),
        ..LayerOptions::default()
    };
    PackOptions { upper, layer }
}

#[test]
fn a_layer_is_what_the_container_changed() {
    let scratch = Scratch::new("pack");
    let upper = upper(&scratch);
    settle(&upper);
    pack(&options(&scratch, upper.clone())).unwrap();
    // A whiteout's own time says nothing.
    let tree = |root: &Path| -> Vec<String> {
        let shown = |line: String| if line.starts_with("dir/gone ") { line[..20].into() } else { line };
        tree(root).into_iter().map(shown).collect()
    };
    assert_eq!(tree(&scratch.path("layer")), tree(&upper));
    let again = crate::layer::testing::apply(&fs::read(scratch.path("blob")).unwrap(), &scratch.path("again"));
    again.unwrap();
    assert_eq!(tree(&scratch.path("again")), tree(&upper), "the blob says the same");
}

#[test]
fn a_layer_with_a_recipe_is_packed_without_its_blob() {
    let scratch = Scratch::new("pack");
    let upper = upper(&scratch);
    let with_blob = pack(&options(&scratch, upper.clone())).unwrap();
    assert_eq!(with_blob.blob.as_ref().map(|blob| &blob.digest), Some(&with_blob.diff_id));
    remove_tree(&scratch.path("layer")).unwrap();
    fs::remove_file(scratch.path("blob")).unwrap();
    let mut options = options(&scratch, upper);
    options.layer.recipe_path = Some(scratch.path("recipe"));
    let packed = pack(&options).unwrap();
    assert_eq!(packed, AppliedLayer { blob: None, recipe: true, ..with_blob });
    assert!(scratch.path("recipe").exists() && !scratch.path("blob").exists());
}

#[test]
fn gnu_tar_reads_it_the_same_way() {
    let scratch = Scratch::new("pack");
    let upper = upper(&scratch);
    settle(&upper);
    pack(&options(&scratch, upper.clone())).unwrap();
    let listed = std::process::Command::new("tar").arg("-tf").arg(scratch.path("blob")).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert!(listed.stderr.is_empty(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names: Vec<&str> = listed.lines().collect();
    for name in ["dir/", "dir/.wh.gone", "dir/opaque/.wh..wh..opq", "linked", "dir/null"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_eq!(names.iter().filter(|name| name.starts_with(&LONG[..30])).count(), 2);
}

#[test]
fn what_an_image_cannot_say_is_refused_and_nothing_is_left() {
    let scratch = Scratch::new("pack");
    let upper = scratch.path("upper");
    fs::create_dir(&upper).unwrap();
    fs::write(upper.join(".wh.name"), "").unwrap();
    let error = pack(&options(&scratch, upper.clone())).unwrap_err();
    assert!(matches!(error, LayerError::Unsupported { .. }), "{error}");
    fs::remove_file(upper.join(".wh.name")).unwrap();
    fs::create_dir(upper.join("moved")).unwrap();
    lsetxattr(upper.join("moved"), "trusted.overlay.redirect", b"/old", XattrFlags::empty()).unwrap();
    let error = pack(&options(&scratch, upper)).unwrap_err();
    assert!(error.to_string().contains("redirect_dir"), "{error}");
    assert!(!scratch.path("layer").exists() && !scratch.path("blob").exists());
}

#[test]
fn a_socket_is_left_out() {
    let scratch = Scratch::new("pack");
    let upper = scratch.path("upper");
    fs::create_dir(&upper).unwrap();
    let _listener = UnixListener::bind(upper.join("sock")).unwrap();
    fs::write(upper.join("file"), "").unwrap();
    assert_eq!(pack(&options(&scratch, upper)).unwrap().entries, 1);
}

/// The answer as a client gets it, its body without the chunks' frames.
fn exported(layers: Vec<PathBuf>) -> Vec<u8> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let sending =
        std::thread::spawn(move || export(None, &layers, Client { fd: theirs.into(), head: "H\r\n\r\n".into() }));
    let mut got = Vec::new();
    std::io::Read::read_to_end(&mut ours, &mut got).unwrap();
    sending.join().unwrap().unwrap();
    let mut rest = got.strip_prefix(b"H\r\n\r\n").unwrap();
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if len == 0 {
            assert_eq!(&rest[end..], b"\r\n\r\n");
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + len]);
        rest = &rest[end + len + 4..];
    }
}

#[test]
fn an_export_is_what_a_container_sees() {
    let scratch = Scratch::new("pack");
    let (upper, lower) = (upper(&scratch), scratch.path("lower"));
    fs::create_dir_all(lower.join("dir/opaque")).unwrap();
    for name in ["dir/gone", "dir/file", "dir/opaque/hidden", "below", ".wh.odd"] {
        fs::write(lower.join(name), "lower").unwrap();
    }
    settle(&upper);
    settle(&lower);
    let tar = exported(vec![upper, lower]);
    let listed = names_of(&tar);
    for name in ["dir/file", "dir/opaque/", "below", ".wh.odd", "linked"] {
        assert!(listed.contains(&name.to_string()), "{name} in {listed:?}");
    }
    for name in ["dir/gone", "dir/opaque/hidden", "dir/.wh.gone", "dir/opaque/.wh..wh..opq"] {
        assert!(!listed.contains(&name.to_string()), "{name} in {listed:?}");
    }
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("caisson-layer-pack"));
}

fn names_of(tar: &[u8]) -> Vec<String> {
    let mut child = std::process::Command::new("tar")
        .arg("-t")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let tar = tar.to_vec();
    let feeding = std::thread::spawn(move || stdin.write_all(&tar).unwrap());
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect()
}
