//! Messages between the daemon's addon and a shim: JSON over SOCK_SEQPACKET, descriptors beside it by SCM_RIGHTS.
//!
//! ```text
//! request  {"v":1,"id":7,"op":"attach","body":{…}}     addon → shim
//! answer   {"v":1,"id":7,"ok":{…}} | {"v":1,"id":7,"error":{kind,op,path,errno,message}}
//! event    {"v":1,"event":"exit","body":{…}}           shim → addon
//! large    {"v":1,"memfd":true}                        the message is in the first descriptor
//! ```
//!
//! Request 0 is never sent: the shim answers it on its bootstrap socket when the container is built or could not be.

use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::MemfdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::failure::Failure;

pub const VERSION: u32 = 1;
/// The id under which the shim reports how building the container went.
pub const BUILD: u64 = 0;
/// A larger message goes through a memfd: a packet must fit the socket's buffer.
const MAX_PACKET: usize = 64 * 1024;
/// Most descriptors of an operation's own.
pub const MAX_FDS: usize = 252;
/// And the memfd; the kernel passes no more (SCM_MAX_FD).
const ALL_FDS: usize = MAX_FDS + 1;
/// A memfd may not carry more than this.
const MAX_BODY: u64 = 64 << 20;

#[derive(Debug, Deserialize)]
pub struct Request<'a> {
    pub v: u32,
    pub id: u64,
    pub op: &'a str,
    /// Text still: each operation parses its own.
    #[serde(borrow)]
    pub body: &'a RawValue,
}

/// What a shim sends.
#[derive(Debug, Deserialize)]
pub struct FromShim {
    pub id: Option<u64>,
    pub ok: Option<Value>,
    pub error: Option<Failure>,
    pub event: Option<String>,
    #[serde(default)]
    pub body: Value,
}

pub fn request(id: u64, op: &str, body: Value) -> Vec<u8> {
    json!({ "v": VERSION, "id": id, "op": op, "body": body }).to_string().into_bytes()
}

pub fn answer(id: u64, result: &Result<Value, Failure>) -> Vec<u8> {
    let message = match result {
        Ok(value) => json!({ "v": VERSION, "id": id, "ok": value }),
        Err(failure) => json!({ "v": VERSION, "id": id, "error": failure }),
    };
    message.to_string().into_bytes()
}

pub fn event(name: &str, body: Value) -> Vec<u8> {
    json!({ "v": VERSION, "event": name, "body": body }).to_string().into_bytes()
}

/// Sends one message whole, or nothing. Never waits: a peer that doesn't read must not hang us.
pub fn send(socket: BorrowedFd, message: &[u8], fds: &[BorrowedFd]) -> io::Result<()> {
    if message.len() <= MAX_PACKET {
        return send_packet(socket, message, fds);
    }
    let memfd = rustix::fs::memfd_create("caisson-message", MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(memfd);
    file.write_all(message)?;
    file.seek(SeekFrom::Start(0))?;
    let mut all = vec![file.as_fd()];
    all.extend_from_slice(fds);
    send_packet(socket, br#"{"v":1,"memfd":true}"#, &all)
}

fn send_packet(socket: BorrowedFd, packet: &[u8], fds: &[BorrowedFd]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ALL_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &[IoSlice::new(packet)], &mut control, flags))?;
    Ok(())
}

/// The next message; `None` when the peer has gone; `WouldBlock` when there is none now.
pub fn receive(socket: BorrowedFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut packet = vec![0; MAX_PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ALL_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut packet)], &mut control, flags)
    });
    let received = match received {
        Ok(received) => received,
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    packet.truncate(received.bytes);
    if packet.starts_with(br#"{"v":1,"memfd":true"#) && !fds.is_empty() {
        let file = std::fs::File::from(fds.remove(0));
        packet.clear();
        file.take(MAX_BODY).read_to_end(&mut packet)?;
    }
    Ok(Some((packet, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn messages_of_any_size_arrive_whole_with_their_descriptors() {
        let (left, right) = pair();
        let (read, write) = rustix::pipe::pipe().unwrap();
        for size in [0, 1, MAX_PACKET - 1, MAX_PACKET, MAX_PACKET + 1, 4 << 20] {
            let message = request(7, "exec", Value::String("x".repeat(size)));
            send(left.as_fd(), &message, &[write.as_fd()]).unwrap();
            let (packet, fds) = receive(right.as_fd()).unwrap().unwrap();
            let received: Request = serde_json::from_slice(&packet).unwrap();
            assert_eq!(received.body.get().len(), size + 2);
            rustix::io::write(&fds[0], b"+").unwrap();
            assert_eq!(fds.len(), 1);
        }
        let mut all = [0; 16];
        assert_eq!(rustix::io::read(&read, &mut all).unwrap(), 6);
    }

    #[test]
    fn a_gone_peer_is_no_error() {
        let (left, right) = pair();
        assert_eq!(receive(right.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(left);
        assert!(receive(right.as_fd()).unwrap().is_none());
    }
}
