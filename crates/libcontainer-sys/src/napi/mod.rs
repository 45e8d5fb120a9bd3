//! Adapters for Node: convert, call, convert. `ts/engine/native/index.ts` is the contract.

pub mod layer;
mod promise;
