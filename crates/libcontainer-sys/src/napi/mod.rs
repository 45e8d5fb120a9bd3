//! Adapters for Node: convert, call, convert. `ts/engine/native/index.ts` is the contract.

pub mod archive;
pub mod cgroup;
pub mod descriptors;
pub mod host;
mod json;
pub mod layer;
pub mod logs;
mod promise;
pub mod runtime;
