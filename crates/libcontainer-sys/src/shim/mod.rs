//! The shim: one static, single-threaded process for each container. It builds the container, owns its streams, writes its
//! log, reaps it, keeps its exit status, runs its execs, and outlives the daemon.
//!
//! ```text
//! stateDir/            0700
//!   config.json        what to build (config.rs); written by the daemon
//!   shim.pid           {pid, startTime} of the shim and of the container's init
//!   shim.sock          SOCK_SEQPACKET (protocol.rs)
//!   exit.json          the exit status, complete or absent; written before anybody is told
//!   shim.err           what the shim itself had to complain about
//!   bundle/, runtime/  of a container that another OCI runtime builds (foreign/)
//! ```
//!
//! Until `start` the shim lives and dies with its bootstrap socket, descriptor 3: when the daemon goes, nothing is left.

pub mod bootstrap;
mod client;
pub mod config;
mod connection;
mod container;
mod exec;
pub mod exit;
mod foreign;
pub(crate) mod log;
mod ports;
pub mod process;
pub mod protocol;
mod server;
mod stdio;

pub use foreign::{INIT, run_as_init};
