//! caisson-runtime on the real kernel, as root, with busybox bundles.

mod attacks;
mod bad_config;
mod bundle;
mod cgroups;
#[path = "../config/mod.rs"]
mod config;
#[cfg(target_arch = "x86_64")]
mod faults;
mod hooks;
mod joiner;
mod lifecycle;
mod mounts;
mod net_devices;
mod process;
mod seccomp;
mod systemd;
#[cfg(target_arch = "x86_64")]
mod tracer;
mod user_namespace;
mod user_systemd;
