//! `statArchive`, `readArchive`, `writeArchive`, `isArchive`, `checkUser`, `listChanges`.

use std::path::PathBuf;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use serde::Deserialize;
use serde_json::Value;

use super::promise::on_thread;
use crate::failure::Context;
use crate::layer::archive::{self, ReadOptions, ViewOptions, WriteOptions};
use crate::sys::inherit;

#[napi(ts_return_type = "Promise<object>")]
pub fn stat_archive(env: &Env, view: Value, path: String) -> napi::Result<Object<'_>> {
    let view: ViewOptions = serde_json::from_value(view)?;
    on_thread(env, "archive", move || archive::stat(&view, &path))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn read_archive(env: &Env, view: Value, path: String, options: Value, fd: i32) -> napi::Result<Object<'_>> {
    let output = inherit::take(fd).context("take", format!("descriptor {fd}"));
    let (view, options): (ViewOptions, ReadOptions) = (serde_json::from_value(view)?, serde_json::from_value(options)?);
    on_thread(env, "archive", move || archive::read(&view, &path, &options, output?))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn write_archive(env: &Env, view: Value, path: String, options: Value, fd: i32) -> napi::Result<Object<'_>> {
    let input = inherit::take(fd).context("take", format!("descriptor {fd}"));
    let (view, options): (ViewOptions, WriteOptions) =
        (serde_json::from_value(view)?, serde_json::from_value(options)?);
    on_thread(env, "archive", move || archive::write(&view, &path, &options, input?))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn is_archive(env: &Env, path: String) -> napi::Result<Object<'_>> {
    on_thread(env, "archive", move || archive::is_archive(&path))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn check_user(env: &Env, view: Value, user: String) -> napi::Result<Object<'_>> {
    let view: ViewOptions = serde_json::from_value(view)?;
    on_thread(env, "archive", move || archive::check_user(&view, &user))
}

#[derive(Deserialize)]
struct ChangesOptions {
    upper: PathBuf,
    lower: Vec<PathBuf>,
}

#[napi(ts_return_type = "Promise<object>")]
pub fn list_changes(env: &Env, options: Value) -> napi::Result<Object<'_>> {
    let options: ChangesOptions = serde_json::from_value(options)?;
    on_thread(env, "changes", move || archive::changes(&options.upper, &options.lower))
}
