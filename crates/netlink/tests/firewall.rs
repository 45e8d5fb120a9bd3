//! The truth table of published ports: who reaches what, from where.

mod world;

use netlink::{
    BridgeOptions, BridgeRules, Firewall, FirewallMode, PortRequest, Proto, PublishedPort, ReservedPort, Ruleset,
    RulesetReport, enable_forwarding, ensure_bridge, reserve_ports,
};
use world::Seen::{Closed, Open, Reserved};
use world::{Node, Seen, cable, container};

const TABLE: &str = "caisson_test";
const HOST: &str = "192.0.2.1";
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
        for (to, seen) in [
            (via("172.30.0.2", 80), Open),
            (via("172.30.0.2", 81), Open),
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

#[test]
fn the_truth_table_holds() {
    let mut world = World::new();
    let report = world.apply(FirewallMode::Open);
    assert_eq!(report.dropped_by, Vec::<String>::new());
    world.check("fresh", Open);
    if report.owned {
        // The owner's socket keeps a foreign flush away.
        world.host.shell("nft flush ruleset");
        world.check("after a foreign flush", Open);
    }
}
