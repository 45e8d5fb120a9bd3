//! The one shape in which a failed kernel step is told: from init to its creator, from the shim to the addon, to Node.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    Invalid,
    NotFound,
    Conflict,
    Unsupported,
    Corrupt,
    Cancelled,
    /// No such shim or process (any more).
    Gone,
    /// The container's program could not be executed.
    Exec,
    System,
}

/// `NativeFailure` of ts/engine/native/failure.ts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    pub kind: Kind,
    pub op: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<Box<Fix>>,
}

/// Of a fault that a user can mend.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fix {
    /// Stable name of the fault, `LOADER_MISSING`.
    pub code: String,
    /// How to mend it, in one sentence.
    pub hint: String,
}

pub type Result<T> = std::result::Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    pub fn new(kind: Kind, op: &str, message: impl Into<String>) -> Self {
        Self { kind, op: op.into(), path: None, errno: None, message: message.into(), fix: None }
    }

    /// Names the fault and says how it is mended.
    pub fn with_fix(self, code: &str, hint: impl Into<String>) -> Self {
        Self { fix: Some(Box::new(Fix { code: code.into(), hint: hint.into() })), ..self }
    }

    pub fn invalid(op: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, op, message)
    }

    /// `op path: the kernel's words`.
    pub fn io(op: &str, path: impl fmt::Display, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let path = path.to_string();
        let reason = reason(&error);
        let message = if path.is_empty() { format!("{op}: {reason}") } else { format!("{op} {path}: {reason}") };
        Self { path: Some(path), errno: error.raw_os_error(), ..Self::new(Kind::System, op, message) }
    }
}

/// The kernel's words without Rust's "(os error N)", as users of runc know them.
pub fn reason(error: &io::Error) -> String {
    // where musl has others, of which callers know nothing
    match error.raw_os_error() {
        Some(libc::EBUSY) => return "device or resource busy".into(),
        Some(libc::ELOOP) => return "too many levels of symbolic links".into(),
        Some(libc::EMFILE) => return "too many open files".into(),
        Some(libc::ENOMEM) => return "cannot allocate memory".into(),
        Some(libc::EOPNOTSUPP) => return "operation not supported".into(),
        _ => {}
    }
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}

/// Adds what was being done to a kernel error.
pub trait Context<T> {
    fn context(self, op: &str, path: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, op: &str, path: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::io(op, path, error))
    }
}
