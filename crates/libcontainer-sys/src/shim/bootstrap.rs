//! From exec to the poll loop: what the daemon's process left to us is reset, the container is built, the socket listens.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit};
use serde_json::json;

use super::config::ContainerConfig;
use super::container::{self, Container};
use super::exit::write_whole;
use super::log::Log;
use super::ports::Ports;
use super::process::SpawnedContainer;
use super::protocol::{self, VERSION};
use super::server::{Parts, Server};
use super::stdio::Stdio;
use crate::cgroup;
use crate::container::start_time;
use crate::failure::{Context, Failure, Result};
use crate::sys::{inherit, signal, signalfd};

const BOOTSTRAP_FD: i32 = 3;
/// Docker's limits for a container's first process where nothing else is asked.
pub(super) const NOFILE: (u64, u64) = (1024, 524_288);
/// The kernel should rather kill the container than its shim.
const OOM_SCORE_ADJ: &str = "-500";

/// The shim's whole life. `state_dir` is its only argument.
pub fn run(state_dir: &Path) -> Result<()> {
    let bootstrap = inherit::take(BOOTSTRAP_FD).context("fcntl", "descriptor 3")?;
    match prepare(state_dir) {
        Ok(mut parts) => {
            let names = parts.names;
            parts.peers.push(Some(bootstrap));
            let server = Server::new(parts);
            server.report_build(&Ok(json!(names)));
            server.run();
            Ok(())
        }
        Err(failure) => {
            let answer = protocol::answer(protocol::BUILD, &Err(failure.clone()));
            // When the daemon has gone, nobody waits for it.
            let _ = protocol::send(bootstrap.as_fd(), &answer, &[]);
            Err(failure)
        }
    }
}

fn prepare(state_dir: &Path) -> Result<Parts> {
    reset_process();
    let signals = signalfd::child_signals().context("signalfd", "SIGCHLD")?;
    let path = state_dir.join("config.json");
    let text = fs::read(&path).context("read", path.display())?;
    let config: ContainerConfig = serde_json::from_slice(&text)
        .map_err(|error| Failure::invalid("config", format!("{}: {error}", path.display())))?;
    limit_descriptors(config.ports.len());
    join_own_cgroup(&config.shim_cgroup)?;
    let netns =
        config.netns_fd.map(inherit::take).transpose().context("fcntl", "descriptor of the network namespace")?;
    let ports = Ports::open(&config.ports)?;
    let log = Log::open(&config.log).context("open log", config.log.path.clone().unwrap_or_default().display())?;
    let socket = state_dir.join("shim.sock");
    let listener = listen(&socket).context("listen", socket.display())?;
    let (container, streams) = container::build(&config, &text, netns)?;
    drop(text);
    let named = name(container.as_ref()).and_then(|names| {
        let path = state_dir.join("shim.pid");
        write_whole(&path, json!(names).to_string().as_bytes()).context("write", path.display())?;
        Ok((names, Stdio::new(streams, config.stdio.stdin_once, log)?))
    });
    match named {
        Ok((names, stdio)) => {
            if let Some(size) = config.stdio.console_size {
                // A size is a wish.
                let _ = stdio.resize(size.width, size.height);
            }
            Ok(Parts { config, container, names, stdio, signals, listener, ports, peers: Vec::new() })
        }
        Err(failure) => {
            container.abort();
            Err(failure)
        }
    }
}

fn name(container: &dyn Container) -> Result<SpawnedContainer> {
    let shim_pid = std::process::id() as i32;
    let (init_pid, init_start_time) = container.init();
    Ok(SpawnedContainer { shim_pid, shim_start_time: start_time(shim_pid)?, init_pid, init_start_time })
}

/// `ports`: sockets that it holds beside its own work.
pub fn limit_descriptors(ports: usize) {
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(NOFILE.1).min(NOFILE.1);
    let limit = Rlimit { current: Some((NOFILE.0 + ports as u64).min(hard)), maximum: Some(hard) };
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}

/// Node ignores signals, raises limits and may be given any umask; a container must see none of it. What this process may
/// not set is left as it is: only what a user asked for is worth a failure.
fn reset_process() {
    signal::reset();
    signalfd::ignore_sigpipe();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    // exec by descriptor leaves its number as the name.
    let _ = rustix::thread::set_name(c"caisson-shim");
    let _ = rustix::process::chdir("/");
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).ok();
}

fn join_own_cgroup(path: &str) -> Result<()> {
    let group = cgroup::open(path)?;
    group.create()?;
    group.join()
}

fn listen(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let directory = rustix::fs::open(
        path.parent().unwrap_or(path),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // sun_path holds 107 bytes, and the directory's path may be longer.
    let short = format!("/proc/self/fd/{}/shim.sock", std::os::fd::AsRawFd::as_raw_fd(&directory));
    rustix::net::bind(&socket, &SocketAddrUnix::new(short.as_str())?)?;
    rustix::fs::chmod(path, Mode::from_raw_mode(0o600))?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}

/// Whether a caller speaks to the shim it expects.
pub fn version_line() -> String {
    format!("caisson-shim protocol {VERSION}")
}
