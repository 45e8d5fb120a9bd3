//! Published ports: the sockets that reserve them on the host, and the traffic that reaches them. The firewall's table sends
//! what comes from outside straight to the container; what comes over loopback cannot be sent on by it and arrives here.
//!
//! Everything is bounded: connections, flows, and one piece of data under way in each direction.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::bootstrap::limit_descriptors;
use super::config::PortSocket;
use super::connection::{Connection, End, Pipe};
use crate::failure::{Context, Failure, Kind, Result};
use crate::sys::inherit;

/// Two descriptors each, of the 1024 that the shim may have; further clients wait in the listeners' queues.
const MAX_CONNECTIONS: usize = 384;
/// One descriptor each; the one that was idle for longest makes room.
const MAX_FLOWS: usize = 128;
/// As the kernel's connection tracking forgets a UDP flow that answered.
const FLOW_TIME: Duration = Duration::from_secs(120);
const READ: usize = 64 * 1024;

enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
    /// Only reserves the port.
    Held(#[expect(dead_code, reason = "held for as long as the container lives")] OwnedFd),
    /// Was given back: its place stays, because others are known by theirs.
    Closed,
}

struct Port {
    /// Protocol, address and port on the host.
    name: (String, String, u16),
    socket: Socket,
    target: SocketAddr,
}

impl Port {
    fn new(config: &PortSocket, fd: OwnedFd) -> Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true).context("FIONBIO", "published port")?;
        let socket = match config.proto.as_str() {
            "tcp" => Socket::Tcp(fd.into()),
            "udp" => Socket::Udp(fd.into()),
            _ => Socket::Held(fd),
        };
        Ok(Self { name: name_of(config), socket, target: target_of(config)? })
    }
}

fn name_of(config: &PortSocket) -> (String, String, u16) {
    (config.proto.clone(), config.host_ip.clone(), config.host_port)
}

fn target_of(config: &PortSocket) -> Result<SocketAddr> {
    let ip: IpAddr = config
        .container_ip
        .parse()
        .map_err(|_| Failure::invalid("ports", format!("{:?} is no address", config.container_ip)))?;
    Ok(SocketAddr::new(ip, config.container_port))
}

struct Flow {
    port: usize,
    peer: SocketAddr,
    socket: UdpSocket,
    used: Instant,
}

#[derive(Default)]
pub struct Ports {
    ports: Vec<Port>,
    connections: Vec<Connection>,
    /// While there are connections.
    pipe: Option<Pipe>,
    flows: Vec<Flow>,
}

#[derive(Clone, Copy, Debug)]
pub enum PortPart {
    Port(usize),
    Connection(usize, End),
    Flow(usize),
}

impl Ports {
    pub fn open(configs: &[PortSocket]) -> Result<Self> {
        let mut ports = Vec::new();
        for config in configs {
            let fd = inherit::take(config.fd).context("fcntl", "descriptor of a published port")?;
            ports.push(Port::new(config, fd)?);
        }
        Ok(Self { ports, ..Self::default() })
    }

    /// Further ones, each with its socket.
    pub fn add(&mut self, configs: &[PortSocket], fds: Vec<OwnedFd>) -> Result<()> {
        if configs.len() != fds.len() {
            return Err(Failure::invalid("ports", format!("{} ports and {} sockets", configs.len(), fds.len())));
        }
        for (config, fd) in configs.iter().zip(fds) {
            self.ports.push(Port::new(config, fd)?);
        }
        // Before the next ones come.
        limit_descriptors(self.ports.len());
        Ok(())
    }

    /// With a socket: one more port. Without: where a port leads from now on, or, without an address, that it is given
    /// back; connections go on, datagrams find the new way.
    pub fn change(&mut self, config: &PortSocket, fd: Option<OwnedFd>) -> Result<()> {
        if let Some(fd) = fd {
            self.ports.push(Port::new(config, fd)?);
            return Ok(());
        }
        let name = name_of(config);
        let known = |port: &Port| port.name == name && !matches!(port.socket, Socket::Closed);
        let Some(index) = self.ports.iter().position(known) else {
            return Err(Failure::new(Kind::NotFound, "port", format!("{}:{} is not held here", name.1, name.2)));
        };
        if config.container_ip.is_empty() {
            self.ports[index].socket = Socket::Closed;
        } else {
            self.ports[index].target = target_of(config)?;
        }
        self.flows.retain(|flow| flow.port != index);
        Ok(())
    }

