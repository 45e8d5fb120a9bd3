//! `dupFd` and `closeFd`.

use crate::failure::reason;
use crate::sys::descriptor;
use napi_derive::napi;
use std::os::fd::{IntoRawFd, OwnedFd};

/// Takes over a descriptor that JavaScript has given away.
pub(super) fn take(fd: i32) -> OwnedFd {
    descriptor::take(fd)
}

#[napi]
pub fn dup_fd(fd: i32) -> napi::Result<i32> {
    let copy = descriptor::duplicate(fd)
        .map_err(|error| napi::Error::from_reason(format!("dup of descriptor {fd}: {}", reason(&error))))?;
    Ok(copy.into_raw_fd())
}

#[napi]
pub fn close_fd(fd: i32) {
    drop(take(fd));
}
