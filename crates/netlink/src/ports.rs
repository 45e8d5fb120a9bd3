//! Sockets that reserve published ports. A reserved port is nobody else's, and its loopback traffic arrives here.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use serde::Deserialize;

use crate::error::{NetError, Result, invalid, system};
use crate::nft::ruleset::Proto;

mod holder;

const OP: &str = "reserve port";
/// Docker's range for ports that it chooses.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32768..=60999;
const BACKLOG: i32 = 4096;
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortRequest {
    pub proto: Proto,
    pub host_ip: String,
    pub host_port: u16,
}

#[derive(Debug)]
pub struct ReservedPort {
    pub fd: OwnedFd,
    pub host_port: u16,
}

/// All or none.
pub fn reserve_ports(requests: &[PortRequest]) -> Result<Vec<ReservedPort>> {
    requests.iter().map(reserve).collect()
}

fn reserve(request: &PortRequest) -> Result<ReservedPort> {
    let host = if request.host_ip.is_empty() { "0.0.0.0" } else { &request.host_ip };
    let ip: IpAddr = host.parse().map_err(|_| invalid(OP, host, "not an IP address"))?;
    if request.host_port == 0 {
        return reserve_any(request.proto, ip);
    }
    let address = SocketAddr::new(ip, request.host_port);
    let fd = bind(request.proto, address).map_err(|(step, errno)| explain(step, errno, request.proto, address))?;
    Ok(ReservedPort { fd, host_port: request.host_port })
}

/// Goes on behind the port chosen last, so that a port that was just given back is not handed to somebody else at once.
fn reserve_any(proto: Proto, ip: IpAddr) -> Result<ReservedPort> {
    static NEXT: AtomicU16 = AtomicU16::new(*EPHEMERAL.start());
    let following = |port: u16| if port >= *EPHEMERAL.end() { *EPHEMERAL.start() } else { port + 1 };
    for _ in EPHEMERAL {
        let taken = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |port| Some(following(port)));
        let host_port = taken.unwrap_or(*EPHEMERAL.start());
        let address = SocketAddr::new(ip, host_port);
        match bind(proto, address) {
            Ok(fd) => return Ok(ReservedPort { fd, host_port }),
            Err((_, Errno::ADDRINUSE)) => {}
            Err((step, errno)) => return Err(explain(step, errno, proto, address)),
        }
    }
    let reason = format!("no free port on {ip} between {} and {}", EPHEMERAL.start(), EPHEMERAL.end());
    Err(NetError::Conflict { op: OP, object: ip.to_string(), errno: Errno::ADDRINUSE, reason })
}

fn bind(proto: Proto, address: SocketAddr) -> std::result::Result<OwnedFd, (&'static str, Errno)> {
    let (kind, protocol) = match proto {
        Proto::Tcp => (SocketType::STREAM, ipproto::TCP),
        Proto::Udp => (SocketType::DGRAM, ipproto::UDP),
        Proto::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol)).map_err(|e| ("socket", e))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true).map_err(|e| ("setsockopt", e))?;
    }
    // Connections in TIME_WAIT don't keep a container from starting again. Never for UDP, where the option lets two
    // sockets have the same port.
    if proto != Proto::Udp {
        sockopt::set_socket_reuseaddr(&fd, true).map_err(|e| ("setsockopt", e))?;
    }
    rustix::net::bind(&fd, &address).map_err(|e| ("bind", e))?;
    // SCTP is only bound: nothing splices it, and a listening socket would answer for the container.
    if proto == Proto::Tcp {
        rustix::net::listen(&fd, BACKLOG).map_err(|e| ("listen", e))?;
    }
    Ok(fd)
}

fn explain(step: &'static str, errno: Errno, proto: Proto, address: SocketAddr) -> NetError {
    let object = format!("{address}/{}", proto.name());
    match errno {
        Errno::ADDRINUSE => {
            let holder = holder::find(proto, address);
            let ours = holder.as_ref().is_some_and(|holder| holder.ours);
            let held = holder.map_or_else(String::new, |one| format!(" (held by pid {}, {})", one.pid, one.command));
            let reason = if ours {
                format!("Bind for {address} failed: port is already allocated")
            } else {
                format!("failed to bind host port {object}: address already in use{held}")
            };
            NetError::Conflict { op: OP, object, errno, reason }
        }
        Errno::ADDRNOTAVAIL => {
            invalid(OP, &object, format!("failed to bind host port: no interface of this host has {}", address.ip()))
        }
        Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => NetError::Unsupported {
            op: OP,
            reason: format!("this kernel has no {} over {}", proto.name(), family_name(address.ip())),
            object,
        },
        _ => system(step, object)(errno),
    }
}

fn family_name(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

impl Proto {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn request(proto: Proto, host_port: u16) -> PortRequest {
        PortRequest { proto, host_ip: Ipv4Addr::LOCALHOST.to_string(), host_port }
    }

    #[test]
    fn a_port_of_ours_is_allocated() {
        for proto in [Proto::Tcp, Proto::Udp] {
            let first = reserve(&request(proto, 0)).unwrap();
            let error = reserve(&request(proto, first.host_port)).unwrap_err();
            assert_eq!(error.kind(), "conflict");
            let wanted = format!("Bind for 127.0.0.1:{} failed: port is already allocated", first.host_port);
            assert_eq!(error.to_string(), wanted);
        }
    }

    #[test]
    fn names_the_program_that_has_a_port() {
        let ReservedPort { fd, host_port } = reserve(&request(Proto::Tcp, 0)).unwrap();
        // The socket goes on as the standard input of a program.
        let mut other = std::process::Command::new("sleep").arg("60").stdin(fd).spawn().unwrap();
        let error = reserve(&request(Proto::Tcp, host_port)).unwrap_err();
        other.kill().unwrap();
        other.wait().unwrap();
        let holder = format!("(held by pid {}, sleep)", other.id());
        assert!(error.to_string().contains(&holder), "{error}");
        assert!(error.to_string().starts_with("failed to bind host port 127.0.0.1:"), "{error}");
    }

    #[test]
    fn reserves_all_or_none() {
        let taken = reserve(&request(Proto::Tcp, 0)).unwrap();
        let free = reserve(&request(Proto::Tcp, 0)).unwrap().host_port;
        let both = [request(Proto::Tcp, free), request(Proto::Tcp, taken.host_port)];
        assert_eq!(reserve_ports(&both).unwrap_err().kind(), "conflict");
        reserve(&request(Proto::Tcp, free)).expect("the first of the two was given back");
    }

    #[test]
    fn chooses_from_the_range() {
        let one = reserve(&request(Proto::Udp, 0)).unwrap();
        assert!(EPHEMERAL.contains(&one.host_port));
    }

    #[test]
    fn an_address_of_another_host_is_invalid() {
        let elsewhere = PortRequest { host_ip: "192.0.2.1".into(), ..request(Proto::Tcp, 8080) };
        let error = reserve(&elsewhere).unwrap_err();
        assert_eq!(error.kind(), "invalid");
        assert!(error.to_string().contains("192.0.2.1"), "{error}");
    }
}
