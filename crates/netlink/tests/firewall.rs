//! The truth table of published ports: who reaches what, from where.

mod world;

use std::net::UdpSocket;
use std::time::Duration;

use netlink::{
    BridgeOptions, BridgeRules, Change, Family, Firewall, FirewallMode, GatewayMode, PortRequest, Proto, PublishedPort,
    ReservedPort, Ruleset, RulesetReport, Watch, enable_forwarding, ensure_bridge, reserve_ports,
};
use world::Seen::{Closed, Open, Reserved};
use world::{Node, Seen, cable, container};

const TABLE: &str = "caisson_test";
const HOST: &str = "192.0.2.1";
const BRIDGED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
const HOST_OTHER: &str = "203.0.113.1";
const HOST_V6: &str = "2001:db8:1::1";
const HOST_OTHER_V6: &str = "2001:db8:9::1";

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
        direct: false,
    }
}

fn published_v6(host_ip: &str, host_port: u16) -> PublishedPort {
    PublishedPort { container_ip: "fd00:30::2".into(), ..published(host_ip, host_port) }
}

/// 8080 on every address, 8081 on one, 8082 on loopback.
fn ports() -> Vec<PublishedPort> {
    let v4 = [("0.0.0.0", 8080), (HOST, 8081), ("127.0.0.1", 8082)].map(|(ip, port)| published(ip, port));
    let v6 = [("::", 8080), (HOST_V6, 8081), ("::1", 8082)].map(|(ip, port)| published_v6(ip, port));
    v4.into_iter().chain(v6).collect()
}

fn bridge(number: u8) -> BridgeRules {
    BridgeRules {
        bridge: format!("br{number}"),
        subnets: vec![format!("172.3{number}.0.0/16"), format!("fd00:3{number}::/64")],
        icc: true,
        masquerade: true,
        internal: false,
        mode_v4: GatewayMode::Nat,
        mode_v6: GatewayMode::Nat,
        trusted: Vec::new(),
        direct: false,
        sources: Vec::new(),
    }
}

fn ruleset(firewall: FirewallMode) -> Ruleset {
    Ruleset { table: TABLE.into(), bridges: vec![bridge(0), bridge(1)], ports: ports(), firewall }
}

/// The addresses of IPv6 beside those of IPv4.
fn second_family(host: &Node, neighbour: &Node, remote: &Node) {
    let on = |device: &str, address: &str| {
        format!("echo 0 > /proc/sys/net/ipv6/conf/{device}/disable_ipv6; ip addr add {address} dev {device} nodad; ")
    };
    host.shell(&format!(
        "{}ip addr add {HOST_OTHER_V6}/128 dev lana nodad; ip route add 2001:db8:2::/64 via 2001:db8:1::2",
        on("lana", &format!("{HOST_V6}/64"))
    ));
    neighbour.shell(&format!(
        "{}{}echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; ip route add default via {HOST_V6}",
        on("lanb", "2001:db8:1::2/64"),
        on("wana", "2001:db8:2::1/64")
    ));
    remote.shell(&format!("{}ip route add default via 2001:db8:2::1", on("wanb", "2001:db8:2::2/64")));
}

/// One family's names of everything.
struct Names {
    host: &'static str,
    host_other: &'static str,
    loopback: &'static str,
    target: &'static str,
    gateway: &'static str,
    other_gateway: &'static str,
}

const NAMES: [Names; 2] = [
    Names {
        host: HOST,
        host_other: HOST_OTHER,
        loopback: "127.0.0.1",
        target: "172.30.0.2",
        gateway: "172.30.0.1",
        other_gateway: "172.31.0.1",
    },
    Names {
        host: "[2001:db8:1::1]",
        host_other: "[2001:db8:9::1]",
        loopback: "[::1]",
        target: "[fd00:30::2]",
        gateway: "[fd00:30::1]",
        other_gateway: "[fd00:31::1]",
    },
];

