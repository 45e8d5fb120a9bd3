//! Netlink: one socket layer, links and addresses, nftables.
