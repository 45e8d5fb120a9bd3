//! `dupFd`, `closeFd`, `pipe`, `socketPair` and `connectDatagram`.

use super::promise::on_thread;
use crate::failure::{Context, reason};
use crate::sys::inherit;
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

fn failed(what: &str, fd: i32, error: &io::Error) -> napi::Error {
    napi::Error::from_reason(format!("{what} of descriptor {fd}: {}", reason(error)))
}

#[napi]
pub fn dup_fd(fd: i32) -> napi::Result<i32> {
    inherit::duplicate(fd).map(IntoRawFd::into_raw_fd).map_err(|error| failed("dup", fd, &error))
}

#[napi]
pub fn close_fd(fd: i32) -> napi::Result<()> {
    inherit::take(fd).map(drop).map_err(|error| failed("close", fd, &error))
}

/// Close-on-exec; the reading end first.
#[napi]
pub fn pipe() -> napi::Result<Vec<i32>> {
    let (reader, writer) = io::pipe().map_err(|error| napi::Error::from_reason(format!("pipe: {}", reason(&error))))?;
    Ok(vec![reader.into_raw_fd(), writer.into_raw_fd()])
}

/// A connected pair of stream sockets, close-on-exec: for a client whose bytes Node has to translate.
#[napi]
pub fn socket_pair() -> napi::Result<Vec<i32>> {
    let (one, other) =
        UnixStream::pair().map_err(|error| napi::Error::from_reason(format!("socketpair: {}", reason(&error))))?;
    Ok(vec![one.into_raw_fd(), other.into_raw_fd()])
}

/// A non-blocking unix datagram socket, which Node has none of.
#[napi(ts_return_type = "Promise<object>")]
pub fn connect_datagram(env: &Env, path: String) -> napi::Result<Object<'_>> {
    on_thread(env, "datagram", move || {
        let socket = UnixDatagram::unbound().context("socket", &path)?;
        socket.connect(&path).context("connect", &path)?;
        socket.set_nonblocking(true).context("fcntl", &path)?;
        Ok(socket.into_raw_fd())
    })
}
