//! caisson-runtime on the real kernel, as root, with busybox bundles.

mod attacks;
mod bundle;
mod lifecycle;
