//! What a container is to the kernel.
//!
//! Import direction: `napi` → topic modules → `sys`, never upward. `shim`, `init` and `runtime` never use `napi`.

pub mod cgroup;
mod clock;
pub mod container;
pub mod failure;
mod hooks;
pub mod host;
mod init;
mod resctrl;
mod rootfs;
pub mod runtime;
pub mod seccomp;
pub mod shim;
pub mod spec;

#[cfg(feature = "layer")]
pub mod layer;

#[cfg(feature = "layer")]
pub mod logs;

#[cfg(feature = "napi")]
pub mod napi;

#[cfg(feature = "napi")]
pub mod supervisor;

pub mod sys;
mod user_namespace;
