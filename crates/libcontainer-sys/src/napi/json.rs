//! Objects of JS as JSON: types are defined once, by serde. By JSON.stringify, because it leaves out what is undefined and
//! writes whole numbers as such, and because it is one call and not one for each property.

use napi::Env;
use napi::bindgen_prelude::{Function, JsObjectValue, Object};
use serde_json::Value;

pub(super) fn stringify<'env>(env: &'env Env, object: Object<'env>) -> napi::Result<Value> {
    let json: Object = env.get_global()?.get_named_property("JSON")?;
    let stringify: Function<Object, String> = json.get_named_property("stringify")?;
    let text = stringify.call(object)?;
    serde_json::from_str(&text).map_err(|error| napi::Error::from_reason(error.to_string()))
}
