//! nftables, spoken to the kernel directly: no program is started and no list is rewritten.

mod abi;
mod batch;
mod bridges;
mod claim;
mod conntrack;
mod elements;
mod expr;
pub mod firewall;
mod foreign;
mod legacy;
mod lock;
mod reached;
pub mod resolver;
pub mod ruleset;
pub mod watch;
