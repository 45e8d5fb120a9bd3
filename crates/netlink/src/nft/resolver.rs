//! The way to the embedded DNS server, inside a container's network namespace: what is sent to 127.0.0.11:53 reaches
//! sockets there on ports that the container's own programs don't want.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::sockopt;

use super::abi::*;
use super::batch::{Hook, Table};
use super::expr::Expressions;
use crate::error::{Result, system};
use crate::netns::in_netns;
use crate::socket::Socket;

const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;
const TABLE: &str = "caisson_dns";
const CHAIN: &str = "output";
const ROOM: usize = 64 * 1024;
/// Questions wait here while the daemon is busy or gone: the usual room is full after some 250 of them. Only what waits takes
/// memory.
const WAITING: usize = 4 * 1024 * 1024;

pub struct ResolverSockets {
    pub udp: OwnedFd,
    /// Listens.
    pub tcp: OwnedFd,
}

/// New sockets in the namespace; those of an earlier call are not reached any more.
pub fn create_resolver_sockets(netns: BorrowedFd<'_>) -> Result<ResolverSockets> {
    let failed =
        |error: std::io::Error| system("bind", "127.0.0.11")(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    in_netns(netns, || {
        let udp = UdpSocket::bind((SERVER, 0)).map_err(failed)?;
        // More than the host's limit; what may not have it keeps the usual.
        let _ = sockopt::set_socket_recv_buffer_size_force(&udp, WAITING);
        let tcp = TcpListener::bind((SERVER, 0)).map_err(failed)?;
        let ports = (udp.local_addr().map_err(failed)?.port(), tcp.local_addr().map_err(failed)?.port());
        redirect(ports.0, ports.1)?;
        Ok(ResolverSockets { udp: udp.into(), tcp: tcp.into() })
    })
}

fn redirect(udp: u16, tcp: u16) -> Result<()> {
    let mut socket = Socket::netfilter(ROOM)?;
    let table = Table { family: NFPROTO_IPV4, name: TABLE.into() };
    let rule = |protocol: i32, port: u16| {
        let packet = Expressions::new().sent_to(SERVER, protocol as u8, PORT).dnat_to(SERVER, port);
        table.append_rule(CHAIN, &packet)
    };
    // Made first, so that there is one to delete with what an earlier call left in it.
    let messages = vec![
        table.create(0),
        table.delete(),
        table.create(0),
        table.chain(CHAIN, Some(&Hook { kind: "nat", number: INET_LOCAL_OUT, priority: -100 })),
        rule(libc::IPPROTO_UDP, udp),
        rule(libc::IPPROTO_TCP, tcp),
    ];
    socket.batch(messages)
}