impl World {
    fn new() -> Self {
        let (host, neighbour, remote) = (Node::new(), Node::new(), Node::new());
        cable("lan", (&host, "192.0.2.1/24"), (&neighbour, "192.0.2.2/24"));
        cable("wan", (&neighbour, "198.51.100.1/24"), (&remote, "198.51.100.2/24"));
        host.shell(&format!("ip addr add {HOST_OTHER}/32 dev lana; ip route add 198.51.100.0/24 via 192.0.2.2"));
        neighbour.shell("echo 1 > /proc/sys/net/ipv4/ip_forward; ip route add default via 192.0.2.1");
        remote.shell("ip route add default via 198.51.100.1");
        second_family(&host, &neighbour, &remote);
        for number in [0, 1] {
            let addresses = vec![format!("172.3{number}.0.1/16"), format!("fd00:3{number}::1/64")];
            let options = BridgeOptions { name: format!("br{number}"), addresses, mtu: None };
            host.run(|| ensure_bridge(&options)).unwrap();
        }
        let on = |bridge: u8, number: u8| {
            let addresses = format!("172.3{bridge}.0.{number}/16 fd00:3{bridge}::{number}/64");
            container(
                &host,
                &format!("br{bridge}"),
                number,
                &addresses,
                &format!("172.3{bridge}.0.1 fd00:3{bridge}::1"),
            )
        };
        let (target, sibling, other) = (on(0, 2), on(0, 3), on(1, 2));
        target.serve(80);
        target.serve(81);
        let requests: Vec<_> = ports()
            .iter()
            .map(|port| PortRequest { proto: port.proto, host_ip: port.host_ip.clone(), host_port: port.host_port })
            .collect();
        let reserved = host.run(|| reserve_ports(&requests)).unwrap();
        // A new namespace has the value of the machine's.
        host.shell(
            "echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding
             echo 1 > /proc/sys/net/ipv6/conf/lana/accept_ra",
        );
        for family in [Family::V4, Family::V6] {
            assert!(host.run(|| enable_forwarding(family)).unwrap());
            assert!(!host.run(|| enable_forwarding(family)).unwrap());
        }
        let firewall = host.run(Firewall::open).unwrap();
        Self { host, neighbour, remote, target, sibling, other, firewall: Some(firewall), _reserved: reserved }
    }

    fn apply(&mut self, mode: FirewallMode) -> RulesetReport {
        let firewall = self.firewall.as_mut().unwrap();
        self.host.run(|| firewall.apply(&ruleset(mode))).unwrap()
    }

