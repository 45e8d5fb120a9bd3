//! Promises that are settled by threads of our own: libuv's pool has four and is shared with everything else in Node.
//!
//! Each resolves to a `NativeResult`, `{ ok }` or `{ error }`; none is ever rejected.

use napi::bindgen_prelude::Object;
use napi::{Env, JsDeferred};
use serde_json::{Value, json};

use crate::failure::Failure;

type Resolver = Box<dyn FnOnce(Env) -> napi::Result<Value> + Send>;

/// The other end of a promise.
pub(super) struct Settle(JsDeferred<Value, Resolver>);

impl Settle {
    /// From any thread.
    pub(super) fn with<T: serde::Serialize>(self, result: Result<T, Failure>) {
        let answer = match result {
            Ok(value) => json!({ "ok": value }),
            Err(failure) => json!({ "error": failure }),
        };
        self.0.resolve(Box::new(move |_| Ok(answer)));
    }
}

pub(super) fn promise(env: &Env) -> napi::Result<(Settle, Object<'_>)> {
    let (deferred, promise) = env.create_deferred()?;
    Ok((Settle(deferred), promise))
}

/// Runs `work` on a thread of its own.
pub(super) fn on_thread<'env, T, W>(env: &'env Env, name: &'static str, work: W) -> napi::Result<Object<'env>>
where
    T: serde::Serialize,
    W: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    let (settle, promise) = promise(env)?;
    std::thread::Builder::new().name(name.into()).spawn(move || settle.with(work()))?;
    Ok(promise)
}
