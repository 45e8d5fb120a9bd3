//! The program of a process: its directory, where it is found, and, when it cannot be executed, why.

use crate::failure::{Context, Failure, Kind, Result, reason};
use crate::sys::exec::{CStrings, execve};
use rustix::fs::{Access, FileType, Mode, OFlags, accessat, openat, stat};
use rustix::io::Errno;
use std::ffi::CString;
use std::io::{self, Read};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub struct Program {
    words: Vec<String>,
    variables: Vec<String>,
    name: String,
    path: CString,
    args: CStrings,
    env: CStrings,
}

impl Program {
    /// Looks the first argument up as execvp would, in the PATH of the process's own environment.
    pub fn find(args: &[String], env: &[String]) -> Result<Self> {
        let Some(name) = args.first().filter(|name| !name.is_empty()) else {
            return Err(exec_failure("", libc::ENOENT, "no command specified"));
        };
        let path = if name.contains('/') { check(name, name)? } else { search(name, env)? };
        let strings = |list: &[String], what| {
            CStrings::new(list).map_err(|_| Failure::invalid("exec", format!("{what} must not contain NUL")))
        };
        Ok(Self {
            words: args.to_vec(),
            variables: env.to_vec(),
            name: name.clone(),
            path: CString::new(path).map_err(|_| Failure::invalid("exec", "the command must not contain NUL"))?,
            args: strings(args, "an argument")?,
            env: strings(env, "the environment")?,
        })
    }

    pub fn words(&self) -> &[String] {
        &self.words
    }

    pub fn env(&self) -> &[String] {
        &self.variables
    }

    /// Gives why it failed; on success this process is the program.
    pub fn execute(&self) -> Failure {
        let error = execve(&self.path, &self.args, &self.env);
        let errno = error.raw_os_error().unwrap_or(0);
        let path = self.path.to_string_lossy();
        match explain(&path, errno) {
            Some(Fault { code, why, fix }) => {
                self.refused(errno, &format!("{}: {why}", reason(&error))).with_fix(code, fix)
            }
            None => self.refused(errno, &reason(&error)),
        }
    }

    /// In runc's words what the kernel refuses has no quotes, unlike what is not found.
    fn refused(&self, errno: i32, why: &str) -> Failure {
        let message = format!("exec {}: {why}", self.path.to_string_lossy());
        Failure { message, ..exec_failure(&self.name, errno, why) }
    }
}

fn search(name: &str, env: &[String]) -> Result<String> {
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    for dir in path.split(':') {
        let candidate =
            if dir.is_empty() { format!("./{name}") } else { format!("{}/{name}", dir.trim_end_matches('/')) };
        match check(name, &candidate) {
            Ok(path) => return Ok(path),
            Err(failure) if failure.errno == Some(libc::EACCES) => denied = Some(failure),
            Err(_) => {}
        }
    }
    Err(denied.unwrap_or_else(|| {
        exec_failure(name, libc::ENOENT, "executable file not found in $PATH").with_fix(
            "PROGRAM_NOT_FOUND",
            format!("the image has no {name} in {path}: give its full path, or install it"),
        )
    }))
}

fn check(name: &str, path: &str) -> Result<String> {
    let found = stat(path).map_err(|error| {
        exec_failure_at(name, path, error.into())
            .with_fix("PROGRAM_NOT_FOUND", format!("the image has no {path}: see what it has with `docker export`"))
    })?;
    let refused = |errno: i32| exec_failure(name, errno, &reason(&io::Error::from_raw_os_error(errno)));
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => {
            let fix = "name a program in it, or set --entrypoint";
            // what execve says of it too, and what callers read the exit code off (podman exec: 126)
            let why = "is a directory: permission denied";
            return Err(exec_failure(name, libc::EISDIR, why).with_fix("PROGRAM_IS_DIRECTORY", fix));
        }
        _ => return Err(refused(libc::EACCES)),
    }
    match accessat(rustix::fs::CWD, path, Access::EXEC_OK, rustix::fs::AtFlags::EACCESS) {
        Ok(()) => Ok(path.to_owned()),
        // the container's filter stands already, and an older one does not know the call: execve has the last word
        Err(Errno::PERM | Errno::NOSYS) if found.st_mode & 0o111 != 0 => Ok(path.to_owned()),
        Err(Errno::ACCESS) if on_noexec(path) => {
            let why = format!("permission denied: {path} lies on a filesystem that is mounted noexec");
            Err(exec_failure(name, libc::EACCES, &why)
                .with_fix("NOEXEC_MOUNT", "mount it without noexec (--tmpfs PATH:exec), or run a program of the image"))
        }
        Err(Errno::ACCESS) => Err(refused(libc::EACCES).with_fix(
            "PROGRAM_NOT_EXECUTABLE",
            format!("set its x bit: chmod +x {path} (in a Dockerfile: COPY --chmod=755)"),
        )),
        Err(error) => Err(refused(error.raw_os_error())),
    }
}

