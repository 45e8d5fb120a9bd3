use serde::{Deserialize, Serialize};

pub type Result<T> = std::result::Result<T, Error>;

/// Why a container could not be built or a process not be started. Crosses from the child to its parent as JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Error {
    /// The request contradicts itself or the container's files; `pointer` is the JSON pointer into the spec.
    #[error("{pointer}: {message}")]
    Invalid { pointer: String, message: String },
    /// A request this host or this program cannot fulfil.
    #[error("{pointer}: {message}")]
    Unsupported { pointer: String, message: String },
    /// The program could not be executed.
    #[error("{0}")]
    Exec(StartError),
    /// A system call failed.
    #[error("{op}{}: {message} (errno {errno})", path_suffix(path))]
    System { op: String, path: String, errno: i32, message: String },
}

/// The program could not be executed. The texts are the ones that Docker's clients know from runc.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
#[serde(rename_all = "camelCase")]
pub struct StartError {
    /// 127: not found, 126: found but not executable, as a shell counts.
    pub exit_code: u8,
    pub errno: i32,
    pub message: String,
}

fn path_suffix(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" {path}") }
}

impl Error {
    pub fn system(op: &str, path: impl AsRef<std::path::Path>, cause: impl Into<std::io::Error>) -> Self {
        let cause = cause.into();
        let errno = cause.raw_os_error().unwrap_or(0);
        let message = match errno {
            0 => cause.to_string(),
            _ => rustix_message(errno),
        };
        Error::System { op: op.into(), path: path.as_ref().to_string_lossy().into_owned(), errno, message }
    }

    pub fn invalid(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Invalid { pointer: pointer.into(), message: message.into() }
    }

    pub fn unsupported(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Unsupported { pointer: pointer.into(), message: message.into() }
    }

    pub fn errno(&self) -> i32 {
        match self {
            Error::System { errno, .. } => *errno,
            Error::Exec(cause) => cause.errno,
            _ => 0,
        }
    }
}

/// The C library's text without Rust's "(os error N)".
fn rustix_message(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

/// Adds operation and path to a failed system call.
pub trait Context<T> {
    fn op(self, op: &str, path: impl AsRef<std::path::Path>) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Context<T> for std::result::Result<T, E> {
    fn op(self, op: &str, path: impl AsRef<std::path::Path>) -> Result<T> {
        self.map_err(|cause| Error::system(op, path, cause))
    }
}