    /// The published ports are these from now on, where they lead to: others are given back. What is not held here is told
    /// by its place in the list. After a daemon that was killed in the middle of a change.
    pub fn keep(&mut self, wanted: &[PortSocket]) -> Result<Vec<usize>> {
        let targets = wanted.iter().map(target_of).collect::<Result<Vec<_>>>()?;
        let names: Vec<_> = wanted.iter().map(name_of).collect();
        let mut held = vec![false; wanted.len()];
        for (index, port) in self.ports.iter_mut().enumerate() {
            if matches!(port.socket, Socket::Closed) || port.name.0.starts_with("resolver-") {
                continue;
            }
            let place = names.iter().position(|name| *name == port.name);
            let stays = place.is_some_and(|place| port.target == targets[place]);
            match place {
                Some(place) => (held[place], port.target) = (true, targets[place]),
                None => port.socket = Socket::Closed,
            }
            if !stays {
                self.flows.retain(|flow| flow.port != index);
            }
        }
        Ok((0..wanted.len()).filter(|place| !held[*place]).collect())
    }

    pub fn interests<'a>(&'a self, mut add: impl FnMut(BorrowedFd<'a>, PollFlags, PortPart)) {
        for (index, port) in self.ports.iter().enumerate() {
            match &port.socket {
                Socket::Tcp(listener) if self.connections.len() < MAX_CONNECTIONS => {
                    add(listener.as_fd(), PollFlags::IN, PortPart::Port(index));
                }
                Socket::Udp(socket) => add(socket.as_fd(), PollFlags::IN, PortPart::Port(index)),
                _ => {}
            }
        }
        for (index, connection) in self.connections.iter().enumerate() {
            connection.interests(|fd, events, end| add(fd, events, PortPart::Connection(index, end)));
        }
        for (index, flow) in self.flows.iter().enumerate() {
            add(flow.socket.as_fd(), PollFlags::IN, PortPart::Flow(index));
        }
    }

    /// What was dropped since poll is passed over.
    pub fn handle(&mut self, part: PortPart, events: PollFlags, buffer: &mut Vec<u8>) {
        buffer.resize(READ, 0);
        match part {
            PortPart::Port(index) => match self.ports.get(index).map(|port| &port.socket) {
                Some(Socket::Tcp(_)) => self.accept(index),
                Some(Socket::Udp(_)) => self.receive(index, buffer),
                Some(Socket::Held(_) | Socket::Closed) | None => {}
            },
            PortPart::Connection(index, end) => {
                let Some(connection) = self.connections.get_mut(index) else { return };
                let Ok(pipe) = self.pipe.take().map_or_else(Pipe::open, Ok) else { return connection.break_off() };
                connection.carry(end, events, &pipe);
                // What a broken one may have left in it is for nobody else.
                if !connection.is_broken() {
                    self.pipe = Some(pipe);
                }
            }
            PortPart::Flow(index) => self.answer(index, buffer),
        }
    }

    /// Forgets what is over. Between two rounds of poll: a `PortPart` holds an index.
    pub fn sweep(&mut self) {
        self.connections.retain(|connection| !connection.is_over());
        if self.connections.is_empty() {
            self.pipe = None;
        }
        self.flows.retain(|flow| flow.used.elapsed() < FLOW_TIME);
    }

    fn accept(&mut self, index: usize) {
        let Port { socket: Socket::Tcp(listener), target, .. } = &self.ports[index] else { return };
        let Ok((client, _)) = listener.accept() else { return };
        // Without a container that answers, the client sees its connection closed.
        if let Ok(connection) = Connection::open(client, target) {
            self.connections.push(connection);
        }
    }

    fn receive(&mut self, port: usize, buffer: &mut [u8]) {
        let Port { socket: Socket::Udp(socket), target, .. } = &self.ports[port] else { return };
        let Ok((length, peer)) = socket.recv_from(buffer) else { return };
        let known = self.flows.iter_mut().find(|flow| flow.port == port && flow.peer == peer);
        if let Some(flow) = known {
            flow.used = Instant::now();
            // A datagram that cannot be delivered is lost, as everywhere.
            let _ = flow.socket.send(&buffer[..length]);
            return;
        }
        let Ok(socket) = connect_udp(target) else { return };
        let _ = socket.send(&buffer[..length]);
        if self.flows.len() >= MAX_FLOWS {
            // Replaced in its place: others' indices of this round stay right.
            if let Some(oldest) = self.flows.iter_mut().min_by_key(|flow| flow.used) {
                *oldest = Flow { port, peer, socket, used: Instant::now() };
            }
            return;
        }
        self.flows.push(Flow { port, peer, socket, used: Instant::now() });
    }

