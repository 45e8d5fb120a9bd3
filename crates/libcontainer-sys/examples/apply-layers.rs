//! Applies blobs of layers, all at once, and says how long it took:
//!
//! `cargo run --release --features layer --example apply-layers -- TARGET BLOB...`
//!
//! TARGET must not exist; the layers go to TARGET/0, TARGET/1, … in the order given.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Instant;

use libcontainer_sys::layer::{AppliedLayer, Layer, LayerError, LayerOptions};

fn feed(blob: &Path, target: PathBuf) -> Result<AppliedLayer, LayerError> {
    let layer = Layer::open(LayerOptions { target_dir: target, ..LayerOptions::default() });
    let mut file = std::fs::File::open(blob).expect("the blob cannot be opened");
    loop {
        let mut chunk = vec![0; 64 * 1024];
        let count = file.read(&mut chunk).expect("the blob cannot be read");
        if count == 0 {
            break;
        }
        chunk.truncate(count);
        let (room, wait) = channel();
        layer.write(chunk, Box::new(move |result| room.send(result).expect("nobody waits")));
        wait.recv().expect("the layer gave no answer")?;
    }
    let (done, wait) = channel();
    layer.end(Box::new(move |result| done.send(result).expect("nobody waits")));
    wait.recv().expect("the layer gave no answer")
}

fn main() {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let target = args.next().expect("usage: apply-layers TARGET BLOB...");
    std::fs::create_dir(&target).expect("TARGET cannot be made");
    let start = Instant::now();
    let layers: Vec<_> = args
        .enumerate()
        .map(|(index, blob)| {
            let target = target.join(index.to_string());
            std::thread::spawn(move || feed(&blob, target))
        })
        .collect();
    for (index, layer) in layers.into_iter().enumerate() {
        let applied = layer.join().expect("a layer's thread panicked");
        println!("{index} at {:.2} s: {applied:?}", start.elapsed().as_secs_f64());
    }
}
