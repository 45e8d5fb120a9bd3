//! One thread with one epoll for the sockets and pidfds of all shims. Requests are sent by whoever makes them; answers and
//! events are taken in here.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::process::{WaitId, WaitIdOptions};
use serde_json::{Value, json};

use crate::failure::{Context, Failure, Kind, Result};
use crate::shim::protocol::{self, BUILD, FromShim};

/// How long an answer may take: a shim that hangs must not hang its callers.
const PATIENCE: Duration = Duration::from_secs(10);
/// Building mounts file systems and starting executes a program, from disks of any speed.
const PATIENCE_TO_BUILD: Duration = Duration::from_secs(60);

/// `RuntimeEvent` of the contract.
pub type Event = Value;
pub type Reply = Box<dyn FnOnce(Result<Value>) + Send>;
type OnEvent = Box<dyn Fn(Event) + Send + Sync>;

struct Pending {
    op: String,
    deadline: Instant,
    reply: Reply,
}

struct Shim {
    key: u64,
    /// Gone once the shim has closed it, or was given up.
    socket: Option<OwnedFd>,
    pidfd: OwnedFd,
    pending: HashMap<u64, Pending>,
    next_request: u64,
    /// Its end is told: it was built or adopted, and not destroyed.
    announced: bool,
}

/// A connection whose end is to be told.
struct Client {
    container: String,
    socket: OwnedFd,
}

#[derive(Default)]
struct State {
    shims: HashMap<String, Shim>,
    ids: HashMap<u64, String>,
    clients: HashMap<u64, Client>,
    next_key: u64,
}

pub struct Hub {
    epoll: OwnedFd,
    state: Mutex<State>,
    on_event: OnEvent,
    binary: OwnedFd,
    null: OwnedFd,
}

