//! One layer being applied: its threads, its failure, its end.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, ScopedJoinHandle};

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchmod, fchown, mkdirat, openat, syncfs};
use rustix::io::Errno;

use super::chunks::{self, ChunkSender};
use super::digest::Hasher;
use super::error::{LayerError, Result, corrupt, system};
use super::input::{Input, OnRoom, Popped};
use super::kept::{Keep, Keeper, KeptBlob};
use super::remove::remove_tree;
use super::{extract, inflate};

#[derive(Debug, Clone, Default)]
pub struct LayerOptions {
    /// Must not exist.
    pub target_dir: PathBuf,
    /// A new file for the layer as it comes. It is needed until the end, and stays as `keep` says.
    pub blob_path: Option<PathBuf>,
    pub keep: Keep,
    /// Writes the layer's recipe to a new file, if it has one (`recipe`).
    pub recipe_path: Option<PathBuf>,
    pub expected_digest: Option<String>,
    pub expected_size: Option<u64>,
    pub expected_diff_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedLayer {
    pub digest: String,
    pub size_bytes: u64,
    pub diff_id: String,
    /// Sum of the regular files' sizes.
    pub unpacked_bytes: u64,
    pub entries: u64,
    /// What `blob_path` holds; none when it was not kept.
    pub blob: Option<KeptBlob>,
    /// Whether `recipe_path` holds what makes the archive again.
    pub recipe: bool,
}

type OnEnd = Box<dyn FnOnce(Result<AppliedLayer>) + Send>;

enum Outcome {
    Running(Vec<OnEnd>),
    Done(Result<AppliedLayer>),
}

struct Shared {
    input: Input,
    /// `end` was called: the layer is finished whether its handle lives or not.
    ended: AtomicBool,
    cancelled: Arc<AtomicBool>,
    outcome: Mutex<Outcome>,
    target: PathBuf,
}

/// A handle; dropping it before `end` aborts.
pub struct Layer(Arc<Shared>);

impl Layer {
    /// Starts the threads. A failure to do so is told by `write` and `end`.
    pub fn open(options: LayerOptions) -> Self {
        let shared = Arc::new(Shared {
            input: Input::default(),
            ended: AtomicBool::new(false),
            cancelled: Arc::default(),
            outcome: Mutex::new(Outcome::Running(Vec::new())),
            target: options.target_dir.clone(),
        });
        let owned = shared.clone();
        let started = Builder::new().name("layer".into()).spawn(move || {
            let run = || supervise(&owned, &options);
            let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(panicked(&options.target_dir)));
            if let Err(error) = &result {
                owned.input.close(error.clone());
            }
            owned.finish(result);
        });
        if let Err(error) = started {
            let error = thread_error(&error, &shared.target);
            shared.input.close(error.clone());
            shared.finish(Err(error));
        }
        Self(shared)
    }

    /// Takes the bytes at once; `on_room` is called (from any thread) when more may come, or with the failure.
    pub fn write(&self, chunk: Vec<u8>, on_room: OnRoom) {
        self.0.input.push(chunk, on_room);
    }

    /// No more bytes. `on_end` is called when all is on the disk, or when nothing of it is left.
    pub fn end(&self, on_end: OnEnd) {
        self.0.ended.store(true, Ordering::Relaxed);
        self.0.input.end();
        self.0.when_done(on_end);
    }

    /// Stops and removes what was made. After a successful end nothing is undone: the directory is the caller's then.
    pub fn abort(&self, on_end: OnEnd) {
        self.0.cancel();
        self.0.when_done(on_end);
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        if !self.0.ended.load(Ordering::Relaxed) {
            self.0.cancel();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.input.close(LayerError::Cancelled { path: self.target.display().to_string() });
    }

    fn when_done(&self, on_end: OnEnd) {
        let result = match &mut *self.lock() {
            Outcome::Running(waiting) => {
                waiting.push(on_end);
                return;
            }
            Outcome::Done(result) => result.clone(),
        };
        on_end(result);
    }

    fn finish(&self, result: Result<AppliedLayer>) {
        let previous = std::mem::replace(&mut *self.lock(), Outcome::Done(result.clone()));
        if let Outcome::Running(waiting) = previous {
            for on_end in waiting {
                on_end(result.clone());
            }
        }
    }
}

fn panicked(target: &Path) -> LayerError {
    system("apply (a thread panicked)", target.as_os_str().as_bytes())(Errno::IO)
}

fn thread_error(error: &std::io::Error, target: &Path) -> LayerError {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::AGAIN);
    system("start a thread for", target.as_os_str().as_bytes())(errno)
}

