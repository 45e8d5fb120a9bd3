//! An attached client: a connection that Node gave away. Output goes to it in Docker's frames or raw, its input is stdin.
//!
//! At most one piece of output waits for a client. While it waits, its stream is not read, so a slow client slows the
//! container down instead of filling memory, as in Docker.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::config::ClientConfig;
use super::log::StreamName;
use crate::failure::{Failure, Kind};
use crate::sys::socket;

/// What a client may still send us when it is closed, so that the kernel sends it an end and not a reset.
const DISCARDED_AT_CLOSE: usize = 1 << 20;

/// How long a client may take to read the head of its response before output follows it all the same.
const HEAD_TIME: Duration = Duration::from_secs(1);

pub struct Client {
    fd: OwnedFd,
    /// Until then the head is to be read before anything else is written: HTTP clients that take a connection over
    /// (docker-py) lose what they read together with the head.
    head_until: Option<Instant>,
    pending: Vec<u8>,
    /// Its input is still read.
    pub stdin: bool,
    stdout: bool,
    stderr: bool,
    raw: bool,
    detach: DetachKeys,
    /// The stream has ended: what is pending is still sent, then the connection is closed.
    closing: bool,
    pub gone: bool,
}

pub enum Input {
    Data,
    /// The detach keys were typed; `data` holds what came before them.
    Detached,
    End,
    Nothing,
}

impl Client {
    /// `early` of the configuration is returned: it is the first input.
    pub fn new(fd: OwnedFd, config: &ClientConfig, tty: bool) -> Result<(Self, Vec<u8>), Failure> {
        let early = decode_hex(&config.early)
            .ok_or_else(|| Failure::new(Kind::Invalid, "attach", "early input of a client is not hexadecimal"))?;
        rustix::io::ioctl_fionbio(&fd, true).map_err(|errno| Failure::io("FIONBIO", "client", errno))?;
        let keys = if tty { config.detach_keys.clone() } else { Vec::new() };
        let mut client = Self {
            fd,
            head_until: None,
            pending: config.head.as_bytes().to_vec(),
            stdin: config.stdin,
            stdout: config.stdout,
            stderr: config.stderr,
            raw: config.raw,
            detach: DetachKeys { keys, matched: 0 },
            closing: false,
            gone: false,
        };
        client.flush();
        // the head is in the configuration, or the daemon has written it already
        client.head_until = client.pending.is_empty().then(|| Instant::now() + HEAD_TIME);
        Ok((client, early))
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn wants(&self, stream: StreamName) -> bool {
        !self.gone
            && match stream {
                StreamName::Stdout => self.stdout,
                StreamName::Stderr => self.stderr,
            }
    }

    /// Its stream must wait.
    pub fn is_full(&self) -> bool {
        !self.pending.is_empty() || self.head_until.is_some()
    }

    /// True while the head of the response lies unread; to be asked again soon, as the kernel does not tell of its end.
    pub fn head_is_unread(&mut self) -> bool {
        let Some(until) = self.head_until else { return false };
        if !self.gone && Instant::now() < until && socket::has_unread(self.fd.as_fd()).unwrap_or(false) {
            return true;
        }
        self.head_until = None;
        self.flush();
        false
    }

    /// Without POLLIN and POLLOUT, poll still tells that the client has left.
    pub fn events(&self, accepts_input: bool) -> PollFlags {
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, self.stdin && accepts_input && !self.closing);
        events.set(PollFlags::OUT, !self.pending.is_empty() && self.head_until.is_none());
        events
    }

    pub fn output(&mut self, stream: StreamName, data: &[u8]) {
        let header = self.header(stream, data.len());
        let header: &[u8] = if self.raw { &[] } else { &header };
        let mut sent = 0;
        if self.pending.is_empty() && !self.head_is_unread() {
            match rustix::io::retry_on_intr(|| {
                rustix::io::writev(&self.fd, &[IoSlice::new(header), IoSlice::new(data)])
            }) {
                Ok(count) => sent = count,
                Err(Errno::AGAIN) => {}
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
        self.pending.extend_from_slice(&header[sent.min(header.len())..]);
        self.pending.extend_from_slice(&data[sent.saturating_sub(header.len())..]);
    }

    fn header(&self, stream: StreamName, length: usize) -> [u8; 8] {
        let mut header = [stream.frame(), 0, 0, 0, 0, 0, 0, 0];
        // A frame carries one read, at most 64 KiB.
        header[4..].copy_from_slice(&(length as u32).to_be_bytes());
        header
    }

    pub fn flush(&mut self) {
        if self.head_until.is_some() {
            return;
        }
        while !self.pending.is_empty() {
            match rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, &self.pending)) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
        self.pending.shrink_to(0);
        if self.closing {
            self.gone = true;
        }
    }

    /// Reads input into `buffer` and leaves there what is meant for stdin.
    pub fn input(&mut self, buffer: &mut Vec<u8>, limit: usize) -> Input {
        buffer.resize(limit, 0);
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut buffer[..])) {
            Ok(0) => {
                buffer.clear();
                self.stdin = false;
                Input::End
            }
            Ok(count) => {
                buffer.truncate(count);
                self.filter(buffer)
            }
            Err(Errno::AGAIN) => {
                buffer.clear();
                Input::Nothing
            }
            Err(_) => {
                buffer.clear();
                self.gone = true;
                Input::Nothing
            }
        }
    }

    pub fn filter(&mut self, data: &mut Vec<u8>) -> Input {
        if self.detach.scan(data) {
            self.close();
            return Input::Detached;
        }
        Input::Data
    }

    /// Sends what is pending, then ends.
    pub fn close(&mut self) {
        self.closing = true;
        self.stdin = false;
        self.stdout = false;
        self.stderr = false;
        self.flush();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A socket closed with input unread resets its peer, which may lose the end of the output by that.
        let mut buffer = [0; 4096];
        let mut discarded = 0;
        while discarded < DISCARDED_AT_CLOSE
            && let Ok(count @ 1..) = rustix::io::read(&self.fd, &mut buffer)
        {
            discarded += count;
        }
    }
}

struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    /// Takes the keys out of `data`; true when the whole sequence was typed. The beginning of a sequence is held back
    /// until it is told from other input.
    fn scan(&mut self, data: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            return false;
        }
        let mut kept = Vec::with_capacity(data.len());
        for &byte in data.iter() {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    *data = kept;
                    return true;
                }
                continue;
            }
            kept.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(byte == self.keys[0]);
            if self.matched == 0 {
                kept.push(byte);
            }
        }
        *data = kept;
        false
    }
}

pub fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits?;
    if digits.len() % 2 != 0 {
        return None;
    }
    Some(digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

/// A listener's next connection, close-on-exec and non-blocking; `None` when there is none now.
pub fn accept(listener: BorrowedFd) -> io::Result<Option<OwnedFd>> {
    use rustix::net::{SocketFlags, accept_with};
    match rustix::io::retry_on_intr(|| accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::AGAIN | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn config(json: &str) -> ClientConfig {
        serde_json::from_str(json).unwrap()
    }

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
    }

    fn read(fd: &OwnedFd) -> Vec<u8> {
        let mut buffer = vec![0; 1 << 20];
        let count = rustix::io::read(fd, &mut buffer[..]).unwrap();
        buffer.truncate(count);
        buffer
    }

    #[test]
    fn writes_the_head_and_once_it_is_read_frames() {
        let (ours, theirs) = pair();
        let (mut client, early) =
            Client::new(ours, &config(r#"{"head":"H\r\n\r\n","early":"6869","stdout":true}"#), false).unwrap();
        assert_eq!(early, b"hi");
        client.output(StreamName::Stdout, b"out");
        assert!(client.head_is_unread() && client.is_full());
        assert_eq!(read(&theirs), b"H\r\n\r\n");
        client.output(StreamName::Stderr, b"e");
        assert!(!client.head_is_unread() && !client.is_full());
        assert_eq!(read(&theirs), b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x01e");
        assert!(client.wants(StreamName::Stdout) && !client.wants(StreamName::Stderr));
    }

    #[test]
    fn keeps_what_a_slow_client_did_not_take() {
        let (ours, theirs) = pair();
        let (mut client, _) = Client::new(ours, &config(r#"{"head":"","stdout":true}"#), false).unwrap();
        assert!(!client.head_is_unread());
        let piece: Vec<u8> = (0..65_536_u32).map(|number| number as u8).collect();
        let mut frames = Vec::new();
        while !client.is_full() {
            client.output(StreamName::Stdout, &piece);
            frames.extend_from_slice(&[1, 0, 0, 0, 0, 1, 0, 0]);
            frames.extend_from_slice(&piece);
        }
        client.close();
        let mut received = Vec::new();
        while !client.gone {
            received.extend(read(&theirs));
            client.flush();
        }
        drop(client);
        loop {
            let more = read(&theirs);
            if more.is_empty() {
                break;
            }
            received.extend(more);
        }
        assert_eq!(received, frames);
    }

    #[test]
    fn finds_detach_keys_across_reads() {
        let mut keys = DetachKeys { keys: vec![16, 17], matched: 0 };
        let mut data = b"ab\x10".to_vec();
        assert!(!keys.scan(&mut data));
        assert_eq!(data, b"ab");
        data = b"c\x10\x10".to_vec();
        assert!(!keys.scan(&mut data));
        assert_eq!(data, b"\x10c\x10");
        data = b"\x11rest".to_vec();
        assert!(keys.scan(&mut data));
        assert_eq!(data, b"");
    }

    #[test]
    fn decodes_hexadecimal() {
        assert_eq!(decode_hex("00ff7f").unwrap(), [0, 255, 127]);
        assert!(decode_hex("0").is_none() && decode_hex("0g").is_none());
    }
}
