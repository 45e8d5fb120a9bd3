//! Network namespaces that stand for a host, its neighbours and its containers. Never the machine's own network.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use netlink::{EndpointOptions, NetError, create_endpoint, create_netns, in_netns};

/// A machine of the test.
pub struct Node(pub OwnedFd);

/// What a client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The container's server answered.
    Open,
    /// The socket that reserves the port took the connection, and nothing serves it in these tests.
    Reserved,
    Closed,
}

impl Node {
    pub fn new() -> Self {
        Self(create_netns().expect("tests of the network run as root"))
    }

    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns(&self.0, || Ok::<_, NetError>(work())).unwrap()
    }

    /// Runs a line of shell here and returns what it printed.
    pub fn shell(&self, line: &str) -> String {
        let output = self.run(|| Command::new("sh").args(["-ec", line]).output().unwrap());
        let shown = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {shown}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A server that says `hi` to everybody, for as long as the test runs.
    pub fn serve(&self, port: u16) {
        // Of both families.
        let listener = self.run(|| TcpListener::bind(("::", port)).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.and_then(|mut stream| stream.write_all(b"hi"));
            }
        });
    }

    pub fn connect(&self, to: &str) -> Seen {
        let address: SocketAddr = to.parse().unwrap();
        // Long enough for a second attempt of the kernel's on a machine that is busy.
        let limit = Duration::from_millis(2500);
        self.run(|| {
            let Ok(mut stream) = TcpStream::connect_timeout(&address, limit) else { return Seen::Closed };
            stream.set_read_timeout(Some(limit)).unwrap();
            let mut answer = [0; 2];
            match stream.read_exact(&mut answer) {
                Ok(()) => Seen::Open,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Seen::Reserved,
                Err(_) => Seen::Closed,
            }
        })
    }
}

/// A cable between two machines, with an address at each end.
#[allow(dead_code)]
pub fn cable(name: &str, left: (&Node, &str), right: (&Node, &str)) {
    let (a, b) = (format!("{name}a"), format!("{name}b"));
    left.0.shell(&format!("ip link add {a} type veth peer name {b}"));
    // The other end is handed over by the descriptor of the namespace, which stays open in this process.
    let target = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&right.0.0));
    left.0.shell(&format!("ip link set {b} netns {target}; ip addr add {} dev {a}; ip link set {a} up", left.1));
    right.0.shell(&format!("ip addr add {} dev {b}; ip link set {b} up", right.1));
}

/// A container on a bridge of the host; addresses and gateways are lists with blanks between.
#[allow(dead_code)]
pub fn container(host: &Node, bridge: &str, number: u8, addresses: &str, gateways: &str) -> Node {
    let node = Node::new();
    let options = endpoint(bridge, number, addresses, gateways);
    host.run(|| create_endpoint(&options, node.0.as_fd())).unwrap();
    node
}

#[allow(dead_code)]
pub fn endpoint(bridge: &str, number: u8, addresses: &str, gateways: &str) -> EndpointOptions {
    let list = |text: &str| text.split(' ').map(str::to_owned).collect();
    EndpointOptions {
        bridge: bridge.into(),
        isolated: false,
        host_name: format!("veth{bridge}{number}"),
        container_name: "eth0".into(),
        mac: format!("02:42:00:00:00:{number:02x}"),
        addresses: list(addresses),
        gateways: list(gateways),
        mtu: None,
        sysctls: BTreeMap::new(),
        advertise: None,
    }
}
