//! `serveLog` and `endLog`.

use super::promise::on_thread;
use crate::logs::{Client, LogRequest, Stop, serve};
use crate::sys::inherit;
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

#[derive(Deserialize)]
struct Serving {
    handle: u32,
    fd: i32,
    head: String,
    chunked: bool,
    #[serde(flatten)]
    request: LogRequest,
}

/// By handle: how to tell a served log that no more will come.
static SERVED: LazyLock<Mutex<HashMap<u32, Stop>>> = LazyLock::new(Mutex::default);

#[napi(ts_return_type = "Promise<object>")]
pub fn serve_log(env: &Env, request: Value) -> napi::Result<Object<'_>> {
    let serving: Serving = serde_json::from_value(request)?;
    let client = Client { fd: inherit::take(serving.fd)?, head: serving.head };
    let stop = Stop::new().map_err(|failure| napi::Error::from_reason(failure.message))?;
    // registered before the thread runs: endLog may come at once
    SERVED.lock().unwrap_or_else(PoisonError::into_inner).insert(serving.handle, stop.clone());
    on_thread(env, "serve-log", move || {
        let result = serve(&serving.request, client, serving.chunked, &stop);
        SERVED.lock().unwrap_or_else(PoisonError::into_inner).remove(&serving.handle);
        result
    })
}

#[napi]
pub fn end_log(handle: u32) {
    if let Some(stop) = SERVED.lock().unwrap_or_else(PoisonError::into_inner).get(&handle) {
        stop.set();
    }
}
