//! Bridges and endpoints in the kernel.

mod world;

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use netlink::{
    Advertise, BridgeOptions, ChildKind, ChildOptions, EndpointOptions, create_child, create_endpoint,
    create_resolver_sockets, delete_child, delete_link, ensure_bridge, list_routes,
};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use world::{Node, cable, container, endpoint};

fn bridge(name: &str, address: &str) -> BridgeOptions {
    BridgeOptions { name: name.into(), addresses: vec![address.into()], mtu: None }
}

#[test]
fn containers_on_a_bridge_reach_each_other_and_the_gateway() {
    let host = Node::new();
    host.run(|| ensure_bridge(&bridge("br0", "172.30.0.1/16"))).unwrap();
    let one = container(&host, "br0", 2, "172.30.0.2/16", "172.30.0.1");
    let two = container(&host, "br0", 3, "172.30.0.3/16", "172.30.0.1");
    one.serve(80);
    assert_eq!(two.connect("172.30.0.2:80"), world::Seen::Open);
    assert_eq!(host.connect("172.30.0.2:80"), world::Seen::Open);
    let inside = two.shell("ip -o addr show dev eth0; ip -o link show dev eth0; ip route");
    assert!(inside.contains("link/ether 02:42:00:00:00:03"), "{inside}");
    assert!(inside.contains("172.30.0.3/16 brd 172.30.255.255"), "{inside}");
    assert!(inside.contains("default via 172.30.0.1 dev eth0"), "{inside}");
    assert!(!inside.contains("inet6"), "IPv6 is off: {inside}");
    assert!(two.shell("ip -o addr show dev lo").contains("127.0.0.1/8"));
    let port = host.shell("ip -d link show dev vethbr02");
    assert!(port.contains("hairpin on"), "{port}");
    let own = host.shell("ip -o addr show dev vethbr02");
    assert!(!own.contains("inet6"), "a port has no address: {own}");
    let routes = host.run(list_routes).unwrap();
    assert!(routes.iter().any(|route| route.destination == "172.30.0.0/16" && route.device == "br0"), "{routes:?}");
}

/// From behind the bridge, where a neighbour would learn of it.
#[test]
fn neighbours_are_told_of_new_addresses() {
    let host = Node::new();
    let two =
        BridgeOptions { name: "br0".into(), addresses: vec!["172.30.0.1/16".into(), "fd00::1/64".into()], mtu: None };
    host.run(|| ensure_bridge(&two)).unwrap();
    let neighbour = container(&host, "br0", 2, "172.30.0.2/16 fd00::2/64", "172.30.0.1");
    let socket = listen(&neighbour);
    let other = Node::new();
    let options = endpoint("br0", 3, "172.30.0.3/16 fd00::3/64", "172.30.0.1");
    let announcer = options.host_name.clone();
    let options = EndpointOptions { advertise: Some(Advertise { announcer, count: 2, interval_ms: 100 }), ..options };
    host.run(|| create_endpoint(&options, other.0.as_fd())).unwrap();
    assert_eq!(hear(&socket, 3, "172.30.0.3", "fd00::3", 2), [2, 2]);
}

/// All frames that come by a node's devices.
fn listen(node: &Node) -> OwnedFd {
    node.run(|| {
        let all = Protocol::from_raw(NonZeroU32::new(u32::from((libc::ETH_P_ALL as u16).to_be())).unwrap());
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, Some(all)).unwrap();
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(10))).unwrap();
        socket
    })
}

/// Waits until 02:42:00:00:00:`number` has announced both addresses as often as said.
fn hear(socket: &OwnedFd, number: u8, v4: &str, v6: &str, times: usize) -> [usize; 2] {
    let mac = [2, 0x42, 0, 0, 0, number];
    let (v4, v6): (Ipv4Addr, Ipv6Addr) = (v4.parse().unwrap(), v6.parse().unwrap());
    let arp = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac, &v4.octets()].concat();
    let mut heard = [0, 0];
    while heard != [times, times] {
        let mut frame = [0; 2048];
        let (length, _) = recv(socket, &mut frame[..], RecvFlags::empty()).expect("each is told so often");
        let frame = &frame[..length];
        heard[0] += usize::from(frame.starts_with(&arp));
        let advertises = frame.get(54) == Some(&136) && frame.get(62..78) == Some(&v6.octets());
        heard[1] += usize::from(frame[6..12] == mac && advertises);
    }
    heard
}

