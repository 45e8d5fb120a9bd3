//! `openLayer` and what else is done to trees.

use std::path::PathBuf;

use napi::Env;
use napi::bindgen_prelude::{Object, Uint8Array};
use napi_derive::napi;
use serde_json::{Value, json};

use super::promise::{on_thread, promise};
use crate::failure::Failure;
use crate::layer::{self, AppliedLayer, Keep, Layer, LayerError};
use crate::logs::Client;
use crate::sys::inherit;

#[napi(object)]
pub struct LayerOptions {
    pub target_dir: String,
    pub blob_path: Option<String>,
    pub keep: Option<String>,
    pub recipe_path: Option<String>,
    pub expected_digest: Option<String>,
    pub expected_size: Option<i64>,
    pub expected_diff_id: Option<String>,
}

impl TryFrom<LayerOptions> for layer::LayerOptions {
    type Error = napi::Error;

    fn try_from(options: LayerOptions) -> napi::Result<Self> {
        Ok(Self {
            target_dir: options.target_dir.into(),
            blob_path: options.blob_path.map(PathBuf::from),
            keep: match options.keep.as_deref() {
                None | Some("always") => Keep::Always,
                Some("compressed") => Keep::Compressed,
                Some("withoutRecipe") => Keep::WithoutRecipe,
                Some(other) => return Err(napi::Error::from_reason(format!("no such keep: {other}"))),
            },
            recipe_path: options.recipe_path.map(PathBuf::from),
            expected_digest: options.expected_digest,
            // A negative size is none that anything can have.
            expected_size: options.expected_size.map(|size| u64::try_from(size).unwrap_or(u64::MAX)),
            expected_diff_id: options.expected_diff_id,
        })
    }
}

fn applied(layer: &AppliedLayer) -> Value {
    json!({
        "digest": layer.digest,
        "sizeBytes": layer.size_bytes,
        "diffId": layer.diff_id,
        "unpackedBytes": layer.unpacked_bytes,
        "entries": layer.entries,
        "blob": layer.blob.as_ref().map(kept),
        "recipe": layer.recipe,
    })
}

fn kept(blob: &layer::KeptBlob) -> Value {
    json!({ "digest": blob.digest, "sizeBytes": blob.size_bytes, "compression": blob.compression.name() })
}

#[napi]
pub struct LayerSink(Layer);

#[napi]
impl LayerSink {
    #[napi(ts_return_type = "Promise<object>")]
    pub fn write<'env>(&self, env: &'env Env, chunk: Uint8Array) -> napi::Result<Object<'env>> {
        let (settle, promise) = promise(env)?;
        let on_room = move |result: Result<(), LayerError>| settle.with(result.map_err(Failure::from));
        self.0.write(chunk.to_vec(), Box::new(on_room));
        Ok(promise)
    }

    #[napi(ts_return_type = "Promise<object>")]
    pub fn end<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (settle, promise) = promise(env)?;
        let on_end = move |result: Result<AppliedLayer, LayerError>| {
            settle.with(result.as_ref().map(applied).map_err(|error| Failure::from(error.clone())));
        };
        self.0.end(Box::new(on_end));
        Ok(promise)
    }

    #[napi(ts_return_type = "Promise<object>")]
    pub fn abort<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (settle, promise) = promise(env)?;
        self.0.abort(Box::new(move |_| settle.with(Ok(()))));
        Ok(promise)
    }
}

#[napi]
pub fn open_layer(options: LayerOptions) -> napi::Result<LayerSink> {
    Ok(LayerSink(Layer::open(options.try_into()?)))
}

#[napi(object)]
pub struct RecreateOptions {
    pub directory: String,
    pub recipe: String,
    pub expected_diff_id: String,
}

impl From<RecreateOptions> for layer::RecreateOptions {
    fn from(RecreateOptions { directory, recipe, expected_diff_id }: RecreateOptions) -> Self {
        Self { directory: directory.into(), recipe: recipe.into(), expected_diff_id }
    }
}