fn supervise(shared: &Shared, options: &LayerOptions) -> Result<AppliedLayer> {
    let target = options.target_dir.as_path();
    let root = make_target(target)?;
    let blob = make_blob(options).inspect_err(|_| undo(target, &[]))?;
    apply(shared, options, root, blob).map_err(|error| {
        undo(target, &[&options.blob_path, &options.recipe_path]);
        explain(error, options)
    })
}

/// The reason of a failure counts, not that of an unfinished clean-up; the engine removes what is left below its own
/// directories at its next start.
fn undo(target: &Path, files: &[&Option<PathBuf>]) {
    let _ = remove_tree(target);
    for file in files.iter().copied().flatten() {
        let _ = std::fs::remove_file(file);
    }
}

fn explain(error: LayerError, options: &LayerOptions) -> LayerError {
    match error {
        LayerError::Stopped { .. } => LayerError::Cancelled { path: options.target_dir.display().to_string() },
        LayerError::Corrupt { op, path, reason } => {
            let layer = label(options);
            let reason = if path == layer { reason } else { format!("{reason} (in layer {layer})") };
            LayerError::Corrupt { op, path, reason }
        }
        other => other,
    }
}

/// How messages name the layer.
fn label(options: &LayerOptions) -> String {
    options.expected_digest.clone().unwrap_or_else(|| options.target_dir.display().to_string())
}

fn make_target(target: &Path) -> Result<OwnedFd> {
    let path = target.as_os_str().as_bytes();
    mkdirat(CWD, target, Mode::RWXU).map_err(system("mkdir", path))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || {
        let root = openat(CWD, target, flags, Mode::empty())?;
        // A setgid parent would be inherited by all below.
        fchown(&root, Some(Uid::ROOT), Some(Gid::ROOT))?;
        fchmod(&root, Mode::RWXU)?;
        Ok(root)
    };
    open().map_err(|errno| {
        let _ = remove_tree(target);
        system("prepare", path)(errno)
    })
}

fn make_blob(options: &LayerOptions) -> Result<Option<Keeper>> {
    options.blob_path.as_deref().map(|path| Keeper::create(path, options.keep)).transpose()
}

fn apply(shared: &Shared, options: &LayerOptions, root: OwnedFd, blob: Option<Keeper>) -> Result<AppliedLayer> {
    let layer = label(options);
    let target = options.target_dir.as_path();
    let sync_fd = root.try_clone().map_err(|error| thread_error(&error, target))?;
    let (raw_in, raw_out) = chunks::channel(shared.cancelled.clone());
    let (tar_in, tar_out) = chunks::channel(shared.cancelled.clone());
    let (received, inflated, totals) = thread::scope(|scope| {
        let spawn_failed = |error| thread_error(&error, target);
        let layer = layer.as_str();
        let receiver = Builder::new()
            .name("layer-receive".into())
            .spawn_scoped(scope, move || receive(shared, options, raw_in, blob))
            .map_err(spawn_failed)?;
        let inflater = Builder::new()
            .name("layer-inflate".into())
            .spawn_scoped(scope, move || inflate::run(raw_out, tar_in, layer))
            .map_err(|error| {
                let error = spawn_failed(error);
                shared.input.close(error.clone());
                error
            })?;
        let extracted = extract::run(tar_out, root, layer, &shared.cancelled, options.recipe_path.as_deref());
        // A failure here leaves the others waiting for input; one further up has already reached this thread.
        if let Err(error) = &extracted
            && !matches!(error, LayerError::Stopped { .. })
        {
            shared.input.close(error.clone());
        }
        let inflated = join(inflater, target);
        if let Err(error) = &inflated
            && !matches!(error, LayerError::Stopped { .. })
        {
            shared.input.close(error.clone());
        }
        let received = join(receiver, target);
        first_failure(received, inflated, extracted)
    })?;
    let diff_id = inflated.unwrap_or_else(|| received.digest.clone());
    if let Some(expected) = &options.expected_diff_id
        && *expected != diff_id
    {
        let reason = format!("its uncompressed content has the digest {diff_id} and should have {expected}");
        return Err(corrupt("verify", layer.as_bytes(), reason));
    }
    if shared.cancelled.load(Ordering::Relaxed) {
        return Err(LayerError::Stopped { path: layer });
    }
    let Received { digest, size_bytes, blob } = received;
    let extract::Totals { bytes: unpacked_bytes, entries, recipe } = totals;
    let blob = blob.map(|blob| blob.finish(&digest, size_bytes, recipe)).transpose()?.flatten();
    // One sync for all files instead of one for each; the engine's rename into place comes after it.
    syncfs(&sync_fd).map_err(system("sync", target.as_os_str().as_bytes()))?;
    Ok(AppliedLayer { digest, size_bytes, diff_id, unpacked_bytes, entries, blob, recipe })
}