#[test]
fn a_bridge_is_brought_to_its_settings() {
    let host = Node::new();
    host.run(|| ensure_bridge(&bridge("br0", "172.30.0.1/16"))).unwrap();
    let mtu = BridgeOptions { mtu: Some(1400), ..bridge("br0", "172.31.0.1/24") };
    host.run(|| ensure_bridge(&mtu)).unwrap();
    host.run(|| ensure_bridge(&mtu)).unwrap();
    let shown = host.shell("ip -d addr show dev br0");
    assert!(shown.contains("172.31.0.1/24") && shown.contains("mtu 1400"), "{shown}");
    assert!(!shown.contains("172.30.0.1") && !shown.contains("inet6"), "{shown}");
    assert!(shown.contains("stp_state 0") && shown.contains("mcast_snooping 0"), "{shown}");
}

#[test]
fn an_administrators_bridge_keeps_its_addresses() {
    let host = Node::new();
    host.shell("ip link add br0 type bridge; ip addr add 10.1.0.1/24 dev br0");
    host.run(|| ensure_bridge(&bridge("br0", "172.30.0.1/16"))).unwrap();
    let shown = host.shell("ip addr show dev br0");
    assert!(shown.contains("10.1.0.1/24") && shown.contains("172.30.0.1/16"), "{shown}");
}

#[test]
fn a_link_that_is_no_bridge_is_left_alone() {
    let host = Node::new();
    host.shell("ip link add br0 type veth peer name br0peer");
    let error = host.run(|| ensure_bridge(&bridge("br0", "172.30.0.1/16"))).unwrap_err();
    assert_eq!(error.kind(), "conflict");
    assert!(error.to_string().contains("not a bridge"), "{error}");
}

#[test]
fn a_name_in_use_is_a_conflict_and_a_failure_leaves_nothing() {
    let host = Node::new();
    host.run(|| ensure_bridge(&bridge("br0", "172.30.0.1/16"))).unwrap();
    let _one = container(&host, "br0", 2, "172.30.0.2/16", "172.30.0.1");
    let names = || host.shell("ip -o link | cut -d: -f2");
    let before = names();
    let node = Node::new();
    let again = endpoint("br0", 2, "172.30.0.9/16", "172.30.0.1");
    let error = host.run(|| create_endpoint(&again, node.0.as_fd())).unwrap_err();
    assert_eq!((error.kind(), error.object()), ("conflict", "vethbr02"));
    // The default route cannot be set: its gateway lies in no network of the container.
    let lost = endpoint("br0", 4, "172.30.0.4/16", "10.9.9.9");
    let error = host.run(|| create_endpoint(&lost, node.0.as_fd())).unwrap_err();
    assert_eq!(error.op(), "add default route");
    let nowhere = endpoint("br9", 5, "172.30.0.5/16", "172.30.0.1");
    let error = host.run(|| create_endpoint(&nowhere, node.0.as_fd())).unwrap_err();
    assert_eq!((error.kind(), error.object()), ("notFound", "br9"));
    assert_eq!(names(), before);
    assert!(!node.shell("ip -o link").contains("eth0"));
}

