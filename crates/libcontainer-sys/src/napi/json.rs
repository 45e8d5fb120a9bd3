//! Objects of JS as JSON: types are defined once, by serde. By JSON.stringify, because it leaves out what is undefined and
//! writes whole numbers as such, and because it is one call and not one for each property.

use napi::Env;
use napi::bindgen_prelude::{Function, JsObjectValue, Object};
use serde_json::Value;

pub(super) fn to_value<'env>(env: &'env Env, object: Object<'env>) -> napi::Result<Value> {
    let text = stringify(env, object)?;
    serde_json::from_str(&text).map_err(|error| napi::Error::from_reason(error.to_string()))
}

/// For what is long, and read by a thread of its own.
pub(super) fn stringify<'env>(env: &'env Env, object: Object<'env>) -> napi::Result<String> {
    let json: Object = env.get_global()?.get_named_property("JSON")?;
    json.get_named_property::<Function<Object, String>>("stringify")?.call(object)
}
