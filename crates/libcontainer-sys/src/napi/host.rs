//! `probeHost`.

use super::promise::on_thread;
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;

#[napi(ts_return_type = "Promise<object>")]
pub fn probe_host(env: &Env) -> napi::Result<Object<'_>> {
    on_thread(env, "probe", || Ok(crate::host::probe()))
}