/// Three ports of it are left: the third container finds it full.
#[test]
fn further_containers_share_a_port_of_a_full_bridge() {
    let host = Node::new();
    let both =
        BridgeOptions { name: "br0".into(), addresses: vec!["172.30.0.1/16".into(), "fd00::1/64".into()], mtu: None };
    host.run(|| ensure_bridge(&both)).unwrap();
    host.shell("for n in $(seq 1020); do echo link add d$n master br0 type veth peer name e$n; done | ip -batch -");
    let first = container(&host, "br0", 2, "172.30.0.2/16 fd00::2/64", "172.30.0.1");
    let neighbour = container(&host, "br0", 3, "172.30.0.3/16 fd00::3/64", "172.30.0.1");
    let shared = |number, addresses: &str| container(&host, "br0", number, addresses, "172.30.0.1");
    let (one, two) = (shared(4, "172.30.0.4/16 fd00::4/64"), shared(5, "172.30.0.5/16 fd00::5/64"));
    for node in [&first, &one, &two] {
        node.serve(80);
    }
    let everybody = ["172.30.0.2:80", "172.30.0.4:80", "172.30.0.5:80", "[fd00::2]:80", "[fd00::4]:80", "[fd00::5]:80"];
    for from in [&host, &neighbour, &one, &two] {
        for to in everybody {
            assert_eq!(from.connect(to), world::Seen::Open, "{to}");
        }
    }
    let bridge = host.shell("ip -o link show br0");
    let learnt = one.shell("ip neigh show 172.30.0.1");
    let mac = learnt.split(' ').nth(4).unwrap();
    assert!(bridge.contains(mac), "the bridge itself answers: {learnt} {bridge}");
    let alone = EndpointOptions { isolated: true, ..endpoint("br0", 6, "172.30.0.6/16", "172.30.0.1") };
    let node = Node::new();
    host.run(|| create_endpoint(&alone, node.0.as_fd())).unwrap();
    assert_eq!(node.connect("172.30.0.1:80"), world::Seen::Closed);
    assert_eq!(node.connect("172.30.0.4:80"), world::Seen::Closed);
    assert_eq!(node.connect("172.30.0.2:80"), world::Seen::Open);

    assert_eq!(host.run(|| delete_link("vethbr04")).unwrap_err().kind(), "notFound");
    delete_child(one.0.as_fd(), "eth0").unwrap();
    assert!(!one.shell("ip -o link").contains("eth0"));
    host.run(|| delete_link("br0")).unwrap();
    assert!(!two.shell("ip -o link").contains("eth0"), "with the bridge goes what hangs on it");
    assert!(!host.shell("ip -o link").contains("trunk"));
}

#[test]
fn deleting_takes_both_ends_and_then_finds_nothing() {
    let host = Node::new();
    host.run(|| ensure_bridge(&bridge("br0", "172.30.0.1/16"))).unwrap();
    let one = container(&host, "br0", 2, "172.30.0.2/16", "172.30.0.1");
    host.run(|| delete_link("vethbr02")).unwrap();
    assert!(!one.shell("ip -o link").contains("eth0"));
    assert_eq!(host.run(|| delete_link("vethbr02")).unwrap_err().kind(), "notFound");
}

#[test]
fn queries_to_the_embedded_server_reach_its_sockets() {
    let node = Node::new();
    // A program of the container's own has the port.
    let _own = node.run(|| std::net::UdpSocket::bind("0.0.0.0:53").unwrap());
    for _ in 0..2 {
        let sockets = create_resolver_sockets(node.0.as_fd()).unwrap();
        let (udp, tcp) = (UdpSocket::from(sockets.udp), TcpListener::from(sockets.tcp));
        let client = node.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        client.connect("127.0.0.11:53").unwrap();
        client.send(b"question").unwrap();
        let mut buffer = [0; 16];
        let (length, from) = udp.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"question");
        udp.send_to(b"answer", from).unwrap();
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"answer");
        let stream = node.run(|| TcpStream::connect("127.0.0.11:53").unwrap());
        assert_eq!(tcp.accept().unwrap().1, stream.local_addr().unwrap());
    }
}

