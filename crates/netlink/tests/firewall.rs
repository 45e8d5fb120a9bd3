//! The truth table of published ports: who reaches what, from where.

mod world;

use std::net::UdpSocket;
use std::time::Duration;

use netlink::{
    BridgeOptions, BridgeRules, Firewall, FirewallMode, PortRequest, Proto, PublishedPort, ReservedPort, Ruleset,
    RulesetReport, enable_forwarding, ensure_bridge, reserve_ports,
};
use world::Seen::{Closed, Open, Reserved};
use world::{Node, Seen, cable, container};

const TABLE: &str = "caisson_test";
const HOST: &str = "192.0.2.1";
const BRIDGED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
const HOST_OTHER: &str = "203.0.113.1";

/// A host with two bridges and two addresses, a neighbour on its segment, and a machine behind that neighbour.
struct World {
    host: Node,
    neighbour: Node,
    remote: Node,
    target: Node,
    sibling: Node,
    other: Node,
    firewall: Option<Firewall>,
    _reserved: Vec<ReservedPort>,
}

fn published(host_ip: &str, host_port: u16) -> PublishedPort {
    PublishedPort {
        owner: "c0ffee".repeat(10),
        proto: Proto::Tcp,
        host_ip: host_ip.into(),
        host_port,
        container_ip: "172.30.0.2".into(),
        container_port: 80,
    }
}

/// 8080 on every address, 8081 on one, 8082 on loopback.
fn ports() -> Vec<PublishedPort> {
    vec![published("0.0.0.0", 8080), published(HOST, 8081), published("127.0.0.1", 8082)]
}

fn ruleset(firewall: FirewallMode) -> Ruleset {
    let bridge = |name: &str, subnet: &str| BridgeRules {
        bridge: name.into(),
        subnet: subnet.into(),
        icc: true,
        masquerade: true,
    };
    Ruleset {
        table: TABLE.into(),
        bridges: vec![bridge("br0", "172.30.0.0/16"), bridge("br1", "172.31.0.0/16")],
        ports: ports(),
        firewall,
    }
}

impl World {
    fn new() -> Self {
        let (host, neighbour, remote) = (Node::new(), Node::new(), Node::new());
        cable("lan", (&host, "192.0.2.1/24"), (&neighbour, "192.0.2.2/24"));
        cable("wan", (&neighbour, "198.51.100.1/24"), (&remote, "198.51.100.2/24"));
        host.shell(&format!("ip addr add {HOST_OTHER}/32 dev lana; ip route add 198.51.100.0/24 via 192.0.2.2"));
        neighbour.shell("echo 1 > /proc/sys/net/ipv4/ip_forward; ip route add default via 192.0.2.1");
        remote.shell("ip route add default via 198.51.100.1");
        for (name, address) in [("br0", "172.30.0.1/16"), ("br1", "172.31.0.1/16")] {
            let options = BridgeOptions { name: name.into(), address: address.into(), mtu: None };
            host.run(|| ensure_bridge(&options)).unwrap();
        }
        let target = container(&host, "br0", 2, "172.30.0.2/16", "172.30.0.1");
        let sibling = container(&host, "br0", 3, "172.30.0.3/16", "172.30.0.1");
        let other = container(&host, "br1", 2, "172.31.0.2/16", "172.31.0.1");
        target.serve(80);
        target.serve(81);
        let requests: Vec<_> = ports()
            .iter()
            .map(|port| PortRequest { proto: port.proto, host_ip: port.host_ip.clone(), host_port: port.host_port })
            .collect();
        let reserved = host.run(|| reserve_ports(&requests)).unwrap();
        // A new namespace has the value of the machine's.
        host.shell("echo 0 > /proc/sys/net/ipv4/ip_forward");
        assert!(host.run(enable_forwarding).unwrap());
        assert!(!host.run(enable_forwarding).unwrap());
        let firewall = host.run(Firewall::open).unwrap();
        Self { host, neighbour, remote, target, sibling, other, firewall: Some(firewall), _reserved: reserved }
    }