impl Hub {
    /// Copies the shim's program into sealed memory, so that no container can write to what runs as root outside of it
    /// (CVE-2019-5736), and starts the thread.
    pub fn start(shim_path: &Path, on_event: OnEvent) -> Result<Arc<Self>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create", "")?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .context("open", "/dev/null")?;
        let hub = Arc::new(Self { epoll, state: Mutex::default(), on_event, binary: seal(shim_path)?, null });
        let thread = Arc::clone(&hub);
        std::thread::Builder::new().name("shims".into()).spawn(move || thread.run()).context("thread", "shims")?;
        Ok(hub)
    }

    pub fn binary(&self) -> BorrowedFd<'_> {
        self.binary.as_fd()
    }

    pub fn null(&self) -> BorrowedFd<'_> {
        self.null.as_fd()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a shim. With `on_built` it is a new one, whose container is being built.
    pub fn add(&self, id: &str, socket: OwnedFd, pidfd: OwnedFd, on_built: Option<Reply>) -> Result<()> {
        let mut state = self.state();
        // One that was given up has ended when its container is started again; its last event may still be on its way.
        if state.shims.get(id).is_some_and(|shim| shim.socket.is_none() && !shim.announced) {
            self.forget(&mut state, id);
        }
        if state.shims.contains_key(id) {
            return Err(Failure::new(Kind::Conflict, "shim", format!("container {id} has a shim already")));
        }
        let key = state.next_key;
        state.next_key += 1;
        for (fd, token) in [(&socket, key * 2), (&pidfd, key * 2 + 1)] {
            epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
                .context("epoll_ctl", id)?;
        }
        let announced = on_built.is_none();
        let mut pending = HashMap::new();
        if let Some(reply) = on_built {
            let deadline = Instant::now() + PATIENCE_TO_BUILD;
            pending.insert(BUILD, Pending { op: "create".into(), deadline, reply });
        }
        state.ids.insert(key, id.into());
        let shim = Shim { key, socket: Some(socket), pidfd, pending, next_request: BUILD + 1, announced };
        state.shims.insert(id.into(), shim);
        Ok(())
    }

    /// Watches a client's connection until both of its directions have ended, which is told once, or until `unwatch` with
    /// the number that it is known by. Holds a duplicate of it.
    pub fn watch(&self, container: &str, socket: OwnedFd) -> Result<u64> {
        let mut state = self.state();
        let key = state.next_key;
        // EPOLLHUP and EPOLLERR come without being asked for
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(key * 2), epoll::EventFlags::empty())
            .context("epoll_ctl", container)?;
        state.next_key += 1;
        state.clients.insert(key, Client { container: container.into(), socket });
        Ok(key)
    }

    /// The container that it came for, unless its end was told before.
    pub fn unwatch(&self, client: u64) -> Option<String> {
        let Client { container, socket } = self.state().clients.remove(&client)?;
        // explicitly: the connection itself has other holders
        let _ = epoll::delete(&self.epoll, &socket);
        Some(container)
    }

    pub fn knows(&self, id: &str) -> bool {
        self.state().shims.get(id).is_some_and(|shim| shim.socket.is_some())
    }

    /// Sends a request; `reply` is called by the hub's thread, or here when it cannot be sent.
    pub fn request(&self, id: &str, op: &str, body: Value, fds: &[BorrowedFd], reply: Reply) {
        let mut state = self.state();
        let failure = match state.shims.get_mut(id) {
            Some(Shim { socket: Some(socket), pending, next_request, .. }) => {
                let number = *next_request;
                *next_request += 1;
                match protocol::send(socket.as_fd(), &protocol::request(number, op, body), fds) {
                    Ok(()) => {
                        let patience = if op == "start" { PATIENCE_TO_BUILD } else { PATIENCE };
                        let deadline = Instant::now() + patience;
                        pending.insert(number, Pending { op: op.into(), deadline, reply });
                        return;
                    }
                    Err(error) => Failure::io("send to the shim of", id, error),
                }
            }
            _ => Failure::new(Kind::Gone, op, format!("{op}: container {id} has no shim")),
        };
        drop(state);
        reply(Err(failure));
    }

    /// As `request`, waiting for the answer. Never on the hub's own thread.
    pub fn call(&self, id: &str, op: &str, body: Value, fds: &[BorrowedFd]) -> Result<Value> {
        let (answered, answer) = std::sync::mpsc::sync_channel(1);
        self.request(id, op, body, fds, Box::new(move |result| drop(answered.send(result))));
        answer.recv().unwrap_or_else(|_| Err(Failure::new(Kind::Gone, op, format!("{op}: the shim of {id} has gone"))))
    }

    /// A shim's pidfd.
    pub fn pidfd(&self, id: &str) -> Option<OwnedFd> {
        self.state().shims.get(id)?.pidfd.try_clone().ok()
    }

    /// Gives a shim up: its socket is closed, which ends it if it was not started, and its end is told to nobody.
    /// Its pidfd, for as long as it lives.
    pub fn abandon(&self, id: &str) -> Option<OwnedFd> {
        let mut state = self.state();
        let shim = state.shims.get_mut(id)?;
        shim.announced = false;
        shim.socket = None;
        let orphaned = std::mem::take(&mut shim.pending);
        let pidfd = shim.pidfd.try_clone().ok();
        drop(state);
        fail(orphaned, id);
        pidfd
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            let wait = Timespec { tv_sec: 1, tv_nsec: 0 };
            events.clear();
            if epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)).is_err() {
                continue;
            }
            for event in &events {
                let token = event.data.u64();
                if let Some(container) = self.unwatch(token / 2) {
                    (self.on_event)(json!({ "type": "clientGone", "id": container, "client": token / 2 }));
                    continue;
                }
                let Some(id) = self.state().ids.get(&(token / 2)).cloned() else { continue };
                self.receive(&id);
                if token % 2 == 1 {
                    self.shim_ended(&id, token / 2);
                }
            }
            self.expire();
        }
    }

    /// Takes in all messages that a shim has sent.
    fn receive(&self, id: &str) {
        loop {
            let mut state = self.state();
            let Some(shim) = state.shims.get_mut(id) else { return };
            let Some(socket) = &shim.socket else { return };
            let message = match protocol::receive(socket.as_fd()) {
                Ok(Some((packet, _))) => packet,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // The pidfd tells the rest.
                Ok(None) | Err(_) => {
                    shim.socket = None;
                    let orphaned = std::mem::take(&mut shim.pending);
                    drop(state);
                    fail(orphaned, id);
                    return;
                }
            };
            let Ok(message) = serde_json::from_slice::<FromShim>(&message) else { continue };
            if let Some(name) = message.event {
                let announced = shim.announced;
                drop(state);
                if announced {
                    self.event(id, &name, message.body);
                }
                continue;
            }
            let Some(number) = message.id else { continue };
            let Some(pending) = shim.pending.remove(&number) else { continue };
            if number == BUILD && message.error.is_none() {
                shim.announced = true;
            }
            drop(state);
            (pending.reply)(match message.error {
                Some(failure) => Err(failure),
                None => Ok(message.ok.unwrap_or(Value::Null)),
            });
        }
    }

    fn event(&self, id: &str, name: &str, mut body: Value) {
        let event = if name == "exit" {
            json!({ "type": "exit", "id": id, "exit": body })
        } else {
            body["type"] = json!(name);
            body["id"] = json!(id);
            body
        };
        (self.on_event)(event);
        // The shim closes the clients' streams after this: whoever sees the end of one finds the exit code with the daemon.
        // Its exit file stays; the end of an exec is acknowledged when it is written down, as only the shim knows it.
        if name == "exit" {
            self.request(id, "ack", json!({}), &[], Box::new(drop));
        }
    }

    fn shim_ended(&self, id: &str, key: u64) {
        let mut state = self.state();
        // A new one may have taken the place since the event came.
        if state.shims.get(id).is_none_or(|shim| shim.key != key) {
            return;
        }
        let Some(shim) = self.forget(&mut state, id) else { return };
        drop(state);
        fail(shim.pending, id);
        if shim.announced {
            (self.on_event)(json!({ "type": "shimGone", "id": id }));
        }
    }

    /// Reaps a shim that has ended and watches it no longer.
    fn forget(&self, state: &mut State, id: &str) -> Option<Shim> {
        let shim = state.shims.remove(id)?;
        state.ids.remove(&shim.key);
        // Explicitly: whoever destroys it may hold a duplicate, which would keep the event alive.
        let _ = epoll::delete(&self.epoll, &shim.pidfd);
        // One of an earlier daemon is not our child (ECHILD).
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ = rustix::process::waitid(WaitId::PidFd(shim.pidfd.as_fd()), options);
        Some(shim)
    }

    /// Answers for shims that don't.
    fn expire(&self) {
        let now = Instant::now();
        let mut late = Vec::new();
        for (id, shim) in &mut self.state().shims {
            let numbers: Vec<u64> =
                shim.pending.iter().filter(|(_, pending)| pending.deadline <= now).map(|(number, _)| *number).collect();
            late.extend(numbers.iter().filter_map(|number| Some((id.clone(), shim.pending.remove(number)?))));
        }
        for (id, pending) in late {
            let message = format!("{}: the shim of {id} does not answer", pending.op);
            (pending.reply)(Err(Failure::new(Kind::System, &pending.op, message)));
        }
    }
}

fn fail(orphaned: HashMap<u64, Pending>, id: &str) {
    for pending in orphaned.into_values() {
        let message = format!("{}: the shim of {id} has gone", pending.op);
        (pending.reply)(Err(Failure::new(Kind::Gone, &pending.op, message)));
    }
}

/// The program in memory that nobody can change.
fn seal(path: &Path) -> Result<OwnedFd> {
    let mut program = std::fs::File::open(path).context("open", path.display())?;
    let memory = rustix::fs::memfd_create("caisson-shim", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .context("memfd_create", "caisson-shim")?;
    let mut file = std::fs::File::from(memory);
    std::io::copy(&mut program, &mut file).context("copy", path.display())?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).context("seal", "caisson-shim")?;
    // execve refuses a file that is open for writing anywhere, so only this second descriptor stays.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    rustix::fs::open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("open", path)
}
