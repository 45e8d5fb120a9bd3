//! Limits of the host that many containers on one network meet. They are raised once a bridge has that many ports, and left
//! alone where they are higher already. Another network namespace than the first has none of its own and shows none.

use std::fs;

/// Ports from which on a bridge counts as large. What is sent to everybody waits once for each port in a processor's queue,
/// which holds 1,000 by default; what comes behind it is lost, the answer to an ARP request first of all.
const LARGE: u16 = 480;

const LEAST: [(&str, u32); 3] = [
    ("/proc/sys/net/core/netdev_max_backlog", 16 * 1024),
    // Of all network namespaces together: each container knows its gateway, and the host each container.
    ("/proc/sys/net/ipv4/neigh/default/gc_thresh3", 16 * 1024),
    ("/proc/sys/net/ipv6/neigh/default/gc_thresh3", 16 * 1024),
];

/// To be called with the number of each port that is made: the lowest that is free is given to it.
pub fn raise(port: u16) {
    if port < LARGE {
        return;
    }
    for (path, least) in LEAST {
        let present = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok());
        if present.is_some_and(|present| present < least) {
            // As with the limits of before, the network works for all but what is sent to everybody.
            let _ = fs::write(path, least.to_string());
        }
    }
}