    fn apply(&mut self, mode: FirewallMode) -> RulesetReport {
        let firewall = self.firewall.as_mut().unwrap();
        firewall.apply(&ruleset(mode)).unwrap()
    }

    /// Compares every cell and shows all that differ.
    fn check(&self, when: &str, remotes_published: Seen) {
        let published = remotes_published;
        let both = |name: &'static str, to: &str, seen: Seen| {
            vec![(name, &self.neighbour, to.to_owned(), seen), ("routed", &self.remote, to.to_owned(), seen)]
        };
        let via = |ip: &str, port: u16| format!("{ip}:{port}");
        let mut cells = Vec::new();
        cells.extend(both("neighbour", "172.30.0.2:80", Closed));
        cells.extend(both("neighbour", "172.30.0.2:81", Closed));
        cells.extend(both("neighbour", &via(HOST, 8080), published));
        cells.extend(both("neighbour", &via(HOST_OTHER, 8080), published));
        cells.extend(both("neighbour", &via(HOST, 8081), published));
        cells.extend(both("neighbour", &via(HOST_OTHER, 8081), Closed));
        cells.extend(both("neighbour", &via(HOST, 8082), Closed));
        cells.extend(both("neighbour", &via(HOST, 81), Closed));
        for (to, seen) in [
            (via("172.30.0.2", 80), Open),
            (via("172.30.0.2", 81), Open),
            (via(HOST, 8080), Open),
            (via("172.30.0.1", 8080), Open),
            (via(HOST, 8081), Open),
            (via(HOST_OTHER, 8081), Closed),
            (via(HOST, 8082), Closed),
            // The shim serves these sockets.
            (via("127.0.0.1", 8080), Reserved),
            (via("127.0.0.1", 8082), Reserved),
        ] {
            cells.push(("host", &self.host, to, seen));
        }
        for (to, seen) in [
            (via("172.30.0.2", 80), Closed),
            (via("172.30.0.2", 81), Closed),
            (via(HOST, 8080), published),
            (via("172.31.0.1", 8080), published),
            (via(HOST, 8081), published),
            (via(HOST_OTHER, 8081), Closed),
            (via(HOST, 8082), Closed),
        ] {
            cells.push(("other bridge", &self.other, to, seen));
        }
        // A firewall of others sees bridged packets only where the kernel passes them on (br_netfilter).
        let bridged = if self.host.shell(&format!("cat {BRIDGED} || echo 0")) == "1\n" { published } else { Open };
        for (to, seen) in [
            (via("172.30.0.2", 80), bridged),
            (via("172.30.0.2", 81), bridged),
            (via("172.30.0.1", 8080), published),
            (via(HOST, 8080), published),
            (via(HOST, 8082), Closed),
        ] {
            cells.push(("same bridge", &self.sibling, to, seen));
        }
        cells.push(("itself", &self.target, via(HOST, 8080), published));
        let wrong: Vec<_> = cells
            .iter()
            .map(|(from, node, to, expected)| (from, to, expected, node.connect(to)))
            .filter(|(_, _, expected, seen)| *expected != seen)
            .collect();
        assert!(wrong.is_empty(), "{when}: (from, to, expected, seen) {wrong:#?}");
    }
}

fn port(owner: &str, host_port: u16) -> PublishedPort {
    PublishedPort { owner: owner.into(), ..published("0.0.0.0", host_port) }
}

fn alone() -> (Node, Firewall) {
    let host = Node::new();
    let firewall = host.run(Firewall::open).unwrap();
    (host, firewall)
}

#[test]
fn the_truth_table_holds() {
    let mut world = World::new();
    let report = world.apply(FirewallMode::Open);
    assert_eq!(report.dropped_by, Vec::<String>::new());
    world.check("fresh", Open);
    world.host.shell(&format!("[ ! -e {BRIDGED} ] || echo 0 > {BRIDGED}"));
    world.check("without br_netfilter", Open);
    world.host.shell(&format!("[ ! -e {BRIDGED} ] || echo 1 > {BRIDGED}"));
    if report.owned {
        // The owner's socket keeps a foreign flush away.
        world.host.shell("nft flush ruleset");
        world.check("after a foreign flush", Open);
        world.firewall = None;
        world.check("after the owner's death", Open);
        world.firewall = Some(world.host.run(Firewall::open).unwrap());
        assert!(world.apply(FirewallMode::Open).owned);
        world.host.shell("nft flush ruleset");
        world.check("taken over by the next owner", Open);
    }
}

