//! Reading a container's log, running or not, and serving it to a client: the file is the queue, a reader is a file and an
//! offset, so that a slow one costs nothing and holds nobody up.
//!
//! ```text
//! path, path.1, path.2.gz, …     records of json-file or local, the higher the number the older
//! ```

mod files;
mod format;
mod forward;
mod record;
mod serve;
mod source;
#[cfg(test)]
mod written;

pub use serve::{Client, Stop, serve};
#[cfg(feature = "layer")]
pub(crate) use serve::{send, write_all};

use format::Format;
use serde::Deserialize;

/// `LogRequest` of ts/engine/native/containers.ts.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogRequest {
    pub driver: Format,
    pub path: String,
    pub stdout: bool,
    pub stderr: bool,
    pub timestamps: bool,
    pub details: bool,
    pub follow: bool,
    pub tail: Option<u64>,
    /// Nanoseconds since the epoch, as decimal strings: JavaScript's numbers do not hold them.
    pub since: Option<String>,
    pub until: Option<String>,
    pub raw: bool,
    /// All records as they are, for one who forwards them: `stdout` to `raw` mean nothing then.
    pub records: Option<Forwarded>,
}

/// How far a log has been forwarded.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Forwarded {
    /// A position, in hexadecimal digits; absent: nothing yet.
    pub behind: Option<String>,
}
