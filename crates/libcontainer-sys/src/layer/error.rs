//! What can go wrong with a layer, with step, path and errno.

use rustix::io::Errno;

use crate::failure::{Failure, Kind};

pub type Result<T> = std::result::Result<T, LayerError>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayerError {
    #[error("{op} '{path}': {errno}")]
    System { op: &'static str, path: String, errno: Errno },
    /// Bytes that are not what they should be: a wrong digest, a damaged stream, a hostile archive.
    #[error("{op} '{path}': {reason}")]
    Corrupt { op: &'static str, path: String, reason: String },
    #[error("{op} '{path}': {reason}")]
    Unsupported { op: &'static str, path: String, reason: String },
    #[error("{op} '{path}': {reason}")]
    Invalid { op: &'static str, path: String, reason: String },
    #[error("the work on '{path}' was cancelled")]
    Cancelled { path: String },
    /// A neighbouring stage of the pipeline ended early; that stage has the reason.
    #[error("a stage of the pipeline for '{path}' ended early")]
    Stopped { path: String },
}

/// Names come from archives in any encoding; messages show what of them is text.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

pub(super) fn system(op: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> LayerError {
    let path = shown(path);
    move |errno| LayerError::System { op, path, errno }
}

pub(super) fn corrupt(op: &'static str, path: &[u8], reason: impl Into<String>) -> LayerError {
    LayerError::Corrupt { op, path: shown(path), reason: reason.into() }
}

impl LayerError {
    pub fn op(&self) -> &'static str {
        match self {
            Self::System { op, .. }
            | Self::Corrupt { op, .. }
            | Self::Unsupported { op, .. }
            | Self::Invalid { op, .. } => op,
            Self::Cancelled { .. } | Self::Stopped { .. } => "apply",
        }
    }

    pub fn path(&self) -> &str {
        match self {
            Self::System { path, .. }
            | Self::Corrupt { path, .. }
            | Self::Unsupported { path, .. }
            | Self::Invalid { path, .. }
            | Self::Cancelled { path }
            | Self::Stopped { path } => path,
        }
    }

    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::System { errno, .. } => Some(errno.raw_os_error()),
            _ => None,
        }
    }
}

impl From<LayerError> for Failure {
    fn from(error: LayerError) -> Self {
        let kind = match &error {
            LayerError::System { op: "mkdir" | "create", errno: Errno::EXIST, .. } => Kind::Conflict,
            LayerError::System { op: "open", errno: Errno::NOENT, .. } => Kind::NotFound,
            LayerError::System { .. } | LayerError::Stopped { .. } => Kind::System,
            LayerError::Corrupt { .. } => Kind::Corrupt,
            LayerError::Unsupported { .. } => Kind::Unsupported,
            LayerError::Invalid { .. } => Kind::Invalid,
            LayerError::Cancelled { .. } => Kind::Cancelled,
        };
        Self { path: Some(error.path().into()), errno: error.errno(), ..Self::new(kind, error.op(), error.to_string()) }
    }
}