#[test]
fn beside_foreign_chains_that_drop() {
    let mut world = World::new();
    world.host.shell(
        "iptables -P FORWARD DROP
         nft 'add table inet admin; add chain inet admin forward { type filter hook forward priority 0; policy drop; }'
         nft 'add chain inet admin input { type filter hook input priority 0; policy drop; }'
         nft 'add rule inet admin input iifname lo accept; add rule inet admin input ct state established accept'
         iptables-nft -A FORWARD -i elsewhere -m conntrack --ctstate RELATED -j ACCEPT",
    );
    let before = world.host.shell("iptables-save | grep -v '^#'; nft list table inet admin");
    let mut report = world.apply(FirewallMode::Respect);
    report.dropped_by.sort();
    assert_eq!(report.dropped_by, ["inet admin forward", "ip filter FORWARD"]);
    assert_eq!(world.host.shell("iptables-save | grep -v '^#'; nft list table inet admin"), before);
    world.check("respect", Closed);
    for _ in 0..2 {
        let report = world.apply(FirewallMode::Open);
        assert_eq!(report.dropped_by.len(), 2);
    }
    // The rules are of iptables' own kind: it refuses a table with others.
    let listed = world.host.shell("iptables -S FORWARD");
    assert!(listed.contains("-o br0 -m conntrack --ctstate RELATED,ESTABLISHED,DNAT"), "{listed}");
    assert_eq!(listed.matches("-i br0").count(), 1, "{listed}");
    world.check("open", Open);
    world.firewall.as_mut().unwrap().delete(TABLE).unwrap();
    assert_eq!(world.host.shell("iptables-save | grep -v '^#'; nft list table inet admin"), before);
}

#[test]
fn dockers_chain_takes_the_rules() {
    let (host, mut firewall) = alone();
    host.shell("iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER");
    firewall.apply(&ruleset(FirewallMode::Open)).unwrap();
    let listed = host.shell("iptables -S");
    assert!(listed.contains("-A DOCKER-USER -i br0") && !listed.contains("-A FORWARD -i"), "{listed}");
    firewall.apply(&ruleset(FirewallMode::Respect)).unwrap();
    assert!(!host.shell("iptables -S").contains("br0"));
}

#[test]
fn ports_are_added_and_removed_by_their_owner() {
    let (host, mut firewall) = alone();
    firewall.apply(&Ruleset { ports: vec![], ..ruleset(FirewallMode::Open) }).unwrap();
    let listed = || host.shell(&format!("nft list map inet {TABLE} ports"));
    let many: Vec<_> = (1000..1500).map(|number| port("one", number)).collect();
    firewall.add_ports(TABLE, &many).unwrap();
    firewall.add_ports(TABLE, &many).unwrap();
    assert_eq!(listed().matches("comment \"one\"").count(), 500);
    let elsewhere = PublishedPort { container_port: 99, ..port("two", 1007) };
    let error = firewall.add_ports(TABLE, &[port("two", 999), elsewhere.clone()]).unwrap_err();
    assert_eq!(error.kind(), "conflict");
    assert_eq!(error.to_string(), "Bind for 0.0.0.0:1007 failed: port is already allocated to one");
    assert!(!listed().contains("two"), "all or none");
    firewall.remove_ports(TABLE, &[elsewhere]).unwrap();
    assert_eq!(listed().matches("comment \"one\"").count(), 500, "not the owner");
    firewall.remove_ports(TABLE, &many[..499]).unwrap();
    firewall.remove_ports(TABLE, &many).unwrap();
    firewall.remove_ports(TABLE, &many).unwrap();
    assert!(!listed().contains("comment"), "{}", listed());
    let missing = firewall.add_ports("nowhere", &[port("one", 1)]).unwrap_err();
    assert_eq!(missing.kind(), "notFound");
}

