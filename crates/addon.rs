//! The addon: every workspace member whose napi exports belong in the one `.node` file.
//! A member that is not named here is dropped by the linker without a word (`__test__/root/addon.spec.ts` notices).

pub use libcontainer_sys;
pub use netlink;
