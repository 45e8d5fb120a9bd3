//! The only unsafe code of the crate, one family of system calls a file.

#[cfg(feature = "layer")]
pub mod private_mounts;