fn join<T>(handle: ScopedJoinHandle<'_, Result<T>>, target: &Path) -> Result<T> {
    handle.join().unwrap_or_else(|_| Err(panicked(target)))
}

/// What the first stage knows.
struct Received {
    digest: String,
    size_bytes: u64,
    blob: Option<Keeper>,
}

type Stages = (Received, Option<String>, extract::Totals);

/// The failure nearest to the input is the cause; `Stopped` is never a cause while another is there.
fn first_failure(
    received: Result<Received>,
    inflated: Result<Option<String>>,
    extracted: Result<extract::Totals>,
) -> Result<Stages> {
    let stopped = |error: &LayerError| matches!(error, LayerError::Stopped { .. });
    match (received, inflated, extracted) {
        (Ok(received), Ok(inflated), Ok(totals)) => Ok((received, inflated, totals)),
        (received, inflated, extracted) => {
            let errors: Vec<_> = [received.err(), inflated.err(), extracted.err()].into_iter().flatten().collect();
            let cause = errors.iter().find(|error| !stopped(error)).unwrap_or(&errors[0]);
            Err(cause.clone())
        }
    }
}

/// The stage at the input: digest and size of what came, and the blob.
fn receive(shared: &Shared, options: &LayerOptions, sink: ChunkSender, mut blob: Option<Keeper>) -> Result<Received> {
    let layer = label(options);
    let stopped = || LayerError::Stopped { path: layer.clone() };
    let mut hasher = Hasher::new();
    let mut size = 0u64;
    loop {
        let chunk = match shared.input.pop() {
            Popped::Chunk(chunk) => chunk,
            Popped::End => break,
            Popped::Closed => return Err(stopped()),
        };
        if chunk.is_empty() {
            continue;
        }
        size += chunk.len() as u64;
        if let Some(expected) = options.expected_size
            && size > expected
        {
            return Err(corrupt("verify", layer.as_bytes(), format!("more than its {expected} bytes came")));
        }
        hasher.update(&chunk);
        if let Some(blob) = &mut blob {
            blob.write(&chunk)?;
        }
        let len = chunk.len();
        sink.send(chunk, len).map_err(|_| stopped())?;
    }
    let digest = hasher.finish();
    if let Some(expected) = options.expected_size
        && size != expected
    {
        let reason = format!("{size} bytes came and it should have {expected}");
        return Err(corrupt("verify", layer.as_bytes(), reason));
    }
    if let Some(expected) = &options.expected_digest
        && *expected != digest
    {
        return Err(corrupt("verify", layer.as_bytes(), format!("its content has the digest {digest}")));
    }
    sink.end().map_err(|_| stopped())?;
    Ok(Received { digest, size_bytes: size, blob })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::testing::Scratch;
    use std::sync::mpsc::channel;

    /// The outcome, and whether the directory is there, of an empty layer whose handle goes away.
    fn dropped(ended: bool) -> (Result<AppliedLayer>, bool) {
        let scratch = Scratch::new("drop");
        let target = scratch.path("layer");
        let layer = Layer::open(LayerOptions { target_dir: target.clone(), ..LayerOptions::default() });
        let shared = layer.0.clone();
        if ended {
            layer.end(Box::new(|_| {}));
        }
        drop(layer);
        let (done, wait) = channel();
        shared.when_done(Box::new(move |result| done.send(result).unwrap()));
        (wait.recv().unwrap(), target.exists())
    }

    #[test]
    fn a_layer_dropped_before_its_end_is_aborted() {
        assert!(matches!(dropped(false), (Err(LayerError::Cancelled { .. }), false)));
    }

    #[test]
    fn a_layer_dropped_behind_its_end_is_finished() {
        assert!(matches!(dropped(true), (Ok(_), true)));
    }
}
