//! A connection to a manager of systemd, the host's or a user's, over its private socket: no bus is needed, and its signals come
//! without being asked for.

use super::wire::{self, HEAD_BYTES, Message, Reader, Writer};
use crate::failure::{Context, Failure, Kind, Result};
use crate::user_namespace;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// After which systemd counts as hanging.
const LIMIT: Duration = Duration::from_secs(30);

pub struct Bus {
    socket: BufReader<UnixStream>,
    serial: u32,
    /// (job, its result)
    ended: Vec<(String, String)>,
}

impl Bus {
    pub fn connect(path: &Path) -> Result<Bus> {
        let socket = UnixStream::connect(path).context("connect to systemd at", path.display())?;
        socket.set_read_timeout(Some(LIMIT)).context("set timeout of", path.display())?;
        let mut bus = Bus { socket: BufReader::new(socket), serial: 0, ended: Vec::new() };
        bus.authenticate()?;
        Ok(bus)
    }

    /// By the user id that the kernel tells the other side. All at once, as systemctl does it: a call that systemd read together
    /// with BEGIN would lie there until it heard of us again.
    fn authenticate(&mut self) -> Result<()> {
        let uid: String = user_namespace::outer_uid().to_string().bytes().map(|b| format!("{b:02x}")).collect();
        self.write(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes())?;
        let mut line = Vec::new();
        self.socket.read_until(b'\n', &mut line).context("read from", "systemd")?;
        if line.starts_with(b"OK ") {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&line).trim_end().to_owned();
        Err(Failure::new(Kind::System, "systemd", format!("systemd does not let us in: {said}")))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.get_mut().write_all(bytes).context("write to", "systemd")
    }

    /// Calls a method of the manager; the body of its answer. Kind `NotFound` when the unit is not there, `Conflict` when there is
    /// one of its name.
    pub fn call(&mut self, member: &str, signature: &str, body: Writer) -> Result<Vec<u8>> {
        self.call_of(wire::MANAGER, member, signature, body)
    }

    /// What the manager tells of itself: a property that is a text.
    pub fn property(&mut self, name: &str) -> Result<String> {
        let mut body = Writer::default();
        body.text(wire::MANAGER);
        body.text(name);
        let answer = self.call_of(wire::PROPERTIES, "Get", "ss", body)?;
        let mut reader = Reader { bytes: &answer, at: 0 };
        let text = reader.signature().filter(|kind| kind == "s").and_then(|_| reader.text());
        text.ok_or_else(|| Failure::new(Kind::System, "systemd", format!("systemd tells no {name}")))
    }

    fn call_of(&mut self, interface: &str, member: &str, signature: &str, body: Writer) -> Result<Vec<u8>> {
        self.serial += 1;
        self.write(&wire::call(self.serial, (interface, member), signature, &body.0))?;
        loop {
            let message = self.receive()?;
            if message.reply_to != self.serial {
                continue;
            }
            return match message.kind {
                2 => Ok(message.body),
                _ => Err(refused(member, &message)),
            };
        }
    }

    /// Waits until a job is done; any other end of it is a failure.
    pub fn await_job(&mut self, job: &str, unit: &str) -> Result<()> {
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(ended, _)| ended == job) {
                return match result.as_str() {
                    "done" => Ok(()),
                    other => {
                        let message =
                            format!("systemd's job for {unit} ended with {other:?}: see `systemctl status {unit}`");
                        Err(Failure::new(Kind::System, "systemd", message))
                    }
                };
            }
            self.receive()?;
        }
    }

    /// The next message; the end of a job is remembered.
    fn receive(&mut self) -> Result<Message> {
        let unreadable = || Failure::new(Kind::System, "systemd", "systemd sent something that is no message of D-Bus");
        let mut bytes = vec![0; HEAD_BYTES];
        self.socket.read_exact(&mut bytes).context("read from", "systemd")?;
        let head = bytes.as_slice().try_into().map_err(|_| unreadable())?;
        bytes.resize(HEAD_BYTES + wire::rest_of(head).ok_or_else(unreadable)?, 0);
        self.socket.read_exact(&mut bytes[HEAD_BYTES..]).context("read from", "systemd")?;
        let message = wire::parse(&bytes).ok_or_else(unreadable)?;
        if message.kind == 4 && message.member == "JobRemoved" {
            // number, path, unit, result
            let mut reader = Reader { bytes: &message.body, at: 0 };
            reader.u32();
            if let (Some(job), Some(_), Some(result)) = (reader.text(), reader.text(), reader.text()) {
                self.ended.push((job, result));
            }
        }
        Ok(message)
    }
}

fn refused(member: &str, message: &Message) -> Failure {
    let text = Reader { bytes: &message.body, at: 0 }.text().unwrap_or_default();
    let kind = match message.error.rsplit('.').next() {
        Some("NoSuchUnit" | "NotLoaded") => Kind::NotFound,
        Some("UnitExists") => Kind::Conflict,
        _ => Kind::System,
    };
    Failure::new(kind, "systemd", format!("systemd refused {member}: {text} ({})", message.error))
}