    /// Compares every cell of both families and shows all that differ. `published`: ports that are published for everybody.
    fn check(&self, when: &str, published: Seen) {
        // A question to a neighbour that an earlier situation has dropped would still be answered with "unreachable".
        for node in [&self.host, &self.sibling, &self.target, &self.other] {
            node.shell("ip neigh flush all");
        }
        let cells: Vec<_> = NAMES.iter().flat_map(|names| self.cells(published, names)).collect();
        // At the same time: a cell that is closed is known by waiting.
        let seen: Vec<Seen> = std::thread::scope(|scope| {
            let clients: Vec<_> = cells.iter().map(|(_, node, to, _)| scope.spawn(|| node.connect(to))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let wrong: Vec<_> = cells.iter().zip(&seen).filter(|((_, _, _, expected), seen)| expected != *seen).collect();
        let shown: Vec<_> = wrong.iter().map(|((from, _, to, expected), seen)| (from, to, expected, seen)).collect();
        assert!(wrong.is_empty(), "{when}: (from, to, expected, seen) {shown:#?}");
    }

    fn cells(&self, published: Seen, names: &Names) -> Vec<(&str, &Node, String, Seen)> {
        let via = |ip: &str, port: u16| format!("{ip}:{port}");
        let mut cells: Vec<(&str, &Node, String, Seen)> = Vec::new();
        for (to, seen) in [
            (via(names.target, 80), Closed),
            (via(names.target, 81), Closed),
            (via(names.host, 8080), published),
            (via(names.host_other, 8080), published),
            (via(names.host, 8081), published),
            (via(names.host_other, 8081), Closed),
            (via(names.host, 8082), Closed),
            (via(names.host, 81), Closed),
        ] {
            cells.push(("neighbour", &self.neighbour, to.clone(), seen));
            cells.push(("routed", &self.remote, to, seen));
        }
        for (to, seen) in [
            (via(names.target, 80), Open),
            (via(names.target, 81), Open),
            (via(names.host, 8080), Open),
            (via(names.gateway, 8080), Open),
            (via(names.host, 8081), Open),
            (via(names.host_other, 8081), Closed),
            (via(names.host, 8082), Closed),
            // The shim serves these sockets.
            (via(names.loopback, 8080), Reserved),
            (via(names.loopback, 8082), Reserved),
        ] {
            cells.push(("host", &self.host, to, seen));
        }
        for (to, seen) in [
            (via(names.target, 80), Closed),
            (via(names.target, 81), Closed),
            (via(names.host, 8080), published),
            (via(names.other_gateway, 8080), published),
            (via(names.host, 8081), published),
            (via(names.host_other, 8081), Closed),
            (via(names.host, 8082), Closed),
        ] {
            cells.push(("other bridge", &self.other, to, seen));
        }
        // A firewall of others sees bridged packets only where the kernel passes them on (br_netfilter).
        let bridged = if self.host.shell(&format!("cat {BRIDGED} || echo 0")) == "1\n" { published } else { Open };
        for (to, seen) in [
            (via(names.target, 80), bridged),
            (via(names.target, 81), bridged),
            (via(names.gateway, 8080), published),
            (via(names.host, 8080), published),
            (via(names.host, 8082), Closed),
        ] {
            cells.push(("same bridge", &self.sibling, to, seen));
        }
        cells.push(("itself", &self.target, via(names.host, 8080), published));
        cells
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

/// As before 6.9.
#[test]
fn a_table_that_can_be_flushed_has_a_second_lock() {
    let mut world = World::new();
    world.firewall = world.firewall.take().map(Firewall::without_ownership);
    assert!(!world.apply(FirewallMode::Open).owned);
    world.check("without an owner", Open);
    world.host.shell("nft flush ruleset");
    for names in &NAMES {
        for from in [&world.neighbour, &world.remote, &world.other] {
            assert_eq!(from.connect(&format!("{}:80", names.target)), Closed, "flushed: {}", names.target);
        }
        assert_eq!(world.host.connect(&format!("{}:80", names.target)), Open);
    }
    world.apply(FirewallMode::Open);
    world.check("repaired", Open);
    let bridge = bridge(1);
    let firewall = world.firewall.as_mut().unwrap();
    let routes = |host: &Node| {
        host.shell("ip route show table all; ip -6 route show table all").matches("172.31.0.0/16").count()
    };
    let before = routes(&world.host);
    world.host.run(|| firewall.remove_bridge(TABLE, &bridge)).unwrap();
    assert_eq!(routes(&world.host), before - 1);
    world.host.run(|| firewall.add_bridge(TABLE, &bridge)).unwrap();
    assert_eq!(routes(&world.host), before);
    world.host.run(|| firewall.delete(TABLE)).unwrap();
    let left = world.host.shell("ip rule; ip -6 rule");
    assert!(!left.contains("goto") && !left.contains("nop"), "{left}");
}

#[test]
fn an_internal_bridge_leads_nowhere() {
    let mut world = World::new();
    let internal = BridgeRules { internal: true, ..bridge(1) };
    let firewall = world.firewall.as_mut().unwrap();
    firewall.apply(&Ruleset { bridges: vec![bridge(0)], ..ruleset(FirewallMode::Open) }).unwrap();
    firewall.add_bridge(TABLE, &internal).unwrap();
    firewall.add_bridge(TABLE, &internal).unwrap();
    let neighbour_server = "192.0.2.2:80";
    world.neighbour.serve(80);
    world.other.serve(80);
    assert_eq!(world.target.connect(neighbour_server), Open);
    assert_eq!(world.other.connect(neighbour_server), Closed);
    assert_eq!(world.other.connect(&format!("{HOST}:8080")), Closed);
    assert_eq!(world.target.connect("172.31.0.2:80"), Closed);
    assert_eq!(world.neighbour.connect("172.31.0.2:80"), Closed);
    assert_eq!(world.host.connect("172.31.0.2:80"), Open);
    let firewall = world.firewall.as_mut().unwrap();
    firewall.remove_bridge(TABLE, &internal).unwrap();
    firewall.remove_bridge(TABLE, &internal).unwrap();
    assert!(!world.host.shell(&format!("nft list table inet {TABLE}")).contains("br1"));
}

/// Who reaches a container by its own address when the mode of its network says that it may.
#[test]
fn a_network_is_opened_to_direct_routes() {
    let mut world = World::new();
    let mode = |mode_v4, mode_v6, trusted: &[&str]| {
        let trusted = trusted.iter().map(ToString::to_string).collect();
        BridgeRules { mode_v4, mode_v6, trusted, ..bridge(0) }
    };
    let direct = |port: PublishedPort| PublishedPort { direct: true, ..port };
    let (nat, unprotected, routed) = (GatewayMode::Nat, GatewayMode::NatUnprotected, GatewayMode::Routed);
    let v4 = ["172.30.0.2:80", "172.30.0.2:81"];
    let v6 = ["[fd00:30::2]:80", "[fd00:30::2]:81"];
    for (rules, open) in [
        (mode(nat, nat, &[]), vec![]),
        (mode(unprotected, nat, &[]), v4.to_vec()),
        (mode(nat, unprotected, &[]), v6.to_vec()),
        (mode(routed, nat, &[]), vec![v4[0]]),
        (mode(nat, routed, &[]), vec![v6[0]]),
        (mode(nat, nat, &["elsewhere"]), vec![]),
        (mode(nat, nat, &["lana"]), vec![v4[0], v6[0]]),
    ] {
        let ports = ports().into_iter().map(direct).collect();
        let all = Ruleset { bridges: vec![rules.clone(), bridge(1)], ports, ..ruleset(FirewallMode::Open) };
        world.host.run(|| world.firewall.as_mut().unwrap().apply(&all)).unwrap();
        for address in v4.iter().chain(&v6) {
            let wanted = if open.contains(address) { Open } else { Closed };
            assert_eq!(world.neighbour.connect(address), wanted, "{address} under {rules:?}");
        }
    }
    let firewall = world.firewall.as_mut().unwrap();
    let twice = [direct(published("0.0.0.0", 8080)), direct(published(HOST, 8081))];
    world.host.run(|| firewall.remove_ports(TABLE, &twice)).unwrap();
    assert_eq!(world.neighbour.connect(v4[0]), Closed);
    assert_eq!(world.neighbour.connect(v6[0]), Open);
}

#[test]
fn what_others_change_is_told() {
    let (host, mut firewall) = alone();
    let mut watch = host.run(|| Watch::open(TABLE, firewall.port_id().unwrap()).unwrap());
    // Our own changes are none.
    firewall.apply(&ruleset(FirewallMode::Open)).unwrap();
    firewall.add_ports(TABLE, &[port("one", 1)]).unwrap();
    host.shell("nft add table inet admin; nft 'add set inet admin s { type ipv4_addr; }'");
    assert_eq!(watch.wait().unwrap(), Change::Foreign);
    host.shell("nft 'add chain inet admin forward { type filter hook forward priority 0; policy drop; }'");
    while watch.wait().unwrap() != Change::Foreign {}
    assert_eq!(firewall.refresh_foreign(TABLE, FirewallMode::Open).unwrap().dropped_by, ["inet admin forward"]);
    assert_eq!(host.shell("nft list chain inet admin forward").matches("caisson caisson_test").count(), 1);
    host.run(|| firewall.delete(TABLE)).unwrap();
    let mut firewall = firewall.without_ownership();
    host.run(|| firewall.apply(&ruleset(FirewallMode::Open))).unwrap();
    host.shell(&format!("nft delete table inet {TABLE}"));
    while watch.wait().unwrap() != Change::Ours {}
}

#[test]
fn legacy_chains_that_drop_are_named() {
    let (host, mut firewall) = alone();
    if !std::path::Path::new("/proc/net/ip_tables_names").exists() {
        return;
    }
    assert_eq!(
        host.run(|| firewall.apply(&ruleset(FirewallMode::Open)).unwrap()).legacy_dropped_by,
        Vec::<String>::new()
    );
    host.shell("iptables-legacy -A FORWARD -i elsewhere -j ACCEPT; ip6tables-legacy -P FORWARD DROP");
    let report = host.run(|| firewall.apply(&ruleset(FirewallMode::Open)).unwrap());
    assert_eq!(report.legacy_dropped_by, ["ip6tables-legacy filter FORWARD"]);
    host.shell("iptables-legacy -P FORWARD DROP; ip6tables-legacy -P FORWARD ACCEPT");
    let report = host.run(|| firewall.apply(&ruleset(FirewallMode::Open)).unwrap());
    assert_eq!(report.legacy_dropped_by, ["iptables-legacy filter FORWARD"]);
}

#[test]
fn beside_foreign_chains_that_drop() {
    let mut world = World::new();
    world.host.shell(
        "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP
         nft 'add table inet admin; add chain inet admin forward { type filter hook forward priority 0; policy drop; }'
         nft 'add chain inet admin input { type filter hook input priority 0; policy drop; }'
         nft 'add rule inet admin input iifname lo accept; add rule inet admin input ct state established accept; add rule inet admin input meta l4proto icmpv6 accept'
         iptables-nft -A FORWARD -i elsewhere -m conntrack --ctstate RELATED -j ACCEPT",
    );
    let before = world.host.shell("(iptables-save; ip6tables-save) | grep -v '^#'; nft list table inet admin");
    let mut report = world.apply(FirewallMode::Respect);
    report.dropped_by.sort();
    assert_eq!(report.dropped_by, ["inet admin forward", "ip filter FORWARD", "ip6 filter FORWARD"]);
    assert_eq!(world.host.shell("(iptables-save; ip6tables-save) | grep -v '^#'; nft list table inet admin"), before);
    world.check("respect", Closed);
    for _ in 0..2 {
        let report = world.apply(FirewallMode::Open);
        assert_eq!(report.dropped_by.len(), 3);
    }
    // The rule is of iptables' own kind: it refuses a table with others.
    let listed = world.host.shell("iptables -S FORWARD");
    assert_eq!(listed.matches("-m mark --mark 0x1000000/0x1000000").count(), 1, "{listed}");
    world.check("open", Open);
    let firewall = world.firewall.as_mut().unwrap();
    world.host.run(|| firewall.delete(TABLE)).unwrap();
    assert_eq!(world.host.shell("(iptables-save; ip6tables-save) | grep -v '^#'; nft list table inet admin"), before);
}

#[test]
fn dockers_chain_takes_the_rules() {
    let (host, mut firewall) = alone();
    host.shell("iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER");
    firewall.apply(&ruleset(FirewallMode::Open)).unwrap();
    let listed = host.shell("iptables -S");
    assert!(listed.contains("-A DOCKER-USER -m mark") && !listed.contains("-A FORWARD -m"), "{listed}");
    firewall.apply(&ruleset(FirewallMode::Respect)).unwrap();
    assert!(!host.shell("iptables -S").contains("caisson"));
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
    host.run(|| firewall.delete(TABLE)).unwrap();
    host.run(|| firewall.delete(TABLE)).unwrap();
    assert_eq!(host.shell("nft list ruleset"), "");
}

#[test]
fn the_host_does_not_become_a_router() {
    let mut world = World::new();
    let server = Node::new();
    cable("far", (&world.host, "10.20.0.1/24"), (&server, "10.20.0.2/24"));
    assert_eq!(world.host.shell("cat /proc/sys/net/ipv6/conf/lana/accept_ra"), "2\n");
    server.shell(
        "ip route add default via 10.20.0.1; echo 0 > /proc/sys/net/ipv6/conf/farb/disable_ipv6
         ip addr add fd00:20::2/64 dev farb nodad; ip route add default via fd00:20::1",
    );
    world.host.shell("echo 0 > /proc/sys/net/ipv6/conf/fara/disable_ipv6; ip addr add fd00:20::1/64 dev fara nodad");
    server.serve(80);
    world.apply(FirewallMode::Open);
    assert_eq!(world.neighbour.connect("10.20.0.2:80"), Open, "forwarding was on already");
    world.firewall.as_mut().unwrap().drop_foreign(Family::V4);
    world.apply(FirewallMode::Open);
    assert_eq!(world.neighbour.connect("10.20.0.2:80"), Closed);
    assert_eq!(world.neighbour.connect("[fd00:20::2]:80"), Open, "of IPv6 forwarding was on already");
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

/// To look for flows takes the kernel milliseconds: it is asked for them only where a port let some in.
#[test]
fn flows_are_looked_for_where_a_port_was_used() {
    let mut world = World::new();
    world.apply(FirewallMode::Open);
    let server = world.target.run(|| UdpSocket::bind("0.0.0.0:53").unwrap());
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let udp = |port: u16| PublishedPort { proto: Proto::Udp, container_port: 53, ..published("0.0.0.0", port) };
    let send = |from: &Node, to: &str| {
        from.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).send_to(b"hello", to).unwrap();
        server.recv(&mut [0; 8]).unwrap_or_else(|error| panic!("{to} got nothing: {error}"));
    };
    let flows = |world: &World| world.host.shell("cat /proc/sys/net/netfilter/nf_conntrack_count").trim().to_owned();
    let reached =
        |world: &World| world.host.shell(&format!("nft list set inet {TABLE} reached")).contains("172.30.0.2");
    let mut held = world.firewall.take().unwrap();
    assert!(reached(&world), "ports that were there before the table");
    held.remove_ports(TABLE, &ports()).unwrap();
    assert!(!reached(&world));
    // What the host sends there itself came by no port.
    held.add_ports(TABLE, &[udp(5300), udp(5301)]).unwrap();
    send(&world.host, "172.30.0.2:53");
    held.remove_ports(TABLE, &[udp(5300)]).unwrap();
    assert_eq!((reached(&world), flows(&world).as_str()), (false, "1"));
    // Others may translate too; and a flow that is left is not missed when its turn comes.
    world.host.shell("iptables -t nat -A POSTROUTING -o br0 -j MASQUERADE");
    held.add_ports(TABLE, &[PublishedPort { container_port: 54, ..udp(5302) }]).unwrap();
    send(&world.neighbour, "192.0.2.1:5301");
    held.remove_ports(TABLE, &[PublishedPort { container_port: 54, ..udp(5302) }]).unwrap();
    assert_eq!((reached(&world), flows(&world).as_str()), (true, "2"));
    held.remove_ports(TABLE, &[udp(5301)]).unwrap();
    assert_eq!((reached(&world), flows(&world).as_str()), (false, "0"));
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
