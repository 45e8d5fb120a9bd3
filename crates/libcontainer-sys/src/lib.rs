//! What a container is to the kernel.
//!
//! Import direction: `napi` → topic modules → `sys`, never upward. `shim`, `init` and `runtime` never use `napi`.

#[cfg(feature = "layer")]
pub mod layer;

#[cfg(feature = "napi")]
pub mod napi;

mod sys;