#[test]
fn a_table_of_another_owner_is_a_conflict() {
    let (host, mut firewall) = alone();
    if !firewall.apply(&ruleset(FirewallMode::Open)).unwrap().owned {
        return;
    }
    let mut second = host.run(Firewall::open).unwrap();
    let error = second.apply(&ruleset(FirewallMode::Open)).unwrap_err();
    assert_eq!(error.kind(), "conflict");
    assert!(error.to_string().contains("belongs to another running process"), "{error}");
}

#[test]
fn deleting_is_idempotent() {
    let (host, mut firewall) = alone();
    firewall.apply(&ruleset(FirewallMode::Open)).unwrap();
    firewall.delete(TABLE).unwrap();
    firewall.delete(TABLE).unwrap();
    assert_eq!(host.shell("nft list ruleset"), "");
}

#[test]
fn the_host_does_not_become_a_router() {
    let mut world = World::new();
    let server = Node::new();
    cable("far", (&world.host, "10.20.0.1/24"), (&server, "10.20.0.2/24"));
    server.shell("ip route add default via 10.20.0.1");
    server.serve(80);
    world.apply(FirewallMode::Open);
    assert_eq!(world.neighbour.connect("10.20.0.2:80"), Open, "forwarding was on already");
    world.firewall.as_mut().unwrap().drop_foreign();
    world.apply(FirewallMode::Open);
    assert_eq!(world.neighbour.connect("10.20.0.2:80"), Closed);
    assert_eq!(world.target.connect("10.20.0.2:80"), Open, "containers still go out");
    world.firewall = None;
    world.firewall = Some(world.host.run(Firewall::open).unwrap());
    world.apply(FirewallMode::Open);
    assert_eq!(world.neighbour.connect("10.20.0.2:80"), Closed, "the next process knows it too");
    world.check("with foreign traffic dropped", Open);
}

#[test]
fn a_udp_flow_ends_with_its_port() {
    let mut world = World::new();
    world.apply(FirewallMode::Open);
    let moved = container(&world.host, "br0", 9, "172.30.0.9/16", "172.30.0.1");
    let servers = [&world.target, &moved].map(|node| node.run(|| UdpSocket::bind("0.0.0.0:53").unwrap()));
    let client = world.neighbour.run(|| UdpSocket::bind("192.0.2.2:5353").unwrap());
    let udp = |ip: &str| PublishedPort {
        proto: Proto::Udp,
        container_ip: ip.into(),
        container_port: 53,
        ..published("0.0.0.0", 5300)
    };
    let firewall = world.firewall.as_mut().unwrap();
    for (server, ip) in servers.iter().zip(["172.30.0.2", "172.30.0.9"]) {
        firewall.add_ports(TABLE, &[udp(ip)]).unwrap();
        client.send_to(b"hello", (HOST, 5300)).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        server.recv(&mut [0; 8]).unwrap_or_else(|error| panic!("{ip} got nothing: {error}"));
        firewall.remove_ports(TABLE, &[udp(ip)]).unwrap();
    }
}

#[test]
fn siblings_without_icc_reach_published_ports_only() {
    let mut world = World::new();
    let mut rules = ruleset(FirewallMode::Open);
    rules.bridges[0].icc = false;
    let firewall = world.firewall.as_mut().unwrap();
    let (host, sibling) = (&world.host, &world.sibling);
    host.shell(&format!("[ ! -e {BRIDGED} ] || echo 0 > {BRIDGED}"));
    let error = host.run(|| firewall.apply(&rules)).unwrap_err();
    assert_eq!((error.kind(), error.object()), ("unsupported", "br0"));
    assert!(error.to_string().contains("br_netfilter"), "{error}");
    if host.shell(&format!("[ -e {BRIDGED} ] && echo 1 > {BRIDGED} && echo yes || echo no")) == "yes\n" {
        host.run(|| firewall.apply(&rules)).unwrap();
        assert_eq!(sibling.connect("172.30.0.2:80"), Closed);
        assert_eq!(sibling.connect(&format!("{HOST}:8080")), Open);
        assert!(host.shell(&format!("nft list set inet {TABLE} bridges")).contains("\"br0\""));
    }
}
