//! Attacks that other runtimes have fallen to, each with what must happen in place. The numbers are CVEs.

mod kernel;
mod paths;
mod procfs;
mod runtime;