#[test]
fn a_child_of_a_device_is_a_neighbour_of_the_host() {
    let (host, neighbour, node) = (Node::new(), Node::new(), Node::new());
    cable("lan", (&host, "192.0.2.1/24"), (&neighbour, "192.0.2.2/24"));
    let options = |kind, mode: &str| ChildOptions {
        kind,
        parent: "lana".into(),
        mode: mode.into(),
        flag: String::new(),
        container_name: "eth0".into(),
        mac: "02:42:00:00:00:09".into(),
        addresses: vec!["192.0.2.9/24".into()],
        gateways: vec!["192.0.2.2".into()],
        mtu: None,
        sysctls: Default::default(),
        advertise: None,
    };
    host.run(|| create_child(&options(ChildKind::Macvlan, "bridge"), node.0.as_fd())).unwrap();
    node.serve(80);
    assert_eq!(neighbour.connect("192.0.2.9:80"), world::Seen::Open);
    assert!(node.shell("ip route").contains("default via 192.0.2.2"));
    delete_child(node.0.as_fd(), "eth0").unwrap();
    assert!(!node.shell("ip -o link").contains("eth0"));
    let missing = ChildOptions { parent: "nowhere".into(), ..options(ChildKind::Macvlan, "bridge") };
    assert_eq!(host.run(|| create_child(&missing, node.0.as_fd())).unwrap_err().kind(), "notFound");
    let wrong = host.run(|| create_child(&options(ChildKind::Macvlan, "l2"), node.0.as_fd())).unwrap_err();
    assert_eq!(wrong.kind(), "invalid");
    // It knows the address by the MAC of the device that has gone.
    neighbour.shell("ip neigh flush all");
    match host.run(|| create_child(&options(ChildKind::Ipvlan, "l2"), node.0.as_fd())) {
        Ok(()) => assert_eq!(neighbour.connect("192.0.2.9:80"), world::Seen::Open),
        Err(error) => assert_eq!(error.to_string(), "create endpoint 'lana': this kernel has no ipvlan"),
    }
}

/// A container that starts again has another MAC.
#[test]
fn neighbours_of_a_device_are_told_who_has_an_address_now() {
    let (host, neighbour) = (Node::new(), Node::new());
    cable("lan", (&host, "192.0.2.1/24"), (&neighbour, "192.0.2.2/24"));
    neighbour.shell("echo 0 > /proc/sys/net/ipv6/conf/lanb/disable_ipv6; ip addr add fd00::2/64 dev lanb nodad");
    let start = |number: u8| {
        let node = Node::new();
        let options = ChildOptions {
            kind: ChildKind::Macvlan,
            parent: "lana".into(),
            mode: "bridge".into(),
            flag: String::new(),
            container_name: "eth0".into(),
            mac: format!("02:42:00:00:00:{number:02x}"),
            addresses: vec!["192.0.2.9/24".into(), "fd00::9/64".into()],
            gateways: Vec::new(),
            mtu: None,
            sysctls: Default::default(),
            advertise: Some(Advertise { announcer: "one".into(), count: 2, interval_ms: 100 }),
        };
        host.run(|| create_child(&options, node.0.as_fd())).unwrap();
        node.serve(80);
        node
    };
    let seen = || ["192.0.2.9:80", "[fd00::9]:80"].map(|at| neighbour.connect(at));
    let first = start(9);
    assert_eq!(seen(), [world::Seen::Open; 2]);
    delete_child(first.0.as_fd(), "eth0").unwrap();
    let socket = listen(&neighbour);
    let _second = start(10);
    assert_eq!(hear(&socket, 10, "192.0.2.9", "fd00::9", 2), [2, 2]);
    assert_eq!(seen(), [world::Seen::Open; 2]);
}

#[test]
fn a_full_bridge_says_so() {
    let (host, node) = (Node::new(), Node::new());
    host.run(|| ensure_bridge(&bridge("br0", "172.30.0.1/16"))).unwrap();
    let fill = "seq 1023 | sed 's/.*/link add p& master br0 type veth peer name q&/' | ip -batch -";
    host.shell(fill);
    let one = endpoint("br0", 1, "172.30.0.2/16", "172.30.0.1");
    let error = host.run(|| create_endpoint(&one, node.0.as_fd())).unwrap_err();
    assert_eq!(error.kind(), "conflict");
    assert!(error.to_string().contains("the bridge 'br0' has 1023 ports, the most that Linux allows"), "{error}");
    assert!(!host.shell("ip -o link").contains(&one.host_name), "nothing is left of it");
}
