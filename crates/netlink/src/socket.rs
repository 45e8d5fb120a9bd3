//! One netlink socket: requests with their acknowledgements, dumps, and nftables' batches.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::error::{NetError, Result, system};
use crate::message::{Incoming, Message, attribute, incoming, text, u32_at};
use crate::sys;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// errno and the header of the request (NETLINK_CAP_ACK leaves the rest of it out).
const ERROR_LEN: usize = 20;
/// Events that wait to be read: a large ruleset that is loaded at once.
const EVENT_ROOM: usize = 4 * 1024 * 1024;
/// How often a dump is begun anew because its table changed meanwhile.
const DUMP_ATTEMPTS: usize = 16;

/// A message of an answer, owned.
#[derive(Debug)]
pub struct Reply {
    pub payload: Vec<u8>,
}

/// A change that the kernel tells of.
#[derive(Debug)]
pub struct Event {
    pub kind: u16,
    /// `Socket::port_id` of who made it.
    pub sender: u32,
    pub payload: Vec<u8>,
}

pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What the kernel said about one request.
enum Verdict {
    Done,
    Failed(Errno, String),
    Data,
}

impl Socket {
    pub fn route() -> Result<Self> {
        // NETLINK_ROUTE is protocol 0, the default.
        Self::open(None, "rtnetlink")
    }