    fn answer(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(flow) = self.flows.get_mut(index) else { return };
        let Socket::Udp(port) = &self.ports[flow.port].socket else { return };
        // An error is the container's "port unreachable": reading it clears it.
        if let Ok(length) = flow.socket.recv(buffer) {
            flow.used = Instant::now();
            let _ = port.send_to(&buffer[..length], flow.peer);
        }
    }
}

fn connect_udp(target: &SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, Timespec, poll};
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Shutdown, TcpStream};
    use std::os::fd::IntoRawFd;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};

    /// Runs the ports in a thread until dropped.
    struct Running(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

    impl Running {
        fn new(mut ports: Ports) -> Self {
            let stop = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&stop);
            let thread = std::thread::spawn(move || {
                let mut buffer = Vec::new();
                while !told.load(Ordering::Relaxed) {
                    let mut parts = Vec::new();
                    let mut polled = Vec::new();
                    ports.interests(|fd, events, part| {
                        parts.push(part);
                        polled.push(PollFd::from_borrowed_fd(fd, events));
                    });
                    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 })).unwrap();
                    let ready: Vec<_> = parts.into_iter().zip(polled.iter().map(PollFd::revents)).collect();
                    for (part, events) in ready.into_iter().filter(|(_, events)| !events.is_empty()) {
                        ports.handle(part, events, &mut buffer);
                    }
                    ports.sweep();
                }
            });
            Self(stop, Some(thread))
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            self.1.take().unwrap().join().unwrap();
        }
    }

    fn config(fd: i32, proto: &str, target: SocketAddr) -> PortSocket {
        let (host_ip, host_port) = (String::new(), 0);
        let (container_ip, container_port) = (target.ip().to_string(), target.port());
        PortSocket { fd, proto: proto.into(), host_ip, host_port, container_ip, container_port }
    }

    #[test]
    fn tcp_is_carried_both_ways_with_its_half_closes() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = front.local_addr().unwrap();
        let ports = Ports::open(&[config(front.into_raw_fd(), "tcp", server.local_addr().unwrap())]).unwrap();
        let _running = Running::new(ports);
        let data: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
        let sent = data.clone();
        let (counted, count) = mpsc::channel();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            counted.send(all.len()).unwrap();
            // After the client's half has ended: its other half still takes everything.
            stream.write_all(&all).unwrap();
        });
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut echoed = Vec::new();
        client.read_to_end(&mut echoed).unwrap();
        served.join().unwrap();
        assert_eq!(count.recv().unwrap(), data.len());
        assert!(echoed == data);
    }

    #[test]
    fn a_container_that_does_not_listen_ends_the_connection() {
        let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = front.local_addr().unwrap();
        let _running = Running::new(Ports::open(&[config(front.into_raw_fd(), "tcp", unused)]).unwrap());
        let mut client = TcpStream::connect(address).unwrap();
        assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
    }

    #[test]
    fn a_port_leads_elsewhere_and_is_given_back() {
        let (first, second) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = front.local_addr().unwrap();
        let start = config(front.into_raw_fd(), "tcp", first.local_addr().unwrap());
        let mut ports = Ports::open(&[start]).unwrap();
        let moved = config(-1, "tcp", second.local_addr().unwrap());
        ports.change(&moved, None).unwrap();
        let ask = || TcpStream::connect(address);
        {
            let _waiting = ask().unwrap();
            ports.handle(PortPart::Port(0), PollFlags::IN, &mut Vec::new());
            second.accept().unwrap();
        }
        let gone = PortSocket { container_ip: String::new(), ..moved };
        ports.change(&gone, None).unwrap();
        assert_eq!(ask().unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(ports.change(&gone, None).unwrap_err().kind, Kind::NotFound);
    }

    #[test]
    fn udp_answers_find_their_way_back() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = front.local_addr().unwrap();
        let _running =
            Running::new(Ports::open(&[config(front.into_raw_fd(), "udp", server.local_addr().unwrap())]).unwrap());
        let clients: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for (number, client) in clients.iter().enumerate() {
            client.connect(address).unwrap();
            client.send(format!("from {number}").as_bytes()).unwrap();
        }
        let mut buffer = [0; 100];
        for _ in 0..clients.len() {
            let (length, peer) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&[b"re: ", &buffer[..length]].concat(), peer).unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], format!("re: from {number}").as_bytes());
        }
    }
}
