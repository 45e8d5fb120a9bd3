//! Network devices of the host that a container takes over.

use super::bundle::{Bundle, able, text};
use serde_json::json;
use std::process::Command;

/// A pair of devices in this namespace, gone with the value.
struct Pair {
    given: String,
    stays: String,
}

impl Pair {
    fn new() -> Pair {
        let pair = Pair { given: format!("nd{}", std::process::id()), stays: format!("ns{}", std::process::id()) };
        ip(&["link", "add", &pair.given, "mtu", "1400", "type", "veth", "peer", "name", &pair.stays]);
        ip(&["link", "set", &pair.given, "address", "02:00:5e:10:00:07", "up"]);
        for (address, scope) in [("192.0.2.7/24", "global"), ("192.0.2.8/32", "host"), ("2001:db8::7/64", "global")] {
            ip(&["address", "add", address, "dev", &pair.given, "scope", scope]);
        }
        pair
    }

    /// Of this namespace.
    fn here(&self) -> String {
        text(&Command::new("ip").args(["address", "show", "dev", &self.given]).output().unwrap().stdout)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.stays]).output();
    }
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().unwrap();
    assert!(output.status.success(), "ip {words:?}: {}", text(&output.stderr));
}

#[test]
fn a_device_of_the_host_goes_over_with_what_is_its_own() {
    if !able() {
        return;
    }
    let pair = Pair::new();
    let mut bundle = Bundle::shell("netdev", "/bin/busybox ip address show dev eth9");
    // taken there: the device is as it was
    bundle.config["linux"]["netDevices"] = json!({&pair.given: {"name": "lo"}});
    let (before, message) = (pair.here(), bundle.refusal());
    assert!(message.contains(&format!("/linux/netDevices/{}", pair.given)), "{message}");
    assert!(message.contains("has a device 'lo' already"), "{message}");
    assert_eq!(pair.here(), before);

    bundle.config["linux"]["netDevices"] = json!({&pair.given: {"name": "eth9"}});
    let shown = bundle.output();
    for part in ["mtu 1400", ",UP", "02:00:5e:10:00:07", "192.0.2.7/24", "2001:db8::7/64 scope global"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("192.0.2.8"), "{shown}");
    assert_eq!(pair.here(), "");
    bundle.assert_nothing_left();
}

#[test]
fn what_cannot_go_over_is_named() {
    if !able() {
        return;
    }
    for (devices, wants) in [
        (json!({"nd-absent": {}}), "/linux/netDevices/nd-absent: move network device 'nd-absent': No such device"),
        (json!({"a/b": {}}), "/linux/netDevices/a~1b: \"a/b\" is not a name"),
        (
            json!({"eth9": {"name": "sixteen-letters-"}}),
            "/linux/netDevices/eth9/name: \"sixteen-letters-\" is not a name",
        ),
    ] {
        let mut bundle = Bundle::new("netdev-wrong");
        bundle.config["linux"]["netDevices"] = devices;
        let message = bundle.refusal();
        assert!(message.contains(wants), "{message}");
    }
    let mut bundle = Bundle::new("netdev-host");
    bundle.config["linux"]["netDevices"] = json!({"eth9": {}});
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "network");
    let message = bundle.refusal();
    assert!(message.contains("/linux/netDevices: needs a network namespace"), "{message}");
}
