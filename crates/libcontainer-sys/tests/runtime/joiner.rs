//! CVE-2016-9962: what a container that may trace sees of a process on its way into it.

use super::bundle::{Bundle, able, python, rounds};
use serde_json::json;
use std::fs;
use std::io::Read;
use std::process::Stdio;

/// Looks at every new process as fast as it can and tells what of it does not lie in the container.
const SCAN: &str = r#"
import os, re
own = os.stat("/"), os.readlink("/proc/self/ns/mnt")
harmless = re.compile(r"(pipe|socket):\[|anon_inode:|/dev/null$")
seen, told = set(), set()
def tell(*words):
    if words not in told:
        told.add(words)
        print(*words, flush=True)
def inside(there, link):
    try:
        return os.path.samestat(there, os.stat(link))
    except OSError:
        return False
print("ready", flush=True)
while not os.path.exists("/stop"):
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        seen.add(pid)
        at = "/proc/" + pid
        try:
            if os.readlink(at + "/ns/mnt") != own[1]:
                tell("mount namespace of the host")
            if os.stat(at + "/root").st_ino != own[0].st_ino:
                tell("root of the host")
            if b"SECRET" in open(at + "/environ", "rb").read():
                tell("environment of the caller")
            for fd in os.listdir(at + "/fd"):
                link = os.readlink(at + "/fd/" + fd)
                there = os.stat(at + "/fd/" + fd)
                if os.readlink(at + "/fd/" + fd) != link:
                    continue # another file by now: what was seen is of neither
                if not harmless.match(link) and not inside(there, link):
                    tell("descriptor", link)
            try:
                os.close(os.open(at + "/exe", os.O_WRONLY))
                tell("writable program", os.readlink(at + "/exe"))
            except OSError:
                pass
        except OSError:
            pass
print("seen", len(seen), flush=True)
"#;

#[test]
fn a_joiner_is_confined_before_it_is_seen() {
    if !able() || !python() {
        return;
    }
    let execs = rounds(300, 1000);
    let mut bundle = Bundle::new("joiner");
    bundle.config["process"]["args"] = json!(["/usr/bin/python3", "-c", SCAN]);
    bundle.bind_python();
    for set in ["bounding", "effective", "permitted"] {
        bundle.config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE"));
    }
    bundle.write();
    let mut command = bundle.command(&["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
    let mut container = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = container.stdout.take().unwrap();
    let mut ready = [0; 6];
    output.read_exact(&mut ready).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..execs / 2 {
                    let mut exec = bundle.command(&["exec", &bundle.id, "true"]);
                    exec.env("SECRET", "1").stdout(Stdio::null()).stderr(Stdio::null());
                    assert!(exec.status().unwrap().success());
                }
            });
        }
    });
    fs::write(bundle.rootfs("stop"), "").unwrap();
    let mut told = String::new();
    output.read_to_string(&mut told).unwrap();
    assert!(container.wait().unwrap().success());
    let (findings, seen) = told.trim_end().rsplit_once("seen ").unwrap();
    assert_eq!(findings.trim(), "", "a container saw these of {seen} processes");
    // most are seen at some moment of their lives, or this would prove nothing
    assert!(seen.parse::<usize>().unwrap() > execs / 4, "only {seen} processes were seen");
}
