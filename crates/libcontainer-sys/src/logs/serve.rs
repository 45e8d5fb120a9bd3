//! A log to a client's connection: the response head, then the records as the body, until the end of the file, or for
//! a follower until the container has ended or the client has left.

use super::LogRequest;
use super::files::Records;
use super::forward;
use super::record::{Selection, Verdict};
use crate::failure::{Context, Result};
use crate::sys::socket;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const CHUNK: usize = 64 << 10;

/// Tells a follower that no more will be written: it ends at the end of the file.
#[derive(Clone)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    pub fn new() -> Result<Self> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("eventfd", "").map(|fd| Self(Arc::new(fd)))
    }

    pub fn set(&self) {
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    fn is_set(&self) -> bool {
        let mut fds = [PollFd::new(&*self.0, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }
}

/// The client's connection and what it is answered first.
pub struct Client {
    pub fd: OwnedFd,
    pub head: String,
}

/// How long a client may leave the head of its response unread, and how often it is asked.
const HEAD_TIME: Duration = Duration::from_secs(1);
const HEAD_PAUSE: Duration = Duration::from_micros(200);

/// A client that does not read for so long is waited for without buffers: there may be a thousand.
const STALL: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Serves until the end; a client that leaves is an end like any other. A body that is not `chunked` is the beginning of a
/// stream that goes on: it follows the head once that is read, as the shim's output does.
pub fn serve(request: &LogRequest, client: Client, chunked: bool, stop: &Stop) -> Result<()> {
    let mut out = client.head.into_bytes();
    if !write_all(&client.fd, &out)? {
        return Ok(());
    }
    out.clear();
    if !chunked {
        let until = Instant::now() + HEAD_TIME;
        while Instant::now() < until && socket::has_unread(client.fd.as_fd()).unwrap_or(false) {
            std::thread::sleep(HEAD_PAUSE);
        }
    }
    let deliver = |out: &mut Vec<u8>, records: &mut Records| -> Result<bool> {
        if chunked {
            frame(out);
        }
        let sent = write(&client.fd, out, || records.forget().context("read log", &request.path))?;
        out.clear();
        Ok(sent)
    };
    let selection = Selection::new(request);
    let path = Path::new(&request.path);
    // watched before the first read, so that nothing falls between
    let watch = if request.follow { watch(path) } else { None };
    let mut records = match &request.records {
        Some(forwarded) => forward::open(request, forwarded.behind.as_deref())?,
        None => Records::open(path, request.driver, request.tail).context("open log", &request.path)?,
    };
    loop {
        // asked before reading: what was written before the stop is read after it
        let last = !request.follow || stop.is_set();
        let mut past = false;
        while records.step().context("read log", &request.path)? {
            if request.records.is_some() {
                // a torn one is skipped
                if let Some(record) = request.driver.parse(records.record()) {
                    forward::frame(&record, records.position(), &mut out);
                }
            } else {
                past = selection.take(records.record(), &mut out) == Verdict::Past;
                if past {
                    break;
                }
            }
            if out.len() >= CHUNK && !deliver(&mut out, &mut records)? {
                return Ok(());
            }
        }
        if !out.is_empty() && !deliver(&mut out, &mut records)? {
            return Ok(());
        }
        // nor does a waiting follower hold any
        out = Vec::new();
        records.rest();
        if past || last || !wait(&client.fd, watch.as_ref(), stop, &selection)? {
            if chunked {
                write_all(&client.fd, b"0\r\n\r\n")?;
            }
            return Ok(());
        }
    }
}

/// The directory is watched: the file itself changes its name at a rotation.
fn watch(path: &Path) -> Option<OwnedFd> {
    // a host may have few inotify instances (128 by default): without one the file is looked at every 100 ms
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
    let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&fd, path.parent()?, flags).ok()?;
    Some(fd)
}

/// False when there is nothing to wait for any more.
fn wait(client: &OwnedFd, watch: Option<&OwnedFd>, stop: &Stop, selection: &Selection) -> Result<bool> {
    let mut timeout = if watch.is_some() { None } else { Some(100_000_000i128) };
    if let Some(until) = selection.until() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i128);
        if now > until {
            return Ok(false);
        }
        timeout = Some(timeout.unwrap_or(i128::MAX).min(until - now + 1));
    }
    let timeout =
        timeout.map(|ns| Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as _ });
    let mut fds = vec![PollFd::new(client, PollFlags::RDHUP), PollFd::new(&*stop.0, PollFlags::IN)];
    if let Some(watch) = watch {
        fds.push(PollFd::new(watch, PollFlags::IN));
    }
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(crate::failure::Failure::io("poll", "", error)),
    }
    if !fds[0].revents().is_empty() {
        return Ok(false);
    }
    if let Some(watch) = watch {
        let mut events = [0u8; 4096];
        while rustix::io::read(watch, &mut events).is_ok_and(|got| got > 0) {}
    }
    Ok(true)
}

