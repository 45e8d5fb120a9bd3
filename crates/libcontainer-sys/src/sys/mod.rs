//! The only place with `unsafe`: one family of system calls a file, each with a safe face. What rustix wraps is used from there.

pub mod bpf;
pub mod clone;
pub mod exec;
pub mod inherit;
pub mod mount;
pub mod prctl;
#[cfg(feature = "layer")]
pub mod private_mounts;
pub mod scheduling;
pub mod seccomp;
pub mod signal;
pub mod signalfd;
pub mod socket;
#[cfg(feature = "napi")]
pub mod spawn;
pub mod title;
#[cfg(all(panic = "abort", target_env = "musl"))]
mod unwind;
