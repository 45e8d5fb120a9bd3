//! Layers of an image: from a blob to a directory, and what else is done to whole trees.
//!
//! *Apply*: the compressed bytes go through threads of their own, joined by bounded channels:
//!
//! ```text
//! Layer::write ─ input ─► receive (sha256, blob) ─► inflate (sha256 = diffID) ─► tar ─► extract ─► targetDir
//! ```
//!
//! *Pack* is the way back: a container's own layer as an archive, through the same threads into a layer of its own.
//!
//! *Recreate* is the way back of an applied layer: its directory and its recipe (`recipe`) give the archive to the byte.
//!
//! Every layer goes to a directory of its own, so all layers of an image can be applied at once. Whiteouts are written
//! in overlay's form: character device 0:0, and `trusted.overlay.opaque=y` on a directory.
//!
//! An archive is hostile until the opposite is shown. No path of it is ever handed to the kernel: names are opened one
//! component at a time below an fd, symlinks are resolved here and inside the root (`dirs`).

pub mod archive;
mod chunks;
mod compare;
mod compressor;
mod copy_up;
#[cfg(test)]
mod differential;
mod digest;
mod dirs;
mod error;
mod extract;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod hostile;
mod inflate;
mod input;
mod kept;
mod member;
mod pack;
mod pipeline;
mod recipe;
mod remove;
mod size;
mod spread;
mod tar;
#[cfg(test)]
mod testing;
mod view;
mod xattr;

pub use compare::first_difference;
pub use copy_up::{CopyUpOptions, copy_up, finish_copy_up};
pub use error::LayerError;
pub use kept::{Keep, KeptBlob};
pub use pack::{PackOptions, export, pack};
pub use pipeline::{AppliedLayer, Layer, LayerOptions};
pub use recipe::{RecreateOptions, archive_size, recreate, send_archive};
pub use remove::remove_tree;
pub use size::tree_size;
pub use spread::spread_trees;