/// One chunk of the body; `out` is empty afterwards. False: the client has gone.
pub(crate) fn send(fd: &OwnedFd, out: &mut Vec<u8>) -> Result<bool> {
    frame(out);
    let sent = write_all(fd, out);
    out.clear();
    sent
}

/// In place: a thousand clients that do not read hold one buffer each, not two.
fn frame(chunk: &mut Vec<u8>) {
    let length = format!("{:x}\r\n", chunk.len());
    chunk.splice(0..0, length.into_bytes());
    chunk.extend_from_slice(b"\r\n");
}

pub(crate) fn write_all(fd: &OwnedFd, bytes: &[u8]) -> Result<bool> {
    write(fd, bytes, || Ok(()))
}

/// The connection is non-blocking (Node made it so). A client that does not read holds up this thread and nothing else;
/// `on_stall` is called when it has not for a while.
fn write(fd: &OwnedFd, mut bytes: &[u8], mut on_stall: impl FnMut() -> Result<()>) -> Result<bool> {
    let mut patience = Some(STALL);
    while !bytes.is_empty() {
        match rustix::net::send(fd, bytes, rustix::net::SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::new(fd, PollFlags::OUT)];
                match poll(&mut fds, patience.as_ref()) {
                    Ok(0) => {
                        patience = None;
                        on_stall()?;
                    }
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(crate::failure::Failure::io("poll", "", error)),
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_follower_gets_what_is_appended_and_ends_at_the_stop() {
        let dir = std::env::temp_dir().join(format!("caisson-serve-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("log");
        fs::write(&path, "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"2024-05-06T07:08:09Z\"}\n").unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let request: LogRequest = serde_json::from_value(
            serde_json::json!({"driver": "json-file", "path": path, "stdout": true, "stderr": true,
            "timestamps": false, "details": false, "follow": true, "raw": true}),
        )
        .unwrap();
        let stop = Stop::new().unwrap();
        let serving = std::thread::spawn({
            let stop = stop.clone();
            move || serve(&request, Client { fd: theirs.into(), head: "HEAD\r\n\r\n".into() }, true, &stop).unwrap()
        });
        let mut got = vec![0; "HEAD\r\n\r\n4\r\none\n\r\n".len()];
        ours.read_exact(&mut got).unwrap();
        assert_eq!(got, b"HEAD\r\n\r\n4\r\none\n\r\n");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"log\":\"two\\n\",\"stream\":\"stdout\",\"time\":\"2024-05-06T07:08:09Z\"}\n").unwrap();
        stop.set();
        let mut rest = String::new();
        ours.read_to_string(&mut rest).unwrap();
        serving.join().unwrap();
        assert_eq!(rest, "4\r\ntwo\n\r\n0\r\n\r\n");
        fs::remove_dir_all(&dir).unwrap();
    }
}
