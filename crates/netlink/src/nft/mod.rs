//! nftables, spoken to the kernel directly: no program is started and no list is rewritten.

mod abi;
mod batch;
mod conntrack;
mod elements;
mod expr;
pub mod firewall;
mod foreign;
pub mod ruleset;
