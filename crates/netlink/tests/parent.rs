//! Devices of the host that are made for networks without a bridge. Kernels that lack them say so.

mod world;

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use netlink::{ChildKind, ChildOptions, create_child, delete_own_link, ensure_parent};
use world::{Node, Seen};

fn child(parent: &str, kind: ChildKind, mode: &str, number: u8) -> ChildOptions {
    ChildOptions {
        kind,
        parent: parent.into(),
        mode: mode.into(),
        flag: String::new(),
        container_name: "eth0".into(),
        mac: format!("02:42:00:00:00:0{number}"),
        addresses: vec![format!("192.0.2.{number}/24")],
        gateways: Vec::new(),
        mtu: None,
        sysctls: BTreeMap::new(),
        advertise: None,
    }
}

/// Two containers on the device reach each other. False where the kernel lacks the driver.
fn joins(host: &Node, parent: &str, kind: ChildKind, mode: &str) -> bool {
    let (one, two) = (Node::new(), Node::new());
    for (node, number) in [(&one, 2), (&two, 3)] {
        match host.run(|| create_child(&child(parent, kind, mode, number), node.0.as_fd())) {
            Err(error) if error.kind() == "unsupported" => return false,
            result => result.unwrap(),
        }
    }
    one.serve(80);
    assert_eq!(two.connect("192.0.2.2:80"), Seen::Open, "{parent} {kind:?} {mode}");
    true
}

#[test]
fn a_dummy_joins_the_containers_of_a_network() {
    let host = Node::new();
    if let Err(error) = host.run(|| ensure_parent("dm-1", true)) {
        assert_eq!(error.to_string(), "create parent device 'dm-1': this kernel has no dummy devices");
        return;
    }
    host.run(|| ensure_parent("dm-1", true)).expect("it is there already");
    assert!(joins(&host, "dm-1", ChildKind::Macvlan, "bridge"));
    for mode in ["l2", "l3", "l3s"] {
        // A device has children of one driver and one mode.
        let name = format!("di-{mode}");
        host.run(|| ensure_parent(&name, true)).unwrap();
        joins(&host, &name, ChildKind::Ipvlan, mode);
    }
    host.run(|| delete_own_link("dm-1")).unwrap();
    assert!(!host.shell("ip -o link").contains("dm-1"));
}

#[test]
fn a_vlan_is_made_by_its_name() {
    let host = Node::new();
    host.shell("ip link add lan0 type veth peer lan1; ip link set lan0 up; ip link set lan1 up");
    match host.run(|| ensure_parent("lan0.7", false)) {
        Err(error) => assert_eq!(error.to_string(), "create parent device 'lan0.7': this kernel has no vlan devices"),
        Ok(()) => {
            assert!(host.shell("ip -d link show dev lan0.7").contains("id 7"));
            assert!(joins(&host, "lan0.7", ChildKind::Macvlan, "bridge"));
            host.run(|| delete_own_link("lan0.7")).unwrap();
            assert!(!host.shell("ip -o link").contains("lan0.7"));
        }
    }
    for (name, missing) in [("lan0.4095", "lan0.4095"), ("lan0.x", "lan0.x"), ("gone.7", "gone"), ("gone", "gone")] {
        let error = host.run(|| ensure_parent(name, false)).unwrap_err();
        assert_eq!((error.kind(), error.object()), ("notFound", missing));
    }
    host.run(|| ensure_parent("lan0", false)).unwrap();
    host.run(|| delete_own_link("lan0")).unwrap();
    assert!(host.shell("ip -o link").contains(" lan0@"), "what is the administrator's stays");
}