    /// `room` bytes for the largest batch.
    pub fn netfilter(room: usize) -> Result<Self> {
        let socket = Self::open(Some(netlink::NETFILTER), "nfnetlink")?;
        rustix::net::sockopt::set_socket_send_buffer_size_force(&socket.fd, room)
            .and_then(|()| rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket.fd, room))
            .map_err(system("setsockopt", "nfnetlink"))?;
        socket.bind()?;
        Ok(socket)
    }

    /// Without a port of its own it is not told of events, and has no name that its changes could be known by.
    fn bind(&self) -> Result<()> {
        rustix::net::bind(&self.fd, &netlink::SocketAddrNetlink::new(0, 0)).map_err(system("bind", "netlink"))
    }

    fn open(protocol: Option<Protocol>, name: &str) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)
            .map_err(system("socket", name))?;
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            sys::set_netlink_option(&fd, option, 1).map_err(system("setsockopt", name))?;
        }
        Ok(Self { fd, sequence: 0, buffer: vec![0; 64 * 1024] })
    }

    /// Also told of every change to nftables, from now on.
    pub fn nftables_events() -> Result<Self> {
        let socket = Self::netfilter(EVENT_ROOM)?;
        sys::set_netlink_option(&socket.fd, libc::NETLINK_ADD_MEMBERSHIP, libc::NFNLGRP_NFTABLES)
            .map_err(system("setsockopt", "nftables events"))?;
        Ok(socket)
    }

    /// Told of every change to links, from now on.
    pub fn link_events() -> Result<Self> {
        let socket = Self::route()?;
        socket.bind()?;
        sys::set_netlink_option(&socket.fd, libc::NETLINK_ADD_MEMBERSHIP, libc::RTNLGRP_LINK as libc::c_int)
            .map_err(system("setsockopt", "link events"))?;
        Ok(socket)
    }

    /// The kernel's name of this socket: changes are signed with it.
    pub fn port_id(&self) -> Result<u32> {
        let name = rustix::net::getsockname(&self.fd).map_err(system("getsockname", "netlink"))?;
        let name = netlink::SocketAddrNetlink::try_from(name).map_err(system("getsockname", "netlink"))?;
        Ok(name.pid())
    }

    /// Waits for the next events. None when some were lost because there were too many.
    pub fn events(&mut self) -> Result<Option<Vec<Event>>> {
        let (length, _) = loop {
            match rustix::net::recv(&self.fd, &mut self.buffer[..], RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => return Ok(None),
                result => break result.map_err(system("recv", "netlink"))?,
            }
        };
        let events = incoming(&self.buffer[..length]).map(|message| Event {
            kind: message.kind,
            sender: message.sender,
            payload: message.payload.to_vec(),
        });
        Ok(Some(events.collect()))
    }

    /// Sends all in one go and waits for every acknowledgement; the first failure counts.
    pub fn run(&mut self, mut messages: Vec<Message>) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        for message in &mut messages {
            message.flag(libc::NLM_F_ACK as u16);
        }
        self.exchange(&messages, messages.len()).map(|_| ())
    }

    /// Answers to requests that may each fail: `None` for those that the kernel refused with `absent`.
    pub fn lookup(&mut self, mut messages: Vec<Message>, absent: Errno) -> Result<Vec<Option<Reply>>> {
        let mut answers: Vec<Option<Reply>> = Vec::new();
        for message in &mut messages {
            message.flag(libc::NLM_F_ACK as u16);
            answers.push(None);
        }
        if messages.is_empty() {
            return Ok(answers);
        }
        let first = self.send(&messages)?;
        let mut open = messages.len();
        while open > 0 {
            for (verdict, at, reply) in self.receive(first)? {
                let message = messages.get(at);
                match (verdict, message) {
                    (Verdict::Data, Some(_)) => answers[at] = Some(reply),
                    (Verdict::Failed(errno, detail), Some(message)) if errno != absent => {
                        return Err(failure(message, errno, detail));
                    }
                    (_, Some(_)) => open -= 1,
                    (_, None) => {}
                }
            }
        }
        Ok(answers)
    }

    /// All objects that a dump request lists.
    pub fn dump(&mut self, mut message: Message) -> Result<Vec<Reply>> {
        message.flag(libc::NLM_F_DUMP as u16);
        for _ in 0..DUMP_ATTEMPTS {
            match self.exchange(std::slice::from_ref(&message), 1) {
                Err(error) if error.is(Errno::INTR) => {}
                result => return result,
            }
        }
        Err(system(message.op, message.object)(Errno::INTR))
    }

    /// One transaction: everything or nothing. nfnetlink reports each failing message; the first is the cause.
    pub fn batch(&mut self, messages: Vec<Message>) -> Result<()> {
        let mut all = Vec::with_capacity(messages.len() + 2);
        all.push(batch_edge(libc::NFNL_MSG_BATCH_BEGIN as u16));
        all.extend(messages);
        // Every failure comes before the last message's acknowledgement, which is sent in both cases.
        if let Some(last) = all.last_mut() {
            last.flag(libc::NLM_F_ACK as u16);
        }
        all.push(batch_edge(libc::NFNL_MSG_BATCH_END as u16));
        self.exchange(&all, 1).map(|_| ())
    }

    fn send(&mut self, messages: &[Message]) -> Result<u32> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(messages.len() * 128);
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.write(self.sequence, &mut bytes);
        }
        self.drain();
        let object = messages.first().map_or("", |message| message.object.as_str());
        rustix::net::send(&self.fd, &bytes, SendFlags::empty()).map_err(system("send", object))?;
        Ok(first)
    }

    /// Throws away what an earlier call did not wait for, so that the answers to come are the answers to this request.
    fn drain(&mut self) {
        while rustix::net::recv(&self.fd, &mut self.buffer[..], RecvFlags::DONTWAIT).is_ok() {}
    }

    /// `ends`: how many acknowledgements or ends of dumps to wait for.
    fn exchange(&mut self, messages: &[Message], ends: usize) -> Result<Vec<Reply>> {
        let first = self.send(messages)?;
        let mut replies = Vec::new();
        let mut failed: Option<(usize, NetError)> = None;
        let mut open = ends;
        while open > 0 {
            for (verdict, at, reply) in self.receive(first)? {
                let Some(message) = messages.get(at) else { continue };
                match verdict {
                    Verdict::Data => replies.push(reply),
                    Verdict::Done => open = open.saturating_sub(1),
                    Verdict::Failed(errno, detail) => {
                        if message.wants_end() || at == 0 {
                            open = open.saturating_sub(1);
                        }
                        if failed.as_ref().is_none_or(|(earlier, _)| at < *earlier) {
                            failed = Some((at, failure(message, errno, detail)));
                        }
                    }
                }
            }
        }
        failed.map_or(Ok(replies), |(_, error)| Err(error))
    }

    /// One datagram's messages, each with the index of its request.
    fn receive(&mut self, first: u32) -> Result<Vec<(Verdict, usize, Reply)>> {
        let (length, _) = loop {
            match rustix::net::recv(&self.fd, &mut self.buffer[..], RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                result => break result.map_err(system("recv", "netlink"))?,
            }
        };
        let verdict = |message: &Incoming| match message.kind {
            NLMSG_ERROR => error_of(message),
            _ if message.flags & NLM_F_DUMP_INTR != 0 => Verdict::Failed(Errno::INTR, String::new()),
            NLMSG_DONE => Verdict::Done,
            _ => Verdict::Data,
        };
        let answers = incoming(&self.buffer[..length]).map(|message| {
            let at = message.sequence.wrapping_sub(first) as usize;
            (verdict(&message), at, Reply { payload: message.payload.to_vec() })
        });
        Ok(answers.collect())
    }
}

fn error_of(message: &Incoming) -> Verdict {
    let code = u32_at(message.payload, 0).map_or(0, u32::cast_signed);
    if code == 0 {
        return Verdict::Done;
    }
    let tlvs = message.flags & NLM_F_ACK_TLVS != 0;
    let detail = attribute(message.payload, ERROR_LEN, NLMSGERR_ATTR_MSG).filter(|_| tlvs);
    let detail = detail.map_or_else(String::new, |value| format!(" ({})", text(value)));
    Verdict::Failed(Errno::from_raw_os_error(-code), detail)
}

fn failure(message: &Message, errno: Errno, detail: String) -> NetError {
    NetError::System { op: message.op, object: message.object.clone(), errno, detail }
}

/// Begin or end of a batch for subsystem nftables.
fn batch_edge(kind: u16) -> Message {
    let mut message = Message::new(kind, 0, "nftables batch", "nftables");
    let subsystem = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
    message.put(&[0, 0, subsystem[0], subsystem[1]]);
    message
}