#[napi(ts_return_type = "Promise<object>")]
pub fn recreate_layer(env: &Env, options: RecreateOptions, blob_path: String) -> napi::Result<Object<'_>> {
    let options = options.into();
    on_thread(env, "recreate-layer", move || Ok(kept(&layer::recreate(&options, blob_path.as_ref())?)))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn send_layer(env: &Env, options: RecreateOptions, fd: i32) -> napi::Result<Object<'_>> {
    let output = inherit::take(fd)?;
    let options = options.into();
    on_thread(env, "send-layer", move || Ok(layer::send_archive(&options, output)?))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn layer_archive_size(env: &Env, recipe: String) -> napi::Result<Object<'_>> {
    on_thread(env, "layer-archive-size", move || Ok(layer::archive_size(recipe.as_ref())?))
}

#[napi(object)]
pub struct PackOptions {
    pub upper: String,
    pub target_dir: String,
    pub blob_path: String,
    pub recipe_path: String,
}

#[napi(ts_return_type = "Promise<object>")]
pub fn pack_layer(env: &Env, options: PackOptions) -> napi::Result<Object<'_>> {
    let layer = layer::LayerOptions {
        target_dir: options.target_dir.into(),
        blob_path: Some(options.blob_path.into()),
        keep: Keep::WithoutRecipe,
        recipe_path: Some(options.recipe_path.into()),
        ..layer::LayerOptions::default()
    };
    let options = layer::PackOptions { upper: options.upper.into(), layer };
    on_thread(env, "pack-layer", move || Ok(applied(&layer::pack(&options)?)))
}

#[napi(object)]
pub struct ExportedProcess {
    pub pid: i32,
    pub start_time: i64,
    pub root: Option<String>,
}

#[napi(object)]
pub struct ExportOptions {
    pub process: Option<ExportedProcess>,
    pub layers: Vec<String>,
    pub fd: i32,
    pub head: String,
}

#[napi(ts_return_type = "Promise<object>")]
pub fn export_tree(env: &Env, options: ExportOptions) -> napi::Result<Object<'_>> {
    let client = Client { fd: inherit::take(options.fd)?, head: options.head };
    let layers: Vec<PathBuf> = options.layers.into_iter().map(PathBuf::from).collect();
    let process = options.process.map(|one| layer::archive::Process {
        pid: one.pid,
        start_time: one.start_time as u64,
        root: one.root,
    });
    on_thread(env, "export-tree", move || Ok(layer::export(process.as_ref(), &layers, client)?))
}

#[napi(object)]
pub struct CopyUpOptions {
    pub lower: Vec<String>,
    pub upper: Option<String>,
    pub source: String,
    pub target: String,
    pub subpath: String,
}

#[napi(ts_return_type = "Promise<object>")]
pub fn copy_up(env: &Env, options: CopyUpOptions) -> napi::Result<Object<'_>> {
    let options = layer::CopyUpOptions {
        lower: options.lower.into_iter().map(PathBuf::from).collect(),
        upper: options.upper.map(PathBuf::from),
        source: options.source.into(),
        target: options.target.into(),
        subpath: options.subpath,
    };
    on_thread(env, "copy-up", move || Ok(layer::copy_up(&options)?))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn finish_copy_up(env: &Env, target: String, subpath: String) -> napi::Result<Object<'_>> {
    on_thread(env, "copy-up", move || Ok(layer::finish_copy_up(target.as_ref(), &subpath)?))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn remove_tree(env: &Env, path: String) -> napi::Result<Object<'_>> {
    on_thread(env, "remove-tree", move || Ok(layer::remove_tree(path.as_ref())?))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn spread_trees(env: &Env, path: String) -> napi::Result<Object<'_>> {
    on_thread(env, "spread-trees", move || {
        layer::spread_trees(path.as_ref());
        Ok(())
    })
}

#[napi(ts_return_type = "Promise<object>")]
pub fn tree_size(env: &Env, path: String) -> napi::Result<Object<'_>> {
    on_thread(env, "tree-size", move || Ok(layer::tree_size(path.as_ref())?))
}

#[napi(ts_return_type = "Promise<object>")]
pub fn compare_trees(env: &Env, own: String, other: String) -> napi::Result<Object<'_>> {
    on_thread(env, "compare-trees", move || Ok(layer::first_difference(own.as_ref(), other.as_ref())?))
}