fn exec_failure_at(name: &str, path: &str, error: io::Error) -> Failure {
    let errno = error.raw_os_error().unwrap_or(0);
    exec_failure(name, errno, &format!("stat {path}: {}", reason(&error)).replace("stat : ", ""))
}

/// The words that docker's clients look for: `exec: "name": reason`.
fn exec_failure(name: &str, errno: i32, why: &str) -> Failure {
    Failure {
        path: Some(name.to_owned()),
        errno: Some(errno),
        ..Failure::new(Kind::Exec, "exec", format!("exec: {name:?}: {why}"))
    }
}

fn on_noexec(path: &str) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
}

struct Fault {
    code: &'static str,
    why: String,
    fix: String,
}

/// execve says only "no such file" when an interpreter is missing and "exec format error" for a foreign program.
fn explain(path: &str, errno: i32) -> Option<Fault> {
    let mut head = Vec::new();
    let fd = openat(rustix::fs::CWD, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).ok()?;
    std::fs::File::from(fd).take(4096).read_to_end(&mut head).ok()?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
        let interpreter = String::from_utf8_lossy(line).trim_start().split(' ').next().unwrap_or_default().to_owned();
        if interpreter.ends_with('\r') {
            let why = format!("the first line of {path} ends in CR LF, so that its interpreter is {interpreter:?}");
            let fix = format!("save it with LF line ends: dos2unix {path}");
            return Some(Fault { code: "SCRIPT_CRLF", why, fix });
        }
        return (errno == libc::ENOENT).then(|| Fault {
            code: "INTERPRETER_MISSING",
            why: format!("the script's interpreter {interpreter:?} does not exist in the image"),
            fix: format!("install it in the image, or change the first line of {path}"),
        });
    }
    if head.starts_with(b"\x7fELF") && head.len() > 20 {
        let machine = u16::from_le_bytes([head[18], head[19]]);
        let native = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
        if machine != native {
            let name = match machine {
                3 => "i386",
                40 => "arm",
                62 => "x86-64",
                183 => "aarch64",
                243 => "riscv",
                21 => "ppc64",
                22 => "s390x",
                _ => "another architecture",
            };
            let why = format!("the program is for {name}");
            let fix = format!("take the image for this machine: --platform linux/{}", go_architecture());
            return Some(Fault { code: "WRONG_ARCHITECTURE", why, fix });
        }
        return (errno == libc::ENOENT).then(|| interpreter(&head)).flatten().map(|interpreter| {
            let libc = if interpreter.contains("musl") { "musl" } else { "glibc" };
            Fault {
                code: "LOADER_MISSING",
                why: format!("the program needs the loader {interpreter}, which the image does not have"),
                fix: format!("it was built for {libc}: use an image with that, or link it statically"),
            }
        });
    }
    (errno == libc::ENOEXEC).then(|| Fault {
        code: "NOT_A_PROGRAM",
        why: "the file is neither a program nor a script with a #! line".into(),
        fix: format!("begin {path} with #!/bin/sh, or run it as `sh {path}`"),
    })
}

const fn go_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// PT_INTERP of a 64-bit ELF, when it lies in the first page, as it does in practice.
fn interpreter(head: &[u8]) -> Option<String> {
    let u64_at = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let u16_at = |at: usize| Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?));
    let (offset, size, count) = (u64_at(32)? as usize, u16_at(54)? as usize, u16_at(56)? as usize);
    for entry in (0..count).map(|i| offset + i * size) {
        if u32::from_le_bytes(head.get(entry..entry + 4)?.try_into().ok()?) == 3 {
            let (start, length) = (u64_at(entry + 8)? as usize, u64_at(entry + 32)? as usize);
            return Some(String::from_utf8_lossy(head.get(start..start + length)?).trim_end_matches('\0').to_owned());
        }
    }
    None
}

/// Goes to the working directory; then what the kernel calls it must lie below the root: a leaked descriptor of the host
/// would not (CVE-2024-21626).
pub fn enter_directory(path: &str) -> Result<()> {
    if path.is_empty() || path == "/" {
        return rustix::process::chdir("/").context("chdir", "/");
    }
    rustix::process::chdir(path).map_err(|error| Failure {
        message: format!("chdir to cwd ({path:?}) set in config.json failed: {}", reason(&error.into())),
        ..Failure::io("chdir", path, error).with_fix(
            "WORKDIR_UNUSABLE",
            format!("{path} must be a directory that the user may enter: see --workdir and --user"),
        )
    })?;
    let here = rustix::process::getcwd(Vec::new()).context("getcwd", path)?;
    if here.to_bytes().starts_with(b"/") {
        return Ok(());
    }
    Err(Failure::invalid(
        "chdir",
        format!("{path:?}: current working directory is outside of container mount namespace root"),
    ))
}
