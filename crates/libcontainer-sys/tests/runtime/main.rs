//! caisson-runtime on the real kernel, as root, with busybox bundles.

mod attacks;
mod bad_config;
mod bundle;
#[path = "../config/mod.rs"]
mod config;
mod hooks;
mod joiner;
mod lifecycle;
mod mounts;
mod process;
mod seccomp;
mod user_namespace;
